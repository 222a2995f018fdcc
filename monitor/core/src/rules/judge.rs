//! Which rule has a process, and why. What can never be a worker comes first, then rules that protect, then the others in
//! their order; the first that matches wins.

use alloc::sync::Arc;
use core::cmp::Ordering;
use core::ops::Range;

use super::facts::{Never, Profile, Whose};
use super::pattern::PatternKey;
use super::place::Refusal;
use super::template::{Piece, Template};
use super::{MOST_NAME, Rule, Rules, Unit};
use crate::prelude::*;
use crate::units::Bytes;

/// Of which process a clause speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Own,
    Parent,
}

/// One key of a rule.
#[derive(Debug)]
pub(super) struct Clause {
    pub(super) scope: Scope,
    pub(super) test: Test,
}

#[derive(Debug)]
pub(super) enum Test {
    /// One of these patterns of the key's set.
    Pattern { key: PatternKey, patterns: Range<usize> },
    /// One of these users, by name or number.
    User(Vec<User>),
    /// At least so much memory.
    Memory(Bytes),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum User {
    Name(String),
    Uid(u32),
    /// Root, services, and what they forked (`@system`).
    System,
}

/// What the rules say of a process.
#[derive(Debug)]
pub enum Judgement<'r> {
    /// Never a worker.
    Never(Never),
    /// Never a worker, because of a rule.
    Protected {
        /// The rule.
        rule: &'r Rule,
        /// Neither is a cgroup that holds it.
        spares: bool,
    },
    /// A worker, or part of one.
    Worker(Matched<'r>),
    /// A rule has it, and its cgroup cannot be a worker.
    Refused(&'r Rule, Refusal, usize),
    /// No rule has it.
    Unmatched,
}

impl Judgement<'_> {
    /// Whether no cgroup that holds the process is a worker.
    #[must_use]
    pub fn spares_its_cgroup(&self) -> bool {
        match self {
            Self::Never(never) => never.spares_its_cgroup(),
            Self::Protected { spares, .. } => *spares,
            Self::Worker(_) | Self::Refused(..) | Self::Unmatched => false,
        }
    }
}

/// A process that a rule makes a worker.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// Whether it waits for work.
    pub idle: bool,
    /// With unit `cgroup`: the length of the path of the cgroup that is the worker.
    pub cgroup: Option<usize>,
    /// It would be protected if it did not run for an ordinary user: a user's service manager, or message bus. What it
    /// started is no part of its worker if the rule has that too.
    pub manager: bool,
}

