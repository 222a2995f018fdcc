//! From TOML to rules as written, each value with the line of its key. What the values mean is not known here.

use std::ops::Range;
use std::sync::Arc;

use bytesize::ByteSize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{At, MatchSpec, Mode, PatternKey, RuleSpec, Unit, WorkerKind};
use crate::units::Bytes;

/// What is wrong with a file as it is written: `FILE:LINE: KEY: what, and what is allowed`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {}{what}", prefix(key))]
pub struct ParseError {
    /// The file.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// The key; empty if it is none in particular.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub what: String,
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// The keys of a rule, for messages.
const RULE_KEYS: &str =
    "name, match, idle, protect, mode, unit, kind, retriable, owner, worker_name, priority, memory";

/// The keys of `match` and `idle`.
const MATCH_KEYS: &str = "cgroup, comm, title, exe, user, min_memory";

/// The rules of a file that has nothing but `[[rule]]` tables.
///
/// # Errors
/// Everything that is wrong with it as TOML, and every key and type that no rule has.
pub fn rules(file: &Arc<str>, text: &str) -> Result<Vec<RuleSpec>, Vec<ParseError>> {
    let (specs, errors) = rules_and_faults(file, text);
    if errors.is_empty() { Ok(specs) } else { Err(errors) }
}

/// The same with what could be read beside the faults, so that the rest can be checked too.
#[must_use]
pub fn rules_and_faults(file: &Arc<str>, text: &str) -> (Vec<RuleSpec>, Vec<ParseError>) {
    let mut reader = Reader::new(file, text);
    let mut specs = Vec::new();
    let (table, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        let line = fault.span().map_or(1, |span| reader.line(&span));
        reader.wrong(line, "", fault.message().trim().replace('\n', "; "));
    }
    // What the parser makes of the rest of a torn file is not what was meant.
    if faults.is_empty() {
        for (key, value) in table.get_ref() {
            if key.get_ref() == "rule" {
                specs = reader.list(key, value);
            } else {
                reader.unknown("", key, "[[rule]] tables");
            }
        }
    }
    (specs, reader.end())
}

/// The rules in a configuration file: its `[[rule]]` tables. What else is in it is not looked at, and neither are faults
/// of its syntax, which reading the settings has told.
///
/// # Errors
/// Every key and type that no rule has.
pub fn rules_in_configuration(file: &Arc<str>, text: &str) -> Result<Vec<RuleSpec>, Vec<ParseError>> {
    let mut reader = Reader::new(file, text);
    let (table, _) = DeTable::parse_recoverable(text);
    let rules = table.get_ref().iter().find(|(key, _)| key.get_ref() == "rule");
    let specs = rules.map(|(key, value)| reader.list(key, value)).unwrap_or_default();
    let errors = reader.end();
    if errors.is_empty() { Ok(specs) } else { Err(errors) }
}

struct Reader<'t> {
    file: &'t Arc<str>,
    /// Where the lines of the text end.
    ends: Vec<usize>,
    errors: Vec<ParseError>,
}

type Key<'t> = Spanned<DeString<'t>>;
type Value<'t> = Spanned<DeValue<'t>>;

impl<'t> Reader<'t> {
    fn new(file: &'t Arc<str>, text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { file, ends, errors: Vec::new() }
    }

    /// The line in which a span begins.
    fn line(&self, span: &Range<usize>) -> u32 {
        let before = self.ends.partition_point(|end| *end < span.start);
        u32::try_from(1 + before).unwrap_or(u32::MAX)
    }

    /// All faults in the order of the file.
    fn end(mut self) -> Vec<ParseError> {
        self.errors.sort_by_key(|error| error.line);
        self.errors
    }

    fn wrong(&mut self, line: u32, key: &str, what: impl Into<String>) {
        let key = key.escape_debug().to_string();
        self.errors.push(ParseError { file: Arc::clone(self.file), line, key, what: what.into() });
    }

    fn unknown(&mut self, before: &str, key: &Key<'_>, allowed: &str) {
        let line = self.line(&key.span());
        let name = key.get_ref().to_string();
        let near =
            allowed.split(", ").max_by(|a, b| strsim::jaro(&name, a).total_cmp(&strsim::jaro(&name, b)));
        // As for settings: nearer than this is a slip of the finger.
        let near = near.filter(|near| strsim::jaro(&name, near) > 0.8);
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        self.wrong(
            line,
            &format!("{before}{name}"),
            format!("unknown key{hint} allowed: {allowed}").replace("key allowed", "key; allowed"),
        );
    }

