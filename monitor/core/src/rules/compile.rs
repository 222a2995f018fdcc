//! From rules as written to rules in force: every value checked, every pattern compiled, all faults collected.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::error::{Fault, RuleError};
use super::judge::{Clause, Scope, Test, User};
use super::pattern::{Pattern, PatternKey, Set};
use super::place::never_by_name;
use super::spec::{At, MatchSpec, RuleSpec};
use super::template::{KNOWN, Template};
use super::{MOST_PATTERNS, MOST_RULES, Mode, Rule, Rules, Unit, WorkerKind};
use crate::prelude::*;

/// The part of a rule that a key stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Match,
    Parent,
    Idle,
}

impl Part {
    fn key(self, name: &str) -> String {
        match self {
            Self::Match => format!("match.{name}"),
            Self::Parent => format!("match.parent.{name}"),
            Self::Idle => format!("idle.{name}"),
        }
    }

    fn scope(self) -> Scope {
        match self {
            Self::Match | Self::Idle => Scope::Own,
            Self::Parent => Scope::Parent,
        }
    }
}

impl Rules {
    /// Compiles all rules, in the order in which they are to be tried. `mode` is what is set for all: observe holds back
    /// every rule; enforce is for those that say nothing themselves.
    ///
    /// # Errors
    /// Everything that is wrong with any of them; then none is in force.
    pub fn compile(specs: &[RuleSpec], mode: Option<Mode>) -> Result<Self, Vec<RuleError>> {
        let mut compiler = Compiler::default();
        if let Some(beyond) = specs.get(MOST_RULES) {
            compiler.at(beyond, beyond.line, "rule", Fault::TooManyRules(specs.len()));
            return Err(compiler.errors);
        }
        let mut rules: Vec<Rule> = specs.iter().filter_map(|spec| compiler.rule(spec, mode)).collect();
        // Stable: the order of the files stays.
        rules.sort_by_key(|rule| !rule.protect);
        let mut sets: [Set; PatternKey::ALL.len()] = Default::default();
        for (key, patterns) in PatternKey::ALL.into_iter().zip(core::mem::take(&mut compiler.patterns)) {
            match Set::new(patterns) {
                Ok(set) => sets[key as usize] = set,
                Err(fault) => {
                    if let Some(last) = specs.last() {
                        compiler.at(last, last.line, &Part::Match.key(key.as_str()), fault);
                    }
                }
            }
        }
        let needs_memory = rules.iter().any(|rule| {
            let mut clauses = rule.clauses.iter().chain(&rule.idle);
            clauses.any(|clause| matches!(clause.test, Test::Memory(_)))
        });
        if compiler.errors.is_empty() {
            return Ok(Self { rules, sets, needs_memory, written: (specs.to_vec(), mode) });
        }
        Err(compiler.errors)
    }
}

#[derive(Default)]
struct Compiler {
    patterns: [Vec<Pattern>; PatternKey::ALL.len()],
    /// Where each name was seen first.
    names: BTreeMap<String, (Arc<str>, u32)>,
    errors: Vec<RuleError>,
}

/// What the patterns of a rule capture: whether all the patterns of its key do.
type Captures = BTreeMap<String, bool>;

impl Compiler {
    fn at(&mut self, spec: &RuleSpec, line: u32, key: &str, fault: Fault) {
        self.errors.push(RuleError { file: Arc::clone(&spec.file), line, key: key.to_owned(), fault });
    }

    fn rule(&mut self, spec: &RuleSpec, mode: Option<Mode>) -> Option<Rule> {
        let before = self.errors.len();
        let name = self.name(spec);
        let protect = spec.protect.as_ref().is_some_and(|protect| protect.value);
        self.exclusive(spec, protect);
        let mut captures = Captures::new();
        let mut clauses = self.clauses(spec, &spec.matches, Part::Match, protect, &mut captures);
        clauses.extend(self.clauses(spec, &spec.parent, Part::Parent, protect, &mut captures));
        let idle = self.clauses(spec, &spec.idle, Part::Idle, false, &mut Captures::new());
        let owner = self.template(spec, spec.owner.as_ref(), "owner", &captures);
        let worker_name = self.template(spec, spec.worker_name.as_ref(), "worker_name", &captures);
        let own = spec.mode.as_ref().map(|mode| mode.value);
        let mode = match mode {
            Some(Mode::Observe) => Mode::Observe,
            Some(Mode::Enforce) => own.unwrap_or(Mode::Enforce),
            None => own.unwrap_or(Mode::Observe),
        };
        let value = |given: &Option<At<bool>>| given.as_ref().is_some_and(|given| given.value);
        (self.errors.len() == before).then(|| Rule {
            name: name.into(),
            file: Arc::clone(&spec.file),
            line: spec.line,
            protect,
            mode,
            unit: spec.unit.as_ref().map_or(Unit::Tree, |unit| unit.value),
            kind: spec.kind.as_ref().map_or(WorkerKind::Task, |kind| kind.value),
            retriable: value(&spec.retriable),
            priority: spec.priority.as_ref().map_or(0, |priority| priority.value),
            memory: spec.memory.as_ref().map(|memory| memory.value),
            owner,
            worker_name,
            clauses,
            idle,
        })
    }