impl Rules {
    /// Which rule has this process. `parent` is its parent, if that could be looked at.
    #[must_use]
    pub fn judge(&self, process: &Profile<'_>, parent: Option<&Profile<'_>>) -> Judgement<'_> {
        self.judge_from(0, process, parent)
    }

    /// The same of the rules that follow this one, which has the process in a cgroup that cannot be a worker.
    pub(super) fn judge_after(
        &self,
        rule: &Rule,
        process: &Profile<'_>,
        parent: Option<&Profile<'_>>,
    ) -> Judgement<'_> {
        let from =
            self.rules.iter().position(|one| same(one, rule)).map_or(self.rules.len(), |index| index + 1);
        self.judge_from(from, process, parent)
    }

    fn judge_from(
        &self,
        mut from: usize,
        process: &Profile<'_>,
        parent: Option<&Profile<'_>>,
    ) -> Judgement<'_> {
        let all = |clauses: &[Clause], protect| {
            clauses.iter().all(|clause| self.holds(clause, process, parent, protect))
        };
        if let Some(never) = process.facts.never {
            // A protected service may act for another user for a moment: then it is what it was.
            let mut rules = self.rules.iter().take_while(|rule| rule.protect);
            let service = rules.find(|rule| never == Never::SetUserId && all(&rule.clauses, true));
            return service.map_or(Judgement::Never(never), |rule| protected(rule, process));
        }
        let mut refused = None;
        loop {
            let mut rest = self.rules.iter().enumerate().skip(from);
            let found = rest.find(|(_, rule)| all(&rule.clauses, rule.protect)).map(|(index, _)| index);
            let Some((index, rule)) = self.or_kept(found, process.facts.kept) else {
                return refused.unwrap_or(Judgement::Unmatched);
            };
            if rule.protect {
                return protected(rule, process);
            }
            let cgroup = match rule.unit {
                Unit::Tree => None,
                Unit::Cgroup => self.unit(rule, process),
            };
            let no_unit = cgroup.and_then(|length| process.place.no_unit(length).map(|why| (length, why)));
            let Some((length, why)) = no_unit else {
                let idle = !rule.idle.is_empty() && all(&rule.idle, false);
                let manager = process.facts.whose == Whose::User && self.would_protect(process);
                return Judgement::Worker(Matched { rule, idle, cgroup, manager });
            };
            // Anybody can give a cgroup of theirs any name: that must not keep it from the rules that follow.
            refused.get_or_insert(Judgement::Refused(rule, why, length));
            from = index + 1;
        }
    }

    /// Whether a rule that protects programs of the system would have it, if the system ran it.
    fn would_protect(&self, process: &Profile<'_>) -> bool {
        let systems =
            |clause: &Clause| matches!(&clause.test, Test::User(users) if users.contains(&User::System));
        let exe = |clause: &Clause| matches!(clause.test, Test::Pattern { key: PatternKey::Exe, .. });
        let mut rules = self.rules.iter().take_while(|rule| rule.protect);
        rules.any(|rule| {
            let clauses = &rule.clauses;
            let others = |clause: &Clause| systems(clause) || self.holds(clause, process, None, true);
            clauses.iter().any(systems) && clauses.iter().any(exe) && clauses.iter().all(others)
        })
    }

    /// Whether it is certain which rule has a process of which neither title nor parent is known: no rule that stands before
    /// could have it by these.
    #[must_use]
    pub fn is_settled(&self, process: &Profile<'_>) -> bool {
        let found = match self.judge(process, None) {
            Judgement::Never(_) | Judgement::Protected { .. } => return true,
            Judgement::Worker(matched) => Some(matched.rule),
            Judgement::Refused(..) | Judgement::Unmatched => None,
        };
        let unknown = |clause: &Clause| {
            let titled = matches!(clause.test, Test::Pattern { key: PatternKey::Title, .. });
            titled || clause.scope == Scope::Parent
        };
        let open = |clause: &Clause| unknown(clause) || self.holds(clause, process, None, false);
        let mut before = self.rules.iter().take_while(|rule| found.is_none_or(|found| !same(rule, found)));
        !before.any(|rule| !rule.protect && rule.clauses.iter().any(unknown) && rule.clauses.iter().all(open))
    }

    /// The rule that has a process which one had before. A process can give itself any name: it goes to a rule that stands
    /// earlier, as one does that begins its work, but neither to a later one nor from one that enforces to one that
    /// observes, and not to none. From one that only observes it goes to any that enforces: else a process would be safe for
    /// having executed another program before. A cgroup it leaves for good.
    fn or_kept(&self, found: Option<usize>, kept: Option<&str>) -> Option<(usize, &Rule)> {
        let kept = kept.and_then(|name| self.rules.iter().position(|rule| &*rule.name == name));
        let kept = kept.and_then(|index| Some((index, self.rules.get(index)?)));
        let kept = kept.filter(|(_, rule)| !rule.protect && rule.unit == Unit::Tree);
        let found = found.and_then(|index| Some((index, self.rules.get(index)?)));
        match (found, kept) {
            (Some(found), _) if found.1.protect => Some(found),
            (Some(found), Some(kept)) => {
                let keeps = match found.1.mode.cmp(&kept.1.mode) {
                    Ordering::Less => true,
                    Ordering::Equal => found.0 > kept.0,
                    Ordering::Greater => false,
                };
                Some(if keeps { kept } else { found })
            }
            (one, other) => one.or(other),
        }
    }

    /// The length of the path of the innermost cgroup that the rule's pattern matches: of those that are root's, if there are
    /// any. In a cgroup of theirs, others can make one with a name that matches too.
    fn unit(&self, rule: &Rule, process: &Profile<'_>) -> Option<usize> {
        rule.clauses.iter().find_map(|clause| match (&clause.test, clause.scope) {
            (Test::Pattern { key: PatternKey::Cgroup, patterns }, Scope::Own) => {
                let roots = process.place.innermost_trusted(patterns);
                roots.or_else(|| process.place.innermost(patterns)).map(|(length, _)| length)
            }
            _ => None,
        })
    }

    fn holds(
        &self,
        clause: &Clause,
        process: &Profile<'_>,
        parent: Option<&Profile<'_>>,
        protect: bool,
    ) -> bool {
        let Some(subject) = subject(clause, process, parent) else { return false };
        match &clause.test {
            Test::Pattern { key: PatternKey::Cgroup, patterns } if protect => {
                subject.place.innermost_trusted(patterns).is_some()
            }
            Test::Pattern { key: PatternKey::Cgroup, patterns } => {
                subject.place.innermost(patterns).is_some()
            }
            Test::Pattern { key: PatternKey::Exe, .. } if protect && !subject.facts.exe_trusted => false,
            Test::Pattern { key, patterns } => subject.hit(self, *key, patterns).is_some(),
            Test::User(users) => users.iter().any(|user| match user {
                User::Uid(uid) => subject.facts.uid == Some(*uid),
                User::Name(name) => subject.facts.user == Some(name.as_str()),
                User::System => subject.facts.whose != Whose::User,
            }),
            Test::Memory(least) => subject.facts.memory.is_some_and(|held| held >= *least),
        }
    }

    /// The owner of the worker that this rule makes of this process.
    #[must_use]
    pub fn owner(&self, rule: &Rule, process: &Profile<'_>, parent: Option<&Profile<'_>>) -> Option<String> {
        rule.owner.as_ref().map(|template| self.fill(template, rule, process, parent))
    }

    /// The name of the worker. Without a template: the cgroup's last component, or the kernel's name of the process.
    #[must_use]
    pub fn worker_name(&self, rule: &Rule, process: &Profile<'_>, parent: Option<&Profile<'_>>) -> String {
        if let Some(template) = &rule.worker_name {
            return self.fill(template, rule, process, parent);
        }
        let unit = (rule.unit == Unit::Cgroup).then(|| self.unit(rule, process)).flatten();
        let name = match unit {
            Some(length) => {
                process.place.path()[..length].rsplit(|byte| *byte == b'/').next().unwrap_or_default()
            }
            None => process.facts.comm,
        };
        cut(String::from_utf8_lossy(name).into_owned())
    }

    fn fill(
        &self,
        template: &Template,
        rule: &Rule,
        process: &Profile<'_>,
        parent: Option<&Profile<'_>>,
    ) -> String {
        let facts = &process.facts;
        let uid = || facts.uid.map_or_else(|| "?".to_owned(), |uid| uid.to_string());
        let mut text = String::new();
        for piece in &template.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Uid => text.push_str(&uid()),
                Piece::User => text.push_str(&facts.user.map_or_else(uid, str::to_owned)),
                Piece::Comm => text.push_str(&String::from_utf8_lossy(facts.comm)),
                Piece::Pid => text.push_str(&facts.pid.to_string()),
                Piece::ParentPid => {
                    text.push_str(&facts.parent.map_or_else(|| "?".to_owned(), |pid| pid.to_string()));
                }
                Piece::PodName => text.push_str(facts.pod.unwrap_or("?")),
                Piece::Capture(name) => {
                    text.push_str(&self.captured(name, rule, process, parent).unwrap_or_default());
                }
            }
        }
        cut(text)
    }

    /// What a pattern of the rule captured by this name.
    fn captured(
        &self,
        name: &str,
        rule: &Rule,
        process: &Profile<'_>,
        parent: Option<&Profile<'_>>,
    ) -> Option<String> {
        rule.clauses.iter().find_map(|clause| {
            let Test::Pattern { key, patterns } = &clause.test else { return None };
            let subject = subject(clause, process, parent)?;
            let (text, number) = match key {
                PatternKey::Cgroup => {
                    let (length, number) = subject.place.innermost(patterns)?;
                    (&subject.place.path()[..length], number)
                }
                PatternKey::Comm | PatternKey::Title | PatternKey::Exe => {
                    (subject.text(*key)?, subject.hit(self, *key, patterns)?)
                }
            };
            let regex = self.set(*key).pattern(number)?.capturing.as_ref()?;
            let found = regex.captures(text)?.name(name)?;
            Some(String::from_utf8_lossy(found.as_bytes()).into_owned())
        })
    }

    /// Why the rule has the process: each key with the pattern that matched.
    #[must_use]
    pub fn why(&self, rule: &Rule, process: &Profile<'_>, parent: Option<&Profile<'_>>) -> String {
        let mut reasons = Vec::new();
        for clause in &rule.clauses {
            let Some(subject) = subject(clause, process, parent) else { continue };
            let of = if clause.scope == Scope::Parent { "parent." } else { "" };
            reasons.push(match &clause.test {
                Test::Pattern { key, patterns } => {
                    let number = match key {
                        PatternKey::Cgroup => subject.place.innermost(patterns).map(|(_, number)| number),
                        PatternKey::Comm | PatternKey::Title | PatternKey::Exe => {
                            subject.hit(self, *key, patterns)
                        }
                    };
                    let pattern = number.and_then(|number| self.set(*key).pattern(number));
                    let pattern = pattern.map_or("?", |pattern| pattern.text.as_str());
                    format!("{of}{} matches {pattern}", key.as_str())
                }
                Test::User(_) => match (subject.facts.user, subject.facts.uid) {
                    (Some(user), _) => format!("{of}user is {user}"),
                    (None, uid) => format!("{of}user is {}", uid.unwrap_or_default()),
                },
                Test::Memory(least) => format!("{of}memory is at least {least}"),
            });
        }
        reasons.join(", ")
    }
}

/// An ordinary user can start any program. So where only the executable says that theirs is protected, that holds for the
/// process itself, and spares nothing around it.
fn protected<'r>(rule: &'r Rule, process: &Profile<'_>) -> Judgement<'r> {
    let names = |clause: &Clause| match &clause.test {
        Test::User(users) => users.iter().any(|user| *user != User::System),
        Test::Pattern { key, .. } => *key == PatternKey::Cgroup,
        Test::Memory(_) => false,
    };
    let spares = process.facts.whose == Whose::System || rule.clauses.iter().any(names);
    Judgement::Protected { rule, spares }
}

fn subject<'p, 'f>(
    clause: &Clause,
    process: &'p Profile<'f>,
    parent: Option<&'p Profile<'f>>,
) -> Option<&'p Profile<'f>> {
    match clause.scope {
        Scope::Own => Some(process),
        Scope::Parent => parent,
    }
}

/// Cuts a name to what tables and protocols bear.
fn cut(mut name: String) -> String {
    if name.len() > MOST_NAME {
        let end = (0..=MOST_NAME).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

/// What two rules are the same by.
pub(super) fn same(one: &Rule, other: &Rule) -> bool {
    Arc::ptr_eq(&one.name, &other.name)
}
