//! Templates of owners and names: text with `{...}` in it. What stands in the braces is checked when a rule is compiled,
//! so that filling one in cannot fail.

use super::MOST_TEXT;
use super::error::Fault;
use crate::prelude::*;

/// What can be written in braces, besides captures.
pub(super) const KNOWN: [&str; 6] = ["uid", "user", "comm", "pid", "parent.pid", "pod.name"];

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it stands.
    Text(String),
    /// The user's number.
    Uid,
    /// The user's name, else the number.
    User,
    /// The kernel's name of the process.
    Comm,
    /// The process.
    Pid,
    /// Its parent.
    ParentPid,
    /// What its pod is called.
    PodName,
    /// What a pattern captured.
    Capture(String),
}

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<Piece>);

impl Template {
    /// Reads it; whether its captures exist is not known here.
    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err(Fault::Empty);
        }
        if text.len() > MOST_TEXT {
            return Err(Fault::TooLong(text.len()));
        }
        let bad = || Fault::BadTemplate(text.to_owned());
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(character) = rest.chars().next() {
            let after = &rest[character.len_utf8()..];
            match character {
                '{' | '}' if after.starts_with(character) => {
                    plain.push(character);
                    rest = &after[1..];
                }
                '}' => return Err(bad()),
                '{' => {
                    let (name, after) = after.split_once('}').ok_or_else(bad)?;
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(core::mem::take(&mut plain)));
                    }
                    pieces.push(match name {
                        "uid" => Piece::Uid,
                        "user" => Piece::User,
                        "comm" => Piece::Comm,
                        "pid" => Piece::Pid,
                        "parent.pid" => Piece::ParentPid,
                        "pod.name" => Piece::PodName,
                        capture => Piece::Capture(capture.to_owned()),
                    });
                    rest = after;
                }
                other => {
                    plain.push(other);
                    rest = after;
                }
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// The captures it names.
    pub(super) fn captures(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Capture(name) => Some(name.as_str()),
            Piece::Text(_)
            | Piece::Uid
            | Piece::User
            | Piece::Comm
            | Piece::Pid
            | Piece::ParentPid
            | Piece::PodName => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_read_and_doubled_ones_stand_for_themselves() {
        let read = Template::new("{{{user}}}-{pod}").unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(read.0, [text("{"), Piece::User, text("}-"), Piece::Capture("pod".to_owned())]);
        assert_eq!(read.captures().collect::<Vec<_>>(), ["pod"]);
        for bad in ["{", "}", "a{b", "a}b"] {
            assert_eq!(Template::new(bad), Err(Fault::BadTemplate(bad.to_owned())));
        }
        assert_eq!(Template::new(""), Err(Fault::Empty));
    }
}
