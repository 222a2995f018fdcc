//! Lines and calls: bytes to lines of bounded length, a line to a [`Call`] or to the reply that says what is
//! wrong with it, and values to lines. No sockets, no clocks; no input makes it panic or grow without bound.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::codec::Decoder;

use super::protocol::{Call, Refusal, RefusalCode, Reply, ReplyResult, VERSION};

/// The longest message a refusal carries, in characters: what it quotes comes from the peer.
const MAX_MESSAGE: usize = 400;

/// What a line turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A line, its newline removed.
    Line(Bytes),
    /// A line longer than the limit began here; what is left of it is skipped, up to the next newline.
    TooLong,
}

/// Cuts a stream at newlines. Holds at most `max` bytes of an unfinished line; skips the rest of a longer one.
#[derive(Debug, Clone)]
pub struct LineCodec {
    /// The longest line, newline included.
    max: usize,
    /// How much of the buffer is known to hold no newline.
    searched: usize,
    /// Inside a line that is too long.
    skipping: bool,
}

impl LineCodec {
    /// For lines of at most `max` bytes, newline included.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, searched: 0, skipping: false }
    }

    /// Whether a line has begun and is not finished, given what is left in the buffer.
    #[must_use]
    pub fn inside_line(&self, buffer: &BytesMut) -> bool {
        self.skipping || !buffer.is_empty()
    }

    /// Whether it is inside a line that is too long.
    #[must_use]
    pub fn skips(&self) -> bool {
        self.skipping
    }

    /// Drops what is left of a too long line. True: the buffer begins with a new line now.
    fn skip(&mut self, buffer: &mut BytesMut) -> bool {
        match newline(buffer) {
            Some(end) => {
                buffer.advance(end + 1);
                self.skipping = false;
            }
            None => buffer.clear(),
        }
        !self.skipping
    }
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n')
}

impl Decoder for LineCodec {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, io::Error> {
        if self.skipping && !self.skip(buffer) {
            return Ok(None);
        }
        let seen = self.searched.min(buffer.len());
        let end = newline(&buffer[seen..]).map(|at| seen + at);
        self.searched = 0;
        match end {
            Some(end) if end < self.max => {
                let line = buffer.split_to(end).freeze();
                buffer.advance(1);
                Ok(Some(Frame::Line(line)))
            }
            Some(_) => {
                self.skipping = true;
                self.skip(buffer);
                Ok(Some(Frame::TooLong))
            }
            None if buffer.len() >= self.max => {
                self.skipping = true;
                buffer.clear();
                Ok(Some(Frame::TooLong))
            }
            None => {
                self.searched = buffer.len();
                Ok(None)
            }
        }
    }
}

/// A value as one line, newline included.
///
/// # Errors
/// The value has no form in JSON (a map with keys that are not text).
pub fn encode_line<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// The reply that refuses the call with this `seq`.
#[must_use]
pub fn refuse(seq: u64, code: RefusalCode, field: Option<String>, message: impl Into<String>) -> Reply {
    let mut message = message.into();
    if let Some((at, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(at);
        message.push('…');
    }
    let field = field.map(|name| name.chars().take(MAX_MESSAGE).collect());
    Reply { seq, result: ReplyResult::Error(Refusal { code, field, message }) }
}

/// The two keys that are read first, whatever the others are.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    v: Option<Value>,
    #[serde(default)]
    seq: Option<Value>,
}

/// Reads a call from a line.
///
/// # Errors
/// The reply to send instead: it names the field at fault, and carries the call's `seq` if that could be read.
pub fn parse_call(line: &[u8]) -> Result<Call, Reply> {
    let malformed = |seq, field, message: String| refuse(seq, RefusalCode::Malformed, field, message);
    if line.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        let message = "a call is one JSON object on one line, as {\"v\":1,\"seq\":1,\"op\":\"status\"}";
        return Err(malformed(0, None, message.into()));
    }
    let mut json = serde_json::Deserializer::from_slice(line);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        (field_at_fault(&path, &message), message)
    });
    let parsed: Result<Call, _> =
        parsed.and_then(|call| json.end().map(|()| call).map_err(|error| (None, error.to_string())));
    let another = |v: &dyn std::fmt::Display| {
        format!("the call is of protocol version {v}, this agent speaks version {VERSION}")
    };
    match parsed {
        Ok(call) if call.v == VERSION => Ok(call),
        Ok(Call { v, seq, .. }) => Err(malformed(seq, Some("v".into()), another(&v))),
        // Only what is refused is looked at twice: the answer names the call by its number, if it has one.
        Err((field, message)) => {
            let envelope =
                serde_json::from_slice::<Envelope>(line).unwrap_or(Envelope { v: None, seq: None });
            let seq = envelope.seq.as_ref().and_then(Value::as_u64).unwrap_or(0);
            match &envelope.v {
                Some(Value::Number(v)) if v.as_u64() != Some(u64::from(VERSION)) => {
                    Err(malformed(seq, Some("v".into()), another(v)))
                }
                _ => Err(malformed(seq, field, message)),
            }
        }
    }
}

/// The path of the field at fault. serde places a missing, unknown or repeated key at its parent; its name is in the
/// text.
fn field_at_fault(path: &str, message: &str) -> Option<String> {
    let parent = if path == "." || path == "?" { "" } else { path };
    let key = ["missing field `", "unknown field `", "duplicate field `"].into_iter().find_map(|start| {
        let (key, _) = message.strip_prefix(start)?.split_once('`')?;
        Some(key)
    });
    match key {
        Some(key) if parent.is_empty() => Some(key.to_owned()),
        Some(key) if parent == key || parent.ends_with(&format!(".{key}")) => Some(parent.to_owned()),
        Some(key) => Some(format!("{parent}.{key}")),
        None if parent.is_empty() => None,
        None => Some(parent.to_owned()),
    }
}

#[cfg(test)]
mod tests;