    fn name(&mut self, spec: &RuleSpec) -> String {
        let Some(At { line, value: name }) = &spec.name else {
            self.at(spec, spec.line, "name", Fault::NoName);
            return String::new();
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            self.at(spec, *line, "name", Fault::BadName(name.chars().take(80).collect()));
        } else if let Some((file, first)) = self.names.get(name) {
            let fault = Fault::Duplicate { name: name.clone(), file: Arc::clone(file), line: *first };
            self.at(spec, *line, "name", fault);
        } else {
            self.names.insert(name.clone(), (Arc::clone(&spec.file), spec.line));
        }
        name.clone()
    }

    /// Keys that have no meaning beside others.
    fn exclusive(&mut self, spec: &RuleSpec, protect: bool) {
        let unit = spec.unit.as_ref().filter(|unit| unit.value == Unit::Cgroup).map(|unit| unit.line);
        if protect {
            let keys = [
                ("mode", spec.mode.as_ref().map(|given| given.line)),
                ("unit", spec.unit.as_ref().map(|given| given.line)),
                ("kind", spec.kind.as_ref().map(|given| given.line)),
                ("retriable", spec.retriable.as_ref().map(|given| given.line)),
                ("owner", spec.owner.as_ref().map(|given| given.line)),
                ("worker_name", spec.worker_name.as_ref().map(|given| given.line)),
                ("priority", spec.priority.as_ref().map(|given| given.line)),
                ("memory", spec.memory.as_ref().map(|given| given.line)),
                ("idle", spec.idle.keys().map(|(_, line)| line).next()),
            ];
            for (key, line) in keys {
                if let Some(line) = line {
                    self.at(spec, line, key, Fault::Exclusive { with: "protect = true" });
                }
            }
        } else if let Some(line) = unit {
            match &spec.matches.patterns[PatternKey::Cgroup as usize] {
                Some(patterns) => self.never_units(spec, patterns),
                None => self.at(spec, line, "unit", Fault::UnitWithoutCgroup),
            }
            if let Some((_, line)) = spec.idle.keys().next() {
                self.at(spec, line, "idle", Fault::Exclusive { with: "unit = \"cgroup\"" });
            }
        }
        if spec.matches.is_empty() && spec.parent.is_empty() {
            self.at(spec, spec.line, "match", Fault::NoMatch);
        }
    }

    /// Patterns of cgroups that are never killed whole.
    fn never_units(&mut self, spec: &RuleSpec, patterns: &At<Vec<String>>) {
        for pattern in &patterns.value {
            if let Some(why) = never_by_name(pattern.as_bytes()) {
                let fault = Fault::NeverAUnit { pattern: pattern.clone(), why };
                self.at(spec, patterns.line, "match.cgroup", fault);
            }
        }
    }

    /// The keys of one part of a rule, the cheapest test first.
    fn clauses(
        &mut self,
        spec: &RuleSpec,
        given: &MatchSpec,
        part: Part,
        protect: bool,
        captures: &mut Captures,
    ) -> Vec<Clause> {
        if protect {
            self.forgeable(spec, given, part);
        }
        let mut clauses = Vec::new();
        let scope = part.scope();
        if let Some(least) = &given.min_memory {
            clauses.push(Clause { scope, test: Test::Memory(least.value) });
        }
        if let Some(users) = &given.user {
            let key = part.key("user");
            self.bounded(spec, users, &key);
            let users = users.value.iter().filter_map(|user| match read_user(user) {
                Ok(user) => Some(user),
                Err(fault) => {
                    self.at(spec, users.line, &key, fault);
                    None
                }
            });
            let users = users.collect();
            clauses.push(Clause { scope, test: Test::User(users) });
        }
        for key in [PatternKey::Cgroup, PatternKey::Comm, PatternKey::Exe, PatternKey::Title] {
            if let Some(texts) = &given.patterns[key as usize] {
                let patterns = self.patterns(spec, texts, part, key, captures);
                clauses.push(Clause { scope, test: Test::Pattern { key, patterns } });
            }
        }
        clauses
    }