    fn list(&mut self, key: &Key<'_>, value: &Value<'_>) -> Vec<RuleSpec> {
        let line = self.line(&key.span());
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(line, "rule", "allowed: [[rule]] tables");
            return Vec::new();
        };
        let mut specs = Vec::new();
        for item in items.iter() {
            let line = self.line(&item.span());
            match item.get_ref() {
                DeValue::Table(table) => specs.push(self.rule(line, table)),
                _ => self.wrong(line, "rule", "allowed: [[rule]] tables"),
            }
        }
        specs
    }

    fn rule(&mut self, line: u32, table: &DeTable<'_>) -> RuleSpec {
        let mut spec = RuleSpec { file: Arc::clone(self.file), line, ..RuleSpec::default() };
        for (key, value) in table {
            let line = self.line(&key.span());
            match &**key.get_ref() {
                "name" => spec.name = self.string(line, "name", value),
                "owner" => spec.owner = self.string(line, "owner", value),
                "worker_name" => spec.worker_name = self.string(line, "worker_name", value),
                "protect" => spec.protect = self.boolean(line, "protect", value),
                "retriable" => spec.retriable = self.boolean(line, "retriable", value),
                "mode" => spec.mode = self.word(line, "mode", Mode::ALLOWED, value),
                "unit" => spec.unit = self.word(line, "unit", Unit::ALLOWED, value),
                "kind" => spec.kind = self.word(line, "kind", WorkerKind::ALLOWED, value),
                "priority" => spec.priority = self.priority(line, value),
                "memory" => spec.memory = self.size(line, "memory", value),
                "match" => self.conditions(line, "match.", value, &mut spec.matches, Some(&mut spec.parent)),
                "idle" => self.conditions(line, "idle.", value, &mut spec.idle, None),
                _ => self.unknown("", key, RULE_KEYS),
            }
        }
        spec
    }

    fn conditions(
        &mut self,
        line: u32,
        part: &str,
        value: &Value<'_>,
        into: &mut MatchSpec,
        mut parent: Option<&mut MatchSpec>,
    ) {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(line, part.trim_end_matches('.'), format!("allowed: a table with {MATCH_KEYS}"));
            return;
        };
        for (key, value) in table {
            let line = self.line(&key.span());
            let name: &str = key.get_ref();
            let full = format!("{part}{name}");
            if let Some(key) = PatternKey::ALL.into_iter().find(|key| key.as_str() == name) {
                into.patterns[key as usize] = self.strings(line, &full, value, false);
            } else if name == "user" {
                into.user = self.strings(line, &full, value, true);
            } else if name == "min_memory" {
                into.min_memory = self.size(line, &full, value);
            } else if let ("parent", Some(parent)) = (name, parent.as_deref_mut()) {
                self.conditions(line, "match.parent.", value, parent, None);
            } else {
                let parent = if parent.is_some() { ", parent" } else { "" };
                self.unknown(part, key, &format!("{MATCH_KEYS}{parent}"));
            }
        }
    }

    fn string(&mut self, line: u32, key: &str, value: &Value<'_>) -> Option<At<String>> {
        let text = value.get_ref().as_str().map(|text| At::new(line, text.to_owned()));
        if text.is_none() {
            self.wrong(line, key, format!("found {}; allowed: a string", kind(value)));
        }
        text
    }

    /// A string or a list of strings; with `numbers`, whole numbers too.
    fn strings(&mut self, line: u32, key: &str, value: &Value<'_>, numbers: bool) -> Option<At<Vec<String>>> {
        let text = |value: &Value<'_>| match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) if numbers => {
                i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
            }
            _ => None,
        };
        let all = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(text).collect::<Option<Vec<_>>>(),
            _ => text(value).map(|text| vec![text]),
        };
        if all.is_none() {
            let number = if numbers { " or numbers" } else { "" };
            let what = format!("found {}; allowed: a string or a list of strings{number}", kind(value));
            self.wrong(line, key, what);
        }
        all.map(|all| At::new(line, all))
    }

    fn boolean(&mut self, line: u32, key: &str, value: &Value<'_>) -> Option<At<bool>> {
        if let DeValue::Boolean(value) = value.get_ref() {
            return Some(At::new(line, *value));
        }
        self.wrong(line, key, format!("found {}; allowed: true or false", kind(value)));
        None
    }

    fn word<T: std::str::FromStr>(
        &mut self,
        line: u32,
        key: &str,
        allowed: &str,
        value: &Value<'_>,
    ) -> Option<At<T>> {
        let word = value.get_ref().as_str();
        if let Some(word) = word.and_then(|word| word.parse().ok()) {
            return Some(At::new(line, word));
        }
        let found = word.map_or_else(|| kind(value).to_owned(), |word| format!("{word:?}"));
        self.wrong(line, key, format!("found {found}; allowed: {allowed}"));
        None
    }

    fn priority(&mut self, line: u32, value: &Value<'_>) -> Option<At<i32>> {
        let number = integer(value).and_then(|number| i32::try_from(number).ok());
        if number.is_none() {
            self.wrong(
                line,
                "priority",
                format!("allowed: a whole number from {} to {}", i32::MIN, i32::MAX),
            );
        }
        number.map(|number| At::new(line, number))
    }

    fn size(&mut self, line: u32, key: &str, value: &Value<'_>) -> Option<At<Bytes>> {
        let size = match value.get_ref() {
            DeValue::Integer(_) => integer(value).and_then(|size| u64::try_from(size).ok()),
            DeValue::String(text) => text.parse::<ByteSize>().ok().map(|size| size.0),
            _ => None,
        };
        let size = size.filter(|size| i64::try_from(*size).is_ok());
        if size.is_none() {
            self.wrong(line, key, "allowed: bytes, or a string with a unit as in \"512MiB\"");
        }
        size.map(|size| At::new(line, Bytes(size)))
    }
}

