//! Patterns: globs and regular expressions, and the sets that try all patterns of one key at once. Matching takes time
//! that grows with the length of the text only, whatever the pattern (the `regex` crate's promise).

use core::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder, SetMatches};

use super::MOST_TEXT;
use super::error::Fault;
use crate::prelude::*;

/// The most memory that one compiled pattern may take: 64 KiB.
const MOST_COMPILED: usize = 64 << 10;

/// The same for all patterns of one key: 16 MiB.
const MOST_SET: usize = 16 << 20;

/// What the lazily built automaton of a set may take; beyond it matching is slower, not larger.
const SET_CACHE: usize = 2 << 20;

/// The kernel's names of processes are shorter than this (`TASK_COMM_LEN` in include/linux/sched.h).
const COMM_LENGTH: usize = 15;

/// The keys that take patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PatternKey {
    /// A glob on the path in the memory controller's hierarchy.
    Cgroup,
    /// A glob on the kernel's name of the process.
    Comm,
    /// A regular expression on the command line, arguments separated by one space.
    Title,
    /// A glob on the executable's path.
    Exe,
}

impl PatternKey {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Cgroup, Self::Comm, Self::Title, Self::Exe];

    /// As written in rules.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Comm => "comm",
            Self::Title => "title",
            Self::Exe => "exe",
        }
    }
}

/// A pattern that compiles.
#[derive(Debug)]
pub(super) struct Pattern {
    /// As written.
    pub(super) text: String,
    /// As a regular expression.
    regex: String,
    /// Compiled by itself, if it captures something.
    pub(super) capturing: Option<Regex>,
}

impl Pattern {
    /// Reads and compiles it.
    pub(super) fn new(key: PatternKey, text: &str) -> Result<Self, Fault> {
        if text.len() > MOST_TEXT {
            return Err(Fault::TooLong(text.len()));
        }
        let regex = match key {
            PatternKey::Title => text.to_owned(),
            PatternKey::Comm => glob(text, Separator::None)?,
            PatternKey::Cgroup | PatternKey::Exe => {
                if !text.starts_with('/') && !text.starts_with("**") {
                    return Err(Fault::NotAbsolute(text.to_owned()));
                }
                glob(text, Separator::Slash)?
            }
        };
        if key == PatternKey::Comm && least_length(text) > COMM_LENGTH {
            return Err(Fault::CommTooLong(text.to_owned()));
        }
        let compiled = RegexBuilder::new(&regex)
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(MOST_COMPILED)
            .nest_limit(50)
            .build();
        let compiled = compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Fault::Costly(text.to_owned()),
            // Its message is several lines with a drawing; the last one says what is wrong.
            other => {
                let whole = other.to_string();
                let why = whole.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Fault::BadRegex { pattern: text.to_owned(), why }
            }
        })?;
        let captures = compiled.capture_names().flatten().next().is_some();
        Ok(Self { text: text.to_owned(), regex, capturing: captures.then_some(compiled) })
    }

    /// The names that it captures.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.capturing.iter().flat_map(|regex| regex.capture_names().flatten())
    }
}

/// Whether `*` stops at slashes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    Slash,
    None,
}

