//! What is wrong with a snapshot, and where: line, column and field. It knows JSON, but no field's meaning.

use alloc::collections::BTreeMap;
use core::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::prelude::*;
use crate::threshold::ThresholdError;

/// A place in a file, both counted from 1; columns in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a snapshot can't be read. The message names the place and the field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// There is nothing in it.
    #[error("it is empty: expected a snapshot in JSON")]
    Empty,
    /// It is no text.
    #[error("{at}: it is not UTF-8 text")]
    NotUtf8 {
        /// The first byte that is not.
        at: Position,
    },
    /// It is no JSON, or a key or type is not one of a snapshot.
    #[error("{at}: {}{message}", Prefix(.field))]
    Json {
        /// Where reading stopped.
        at: Position,
        /// The path of the field, `workers[2].started`; empty if it is none in particular.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// A field has the right type and a wrong value.
    #[error("{at}: {}{why}", Prefix(.field))]
    Field {
        /// Where the value begins.
        at: Position,
        /// The path of the field.
        field: String,
        /// What is wrong.
        why: FieldError,
    },
}

/// What is wrong with a value of the right type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FieldError {
    /// A worker without a name.
    #[error("is empty")]
    EmptyId,
    /// Two workers with one name.
    #[error("{id:?} is the id of workers[{first}] too")]
    DuplicateId {
        /// The name.
        id: String,
        /// The worker that had it first.
        first: usize,
    },
    /// An actor's budget for a task.
    #[error("is for actors, and this is a task: its key is max_retries")]
    RestartsOfTask,
    /// A task's budget for an actor.
    #[error("is for tasks, and this is an actor: its key is max_restarts")]
    RetriesOfActor,
    /// A total of 0 (docs/behavior.md#accounting).
    #[error("0 means no limit, and memory without a limit can't run out")]
    NoLimit,
    /// A threshold that this domain can't have.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
}

/// `field: `, or nothing.
struct Prefix<'a>(&'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

/// A step on the path to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Into the value of this key.
    Key(&'static str),
    /// Into this element.
    Index(usize),
}

/// The bytes as text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, SnapshotError> {
    let text = core::str::from_utf8(bytes)
        .map_err(|error| SnapshotError::NotUtf8 { at: position(bytes, error.valid_up_to()) })?;
    if text.trim().is_empty() { Err(SnapshotError::Empty) } else { Ok(text) }
}

/// Reads one JSON value and nothing after it.
pub(super) fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, SnapshotError> {
    // Keeping track of the path takes as long as all the rest: only where it will be named.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        // Written with a dot for the whole, and a question mark for a key that was not read to its end.
        let field = error.path().to_string();
        json_error(field.trim_end_matches(['.', '?']).to_owned(), error.inner())
    })?;
    json.end().map_err(|error| json_error(String::new(), &error))?;
    Ok(value)
}

fn json_error(field: String, error: &serde_json::Error) -> SnapshotError {
    let at = Position { line: error.line(), column: error.column() };
    let message = error.to_string();
    let place = format!(" at line {} column {}", at.line, at.column);
    let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
    SnapshotError::Json { at, field, message }
}

/// The error about the value at `path` of a text that was parsed before.
pub(super) fn field_error(text: &str, path: &[Step], why: FieldError) -> SnapshotError {
    let mut field = String::new();
    for step in path {
        match step {
            Step::Key(key) if field.is_empty() => field.push_str(key),
            Step::Key(key) => field.extend([".", key]),
            Step::Index(index) => field.push_str(&format!("[{index}]")),
        }
    }
    // A value that is a default stands nowhere; its object does.
    let offset = (1..=path.len()).rev().find_map(|steps| locate(text, &path[..steps])).unwrap_or(0);
    SnapshotError::Field { at: position(text.as_bytes(), offset), field, why }
}

/// Where the value at `path` begins, in bytes. Reads the text again: there is nothing to pay for it as long as
/// nothing is wrong.
fn locate(text: &str, path: &[Step]) -> Option<usize> {
    let mut value = text;
    for step in path {
        value = match step {
            Step::Key(key) => {
                serde_json::from_str::<BTreeMap<String, &RawValue>>(value).ok()?.get(*key)?.get()
            }
            Step::Index(index) => serde_json::from_str::<Vec<&RawValue>>(value).ok()?.get(*index)?.get(),
        };
    }
    // Raw values borrow from the text, so their addresses tell the distance.
    value.as_ptr().addr().checked_sub(text.as_ptr().addr())
}

fn position(bytes: &[u8], offset: usize) -> Position {
    let before = &bytes[..offset.min(bytes.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    Position { line, column: before.len() - line_start + 1 }
}
