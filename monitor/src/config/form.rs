//! The forms a setting can have: each reads what a source gave, checks its range, and shows a value. One form
//! serves flags, environment, file and output, so that the range in a message is the range that is checked.
//! No I/O, no defaults, no knowledge of single settings.

mod number;
mod word;

use std::ffi::OsStr;

use serde_json::Value as Json;

pub(super) use self::number::{Count, Fraction, Millis, Size, SizeOrShare};
pub(super) use self::word::{
    Address, Cgroups, FilePath, GroupName, HostNames, OneOf, PATH_MOST, Presets, Program, SOCKET_PATH_MOST,
    Switch, truth,
};
use crate::config::error::Refusal;
use crate::config::source::Given;

/// How the flag of a setting is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `--flag VALUE`, with the placeholder of its value.
    One(&'static str),
    /// `--flag` or `--flag=false`.
    Switch,
    /// `--flag VALUE`, as often as wanted.
    Many(&'static str),
}

/// A kind of value with its range.
pub(super) trait Form: Sync {
    /// What it reads to.
    type Value;

    /// How its flag is written.
    fn shape(&self) -> Shape;

    /// What is allowed, as messages and help say it.
    fn range(&self) -> String;

    /// Reads and checks; never clamps, never guesses.
    ///
    /// # Errors
    ///
    /// Why `given` is not such a value.
    fn read(&self, given: &Given) -> Result<Self::Value, Refusal>;

    /// The words that it takes, where it takes only those: shells complete them.
    fn words(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The value for programs.
    fn json(&self, value: &Self::Value) -> Json;

    /// The value for people; where it is one word or number, it can be given back as it is shown.
    fn text(&self, value: &Self::Value) -> String {
        let json = self.json(value);
        json.as_str().map_or_else(|| json.to_string(), str::to_owned)
    }
}

/// A word that stands for "no value", with the number that Ray and docs/behavior.md#configuration write for it, if
/// there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absent {
    /// `off`, `unset`, `none`, `auto`.
    pub word: &'static str,
    /// Taken for the word.
    pub number: Option<i128>,
}

impl Absent {
    fn is(self, given: &Given) -> bool {
        match given {
            Given::Text(text) => {
                text == self.word || self.number.is_some_and(|n| text == n.to_string().as_str())
            }
            Given::String(text) => text == self.word,
            Given::Integer(number) => Some(*number) == self.number,
            Given::Texts(_) | Given::Float(_) | Given::Boolean(_) | Given::Strings(_) | Given::Other(_) => {
                false
            }
        }
    }
}

/// A form that may also say "no value": its word in text, null in JSON. A file of the very name `none` is
/// written `./none`.
pub(super) struct Or<F>(pub Absent, pub F);

impl<F: Form> Form for Or<F> {
    type Value = Option<F::Value>;

    fn shape(&self) -> Shape {
        self.1.shape()
    }

    fn range(&self) -> String {
        let Absent { word, number } = self.0;
        let absent = number.map_or_else(|| word.to_owned(), |number| format!("{number} ({word})"));
        format!("{absent} or {}", self.1.range())
    }

    fn read(&self, given: &Given) -> Result<Self::Value, Refusal> {
        if self.0.is(given) { Ok(None) } else { self.1.read(given).map(Some) }
    }

    fn words(&self) -> Vec<&'static str> {
        self.1.words()
    }

    fn json(&self, value: &Self::Value) -> Json {
        value.as_ref().map_or(Json::Null, |set| self.1.json(set))
    }

    fn text(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| self.0.word.to_owned(), |set| self.1.text(set))
    }
}

fn string(given: &Given) -> Result<&str, Refusal> {
    match given {
        Given::Text(text) => utf8(text),
        Given::String(text) => utf8(OsStr::new(text)),
        Given::Texts(_)
        | Given::Integer(_)
        | Given::Float(_)
        | Given::Boolean(_)
        | Given::Strings(_)
        | Given::Other(_) => Err(wrong_type("a string", given)),
    }
}

fn utf8(text: &OsStr) -> Result<&str, Refusal> {
    let text = text.to_str().ok_or_else(|| Refusal::NotUtf8(quote(&text.to_string_lossy())))?;
    if text.is_empty() { Err(Refusal::Empty) } else { Ok(text) }
}

fn wrong_type(expected: &'static str, given: &Given) -> Refusal {
    Refusal::WrongType { expected, found: given.type_name() }
}

/// In quotes, control characters escaped, cut: a message stays one line whatever was given.
fn quote(text: &str) -> String {
    const MOST: usize = 60;
    let cut: String = text.chars().take(MOST).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("{cut:?}{dots}")
}