    /// A rule that protects may not go by what a process can forge.
    fn forgeable(&mut self, spec: &RuleSpec, given: &MatchSpec, part: Part) {
        for (key, line) in given.keys() {
            match (part, key) {
                (Part::Match, "cgroup" | "exe" | "user") => {}
                (Part::Match, "comm") => {
                    self.at(spec, line, "match.comm", Fault::ForgeableProtection("name"))
                }
                (Part::Match, "title") => {
                    self.at(spec, line, "match.title", Fault::ForgeableProtection("title"));
                }
                (Part::Parent, _) => {
                    self.at(spec, line, &part.key(key), Fault::ForgeableProtection("parent"))
                }
                (Part::Match | Part::Idle, _) => {
                    self.at(spec, line, &part.key(key), Fault::ForgeableProtection("size"));
                }
            }
        }
    }

    fn bounded(&mut self, spec: &RuleSpec, given: &At<Vec<String>>, key: &str) {
        if given.value.is_empty() {
            self.at(spec, given.line, key, Fault::Empty);
        } else if given.value.len() > MOST_PATTERNS {
            self.at(spec, given.line, key, Fault::TooManyPatterns(given.value.len()));
        }
    }

    /// Adds the patterns of one key to its set, and says where they are in it.
    fn patterns(
        &mut self,
        spec: &RuleSpec,
        given: &At<Vec<String>>,
        part: Part,
        key: PatternKey,
        captures: &mut Captures,
    ) -> core::ops::Range<usize> {
        let name = part.key(key.as_str());
        self.bounded(spec, given, &name);
        let first = self.patterns[key as usize].len();
        let mut found = BTreeMap::<String, usize>::new();
        for text in given.value.iter().take(MOST_PATTERNS) {
            let pattern = if text.is_empty() { Err(Fault::Empty) } else { Pattern::new(key, text) };
            match pattern {
                Ok(pattern) => {
                    for captured in pattern.names() {
                        *found.entry(captured.to_owned()).or_default() += 1;
                    }
                    self.patterns[key as usize].push(pattern);
                }
                Err(fault) => self.at(spec, given.line, &name, fault),
            }
        }
        for (captured, times) in found {
            let fault = if part == Part::Idle {
                Some(Fault::CaptureUseless(captured.clone()))
            } else if KNOWN.contains(&captured.as_str()) {
                Some(Fault::CaptureReserved(captured.clone()))
            } else {
                let twice = captures.insert(captured.clone(), times == given.value.len()).is_some();
                twice.then_some(Fault::CapturedTwice(captured))
            };
            if let Some(fault) = fault {
                self.at(spec, given.line, &name, fault);
            }
        }
        first..self.patterns[key as usize].len()
    }

    fn template(
        &mut self,
        spec: &RuleSpec,
        given: Option<&At<String>>,
        key: &str,
        captures: &Captures,
    ) -> Option<Template> {
        let At { line, value } = given?;
        let template = match Template::new(value) {
            Ok(template) => template,
            Err(fault) => {
                self.at(spec, *line, key, fault);
                return None;
            }
        };
        for name in template.captures() {
            let fault = match captures.get(name) {
                Some(true) => continue,
                Some(false) => Fault::PartialCapture(name.to_owned()),
                None => {
                    let known = KNOWN.into_iter().chain(captures.keys().map(String::as_str));
                    let allowed: Vec<String> = known.map(|name| format!("{{{name}}}")).collect();
                    Fault::NoCapture { name: name.chars().take(40).collect(), allowed: allowed.join(", ") }
                }
            };
            self.at(spec, *line, key, fault);
        }
        Some(template)
    }
}

/// A name, or a number.
fn read_user(text: &str) -> Result<User, Fault> {
    let bad = || Fault::BadUser(text.chars().take(40).collect());
    if text == "@system" {
        return Ok(User::System);
    }
    if text.is_empty() || text.starts_with(['-', '@']) {
        return Err(bad());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The last number stands for "no user" in the kernel.
        let uid = text.parse().ok().filter(|uid| *uid != u32::MAX);
        return uid.map(User::Uid).ok_or_else(bad);
    }
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != ':' && c != '/';
    if text.len() <= 256 && text.chars().all(plain) { Ok(User::Name(text.to_owned())) } else { Err(bad()) }
}