/// A glob as an anchored regular expression.
fn glob(text: &str, separator: Separator) -> Result<String, Fault> {
    let bad = |why| Fault::BadGlob { pattern: text.to_owned(), why };
    let one = if separator == Separator::Slash { "[^/]" } else { "." };
    let mut out = String::from("^");
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '*' if separator == Separator::Slash && rest.starts_with('*') => {
                rest = &rest[1..];
                let begins = out == "^" || out.ends_with('/');
                if !begins || !(rest.is_empty() || rest.starts_with('/')) {
                    return Err(bad("** stands for whole components, as in /a/**/b"));
                }
                // The slash before it goes with the components: there may be none.
                if out.ends_with('/') {
                    out.pop();
                }
                out.push_str(if rest.is_empty() { "(?:/.*)?" } else { "(?:/[^/]+)*" });
            }
            '*' => write!(out, "{one}*").unwrap_or_default(),
            '?' => out.push_str(one),
            '[' => {
                let (class, after) = rest.split_once(']').ok_or_else(|| bad("a [ is not closed"))?;
                out.push_str(&character_class(class).ok_or_else(|| bad("[...] lists plain characters"))?);
                rest = after;
            }
            '{' => {
                let (name, after) = rest.split_once('}').ok_or_else(|| bad("a { is not closed"))?;
                let (name, of) = match name.split_once(':') {
                    Some((name, class)) => {
                        let class = class.strip_prefix('[').and_then(|class| class.strip_suffix(']'));
                        let class = class.and_then(character_class);
                        (name, class.ok_or_else(|| bad("{name:[...]} lists plain characters"))?)
                    }
                    None => (name, one.to_owned()),
                };
                if !is_name(name) {
                    return Err(bad("{name} is a letter and then letters, digits or _"));
                }
                // A capture is never empty: a name that is empty would join what has nothing in common.
                write!(out, "(?P<{name}>{of}+)").unwrap_or_default();
                rest = after;
            }
            '}' => return Err(bad("a } has no {")),
            '\\' if rest.starts_with(['*', '?', '[', ']', '{', '}', '\\']) => {
                let escaped = &rest[..1];
                out.push_str(&regex::escape(escaped));
                rest = &rest[1..];
            }
            plain => out.push_str(&regex::escape(plain.encode_utf8(&mut [0; 4]))),
        }
    }
    // `$` alone would do in this mode; `\z` says so.
    out.push_str("\\z");
    Ok(out)
}

fn character_class(class: &str) -> Option<String> {
    let (not, class) = match class.strip_prefix(['!', '^']) {
        Some(rest) => ("^", rest),
        None => ("", class),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    (!class.is_empty() && class.chars().all(plain)).then(|| format!("[{not}{class}]"))
}

pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 32
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The fewest bytes that a glob could match.
fn least_length(glob: &str) -> usize {
    let (mut least, mut rest) = (0, glob);
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '*' => {}
            '[' => (least, rest) = (least + 1, rest.split_once(']').map_or("", |(_, after)| after)),
            '{' => (least, rest) = (least + 1, rest.split_once('}').map_or("", |(_, after)| after)),
            '\\' if rest.starts_with(['*', '?', '[', ']', '{', '}', '\\']) => {
                (least, rest) = (least + 1, &rest[1..]);
            }
            plain => least += plain.len_utf8(),
        }
    }
    least
}

/// All patterns of one key.
#[derive(Debug, Default)]
pub(super) struct Set {
    regexes: Option<RegexSet>,
    patterns: Vec<Pattern>,
}

/// Which patterns of a set a text matches.
#[derive(Debug)]
pub(super) struct Hits(Option<SetMatches>);

impl Set {
    /// All of them as one.
    pub(super) fn new(patterns: Vec<Pattern>) -> Result<Self, Fault> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let regexes = RegexSetBuilder::new(patterns.iter().map(|pattern| &pattern.regex))
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(MOST_SET)
            .dfa_size_limit(SET_CACHE)
            .build()
            .map_err(|_| Fault::AllCostly)?;
        Ok(Self { regexes: Some(regexes), patterns })
    }

    /// Which of them match.
    pub(super) fn hits(&self, text: &[u8]) -> Hits {
        Hits(self.regexes.as_ref().map(|set| set.matches(text)).filter(SetMatches::matched_any))
    }

    pub(super) fn pattern(&self, number: usize) -> Option<&Pattern> {
        self.patterns.get(number)
    }
}

impl Hits {
    /// Whether anything matches.
    pub(super) fn any(&self) -> bool {
        self.0.is_some()
    }