fn integer(value: &Value<'_>) -> Option<i128> {
    let DeValue::Integer(number) = value.get_ref() else { return None };
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Bits of rules in any order, so that a good part of them is read.
        #[test]
        fn any_text_is_rules_or_faults(words in prop::collection::vec(prop::sample::select(&[
            "[[rule]]", "[rule]", "\n", "name", "match.", "match", "idle.", "parent.", "comm", "title", "user", " = ", "\"x\"",
            "\"(\"", "[", "]", "{", "}", "1", "-1", "true", "memory", "protect", ",", "\u{0}", "é",
        ][..]), 0..40)) {
            let text = words.concat();
            match rules(&"f".into(), &text) {
                Ok(specs) => drop(crate::rules::Rules::compile(&specs, None)),
                Err(errors) => {
                    prop_assert!(!errors.is_empty());
                    for error in errors {
                        prop_assert!(!error.to_string().contains('\n'), "{:?}", error);
                        prop_assert!(error.line >= 1);
                    }
                }
            }
        }
    }

    fn wrong(text: &str) -> Vec<String> {
        rules(&"f.toml".into(), text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_is_read_with_its_line() {
        let text = r#"
[[rule]]
name = "ray"
mode = "enforce"
unit = "tree"
kind = "actor"
retriable = true
owner = "{user}"
worker_name = "{comm}"
priority = -3
memory = "1GiB"
match.comm = "ray::*"
match.user = [1000, "alice"]
match.min_memory = 4096
match.parent.comm = ["raylet", "x"]
idle.comm = "ray::IDLE"

[[rule]]
name = "keep"
protect = true
[rule.match]
exe = "/usr/bin/x"
"#;
        let found = rules(&"f.toml".into(), text).unwrap();
        assert_eq!(found.len(), 2);
        let [ray, keep] = &found[..] else { panic!() };
        assert_eq!((ray.line, keep.line), (2, 18));
        assert_eq!(ray.mode, Some(At::new(4, Mode::Enforce)));
        assert_eq!(ray.priority, Some(At::new(10, -3)));
        assert_eq!(ray.memory, Some(At::new(11, Bytes(1 << 30))));
        assert_eq!(ray.matches.user, Some(At::new(13, vec!["1000".into(), "alice".into()])));
        assert_eq!(ray.matches.min_memory, Some(At::new(14, Bytes(4096))));
        assert_eq!(ray.parent.patterns[1], Some(At::new(15, vec!["raylet".into(), "x".into()])));
        assert_eq!(ray.idle.patterns[1], Some(At::new(16, vec!["ray::IDLE".into()])));
        assert_eq!(keep.matches.patterns[3], Some(At::new(22, vec!["/usr/bin/x".into()])));
    }

    #[test]
    fn faults_have_line_key_and_what_is_allowed() {
        assert_eq!(
            wrong("[[rule]]\nname = 3\nmod = \"x\"\nmode = \"kill\"\nmatch.comn = \"x\"\n"),
            [
                "f.toml:2: name: found an integer; allowed: a string",
                "f.toml:3: mod: unknown key; did you mean mode? allowed: name, match, idle, protect, mode, unit, kind, retriable, owner, worker_name, priority, memory",
                "f.toml:4: mode: found \"kill\"; allowed: observe or enforce",
                "f.toml:5: match.comn: unknown key; did you mean comm? allowed: cgroup, comm, title, exe, user, min_memory, parent",
            ]
        );
        assert_eq!(wrong("x = 1"), ["f.toml:1: x: unknown key; allowed: [[rule]] tables"]);
        assert_eq!(
            wrong("[[rule]]\nmatch.parent.parent.comm = \"x\"")[0].split(" allowed").next(),
            Some("f.toml:2: match.parent.parent: unknown key;")
        );
        assert_eq!(
            wrong("[[rule]]\nmemory = -1"),
            ["f.toml:2: memory: allowed: bytes, or a string with a unit as in \"512MiB\""]
        );
        assert_eq!(
            wrong("[[rule]]\nmatch = 1")[0].split(';').next(),
            Some("f.toml:2: match: allowed: a table with cgroup, comm, title, exe, user, min_memory")
        );
        assert!(wrong("[[rule]]\nname = \"a\"\nname = \"b\"")[0].starts_with("f.toml:3: "));
        assert_eq!(wrong("rule = 3"), ["f.toml:1: rule: allowed: [[rule]] tables"]);
    }
}