    /// The first of these patterns that matches.
    pub(super) fn first(&self, mut numbers: core::ops::Range<usize>) -> Option<usize> {
        let hits = self.0.as_ref()?;
        numbers.find(|number| hits.matched(*number))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn matches(key: PatternKey, pattern: &str, text: &str) -> bool {
        let set = Set::new(vec![Pattern::new(key, pattern).unwrap()]).unwrap();
        set.hits(text.as_bytes()).first(0..1).is_some()
    }

    #[rstest]
    #[case("/a/*", "/a/b", true)]
    #[case("/a/*", "/a/b/c", false)]
    #[case("/a/**", "/a", true)]
    #[case("/a/**", "/a/b/c", true)]
    #[case("/a/**", "/ab", false)]
    #[case("/a/**/c", "/a/c", true)]
    #[case("/a/**/c", "/a/x/y/c", true)]
    #[case("/a/**/c", "/a/xc", false)]
    #[case("**/c", "/c", true)]
    #[case("**/c", "/a/b/c", true)]
    #[case("**", "/a/b", true)]
    #[case("**", "/", true)]
    #[case("/**", "/", true)]
    #[case("/**/c", "/c", true)]
    #[case("/docker-{id}.scope", "/docker-0.scope", true)]
    #[case("/docker-{id}.scope", "/docker-.scope", false)]
    #[case("/docker-{id:[0-9a-f]}.scope", "/docker-0af.scope", true)]
    #[case("/docker-{id:[0-9a-f]}.scope", "/docker-conmon-0af.scope", false)]
    #[case("/a.b", "/axb", false)]
    #[case("/a\\x2db", "/a\\x2db", true)]
    #[case("/a\\*", "/a*", true)]
    #[case("/a\\*", "/ab", false)]
    #[case("/[ab]?[!0-9]", "/axz", true)]
    #[case("/[ab]?[!0-9]", "/ax9", false)]
    fn paths(#[case] pattern: &str, #[case] path: &str, #[case] expected: bool) {
        assert_eq!(matches(PatternKey::Cgroup, pattern, path), expected, "{pattern} {path}");
    }

    #[test]
    fn names_have_no_components_and_titles_are_searched() {
        assert!(matches(PatternKey::Comm, "kworker*", "kworker/0:1"));
        assert!(!matches(PatternKey::Comm, "ray", "ray::f"));
        assert!(matches(PatternKey::Title, "-m +pytest", "python -m pytest x"));
        assert!(matches(PatternKey::Title, "a.b", "a\nb"), "a newline is a character like any other");
        let title = Set::new(vec![Pattern::new(PatternKey::Title, "^x.*y$").unwrap()]).unwrap();
        assert!(title.hits(b"x\xff\xfey").first(0..1).is_some(), "what is no UTF-8 hides from no pattern");
    }

    #[rstest]
    #[case(PatternKey::Cgroup, "a/b", "begins with /")]
    #[case(PatternKey::Cgroup, "/a**", "** stands for whole components")]
    #[case(PatternKey::Cgroup, "/{", "not closed")]
    #[case(PatternKey::Cgroup, "/{1a}", "is a letter")]
    #[case(PatternKey::Cgroup, "/{a,b}", "is a letter")]
    #[case(PatternKey::Cgroup, "/a}", "has no {")]
    #[case(PatternKey::Cgroup, "/{a:b}", "plain characters")]
    #[case(PatternKey::Exe, "/[", "not closed")]
    #[case(PatternKey::Exe, "/[]", "plain characters")]
    #[case(PatternKey::Comm, "0123456789abcdef", "15 bytes")]
    #[case(PatternKey::Comm, "0123456789*abcde?", "15 bytes")]
    #[case(PatternKey::Title, "(", "unclosed group")]
    #[case(PatternKey::Title, "(?:a{100}){100}{100}", "too costly")]
    fn what_is_no_pattern_is_refused(#[case] key: PatternKey, #[case] pattern: &str, #[case] why: &str) {
        let fault = Pattern::new(key, pattern).unwrap_err().to_string();
        assert!(fault.contains(why), "{fault}");
        assert!(!fault.contains('\n'), "{fault}");
    }

    #[test]
    fn a_long_pattern_is_refused() {
        let long = "a".repeat(MOST_TEXT + 1);
        assert_eq!(Pattern::new(PatternKey::Title, &long).unwrap_err(), Fault::TooLong(MOST_TEXT + 1));
        assert!(Pattern::new(PatternKey::Comm, "0123456789[ab]*{x}abc").is_ok(), "15 bytes at least");
    }
}
