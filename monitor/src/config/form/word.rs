//! Forms of words and paths. Paths are checked as text; no file is looked at.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, PathBuf};

use serde_json::{Value as Json, json};

use super::{Form, Shape, quote, string, utf8, wrong_type};
use crate::config::error::Refusal;
use crate::config::source::Given;
use crate::config::values::Choice;
use crate::rules::presets;

/// Linux's PATH_MAX without its NUL.
pub(crate) const PATH_MOST: usize = 4095;

/// What fits into `sockaddr_un.sun_path` with its NUL (unix(7)).
pub(crate) const SOCKET_PATH_MOST: usize = 107;

/// One of the words of a [`Choice`].
pub(crate) struct OneOf<C>(std::marker::PhantomData<fn() -> C>);

impl<C> OneOf<C> {
    /// The form for this enum.
    pub(crate) const NEW: Self = Self(std::marker::PhantomData);
}

impl<C: Choice> Form for OneOf<C> {
    type Value = C;

    fn shape(&self) -> Shape {
        Shape::One("WORD")
    }

    fn range(&self) -> String {
        C::ALL.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(" | ")
    }

    fn read(&self, given: &Given) -> Result<C, Refusal> {
        let text = string(given)?;
        C::ALL
            .iter()
            .find(|(_, word)| *word == text)
            .map(|(variant, _)| *variant)
            .ok_or_else(|| Refusal::NotA { given: quote(text), expected: "one of the allowed words" })
    }

    fn json(&self, value: &C) -> Json {
        json!(value.word())
    }

    fn words(&self) -> Vec<&'static str> {
        C::ALL.iter().map(|(_, word)| *word).collect()
    }
}

/// Yes or no. In text also 1 and 0, and in any case, as Ray takes them: Python writes `True`.
pub(crate) struct Switch;

impl Form for Switch {
    type Value = bool;

    fn shape(&self) -> Shape {
        Shape::Switch
    }

    fn range(&self) -> String {
        "true | false".to_owned()
    }

    fn read(&self, given: &Given) -> Result<bool, Refusal> {
        match given {
            Given::Boolean(value) => Ok(*value),
            Given::Text(text) => {
                let text = utf8(text)?;
                truth(text).ok_or_else(|| Refusal::NotA { given: quote(text), expected: "true or false" })
            }
            Given::Texts(_)
            | Given::Integer(_)
            | Given::Float(_)
            | Given::String(_)
            | Given::Strings(_)
            | Given::Other(_) => Err(wrong_type("a boolean", given)),
        }
    }

    fn json(&self, value: &bool) -> Json {
        json!(value)
    }

    fn words(&self) -> Vec<&'static str> {
        vec!["true", "false"]
    }
}

/// What a text says, in any case; `None`: neither.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// The name or number of a group of users; not looked up here.
pub(crate) struct GroupName;

impl Form for GroupName {
    type Value = String;

    fn shape(&self) -> Shape {
        Shape::One("GROUP")
    }

    fn range(&self) -> String {
        "a group's name or number".to_owned()
    }

    fn read(&self, given: &Given) -> Result<String, Refusal> {
        if let Given::Integer(number) = given
            && let Ok(gid) = u32::try_from(*number)
        {
            return Ok(gid.to_string());
        }
        let text = string(given)?;
        // What group(5) cannot hold, and a sign that a number is out of range.
        let strange = |c: char| c == ':' || c == ',' || c.is_whitespace() || c.is_control();
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        if text.starts_with('-') || text.contains(strange) || (digits && text.parse::<u32>().is_err()) {
            return Err(Refusal::NotA { given: quote(text), expected: "a group's name or number" });
        }
        Ok(text.to_owned())
    }

    fn json(&self, value: &String) -> Json {
        json!(value)
    }
}

/// The path of a file, directory or socket; not looked at here.
pub(crate) struct FilePath {
    /// The most bytes it may have.
    pub most: usize,
}

impl Form for FilePath {
    type Value = PathBuf;

    fn shape(&self) -> Shape {
        Shape::One("PATH")
    }

    fn range(&self) -> String {
        format!("a path of 1 to {} bytes", self.most)
    }

    fn read(&self, given: &Given) -> Result<PathBuf, Refusal> {
        // Text need not be UTF-8 here: any bytes without NUL are a path.
        let path = if let Given::Text(text) = given { text } else { OsStr::new(string(given)?) };
        path_of(path, self.most)
    }

    fn json(&self, value: &PathBuf) -> Json {
        json!(value.to_string_lossy())
    }
}

/// A program by its absolute path, with its arguments: an array, or a text that is split at its spaces. No shell reads it.
pub(crate) struct Program;

impl Form for Program {
    type Value = Vec<String>;

    fn shape(&self) -> Shape {
        Shape::One("COMMAND")
    }

    fn range(&self) -> String {
        "an absolute path and arguments, as an array of strings or separated by spaces".to_owned()
    }

    fn read(&self, given: &Given) -> Result<Self::Value, Refusal> {
        let words: Vec<String> = match given {
            Given::Strings(texts) => texts.clone(),
            Given::Text(_) | Given::String(_) => {
                string(given)?.split_whitespace().map(str::to_owned).collect()
            }
            Given::Texts(_) | Given::Integer(_) | Given::Float(_) | Given::Boolean(_) | Given::Other(_) => {
                return Err(wrong_type("an array of strings", given));
            }
        };
        let Some(program) = words.first() else { return Err(Refusal::Empty) };
        if !program.starts_with('/') || words.iter().any(|word| word.contains('\0')) {
            return Err(Refusal::NotA {
                given: quote(&words.join(" ")),
                expected: "an absolute path with arguments",
            });
        }
        Ok(words)
    }

    fn json(&self, value: &Self::Value) -> Json {
        json!(value)
    }

    fn text(&self, value: &Self::Value) -> String {
        value.join(" ")
    }
}

/// An address to listen at.
pub(crate) struct Address;

impl Form for Address {
    type Value = SocketAddr;

    fn shape(&self) -> Shape {
        Shape::One("ADDRESS")
    }

    fn range(&self) -> String {
        "PORT or IP:PORT, as in 9464, 127.0.0.1:9464 or [::1]:9464".to_owned()
    }

    fn read(&self, given: &Given) -> Result<SocketAddr, Refusal> {
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Given::Integer(port) = given {
            let port = u16::try_from(*port).map_err(|_| Refusal::OutOfRange(format!("port {port}")));
            return port.map(loopback);
        }
        let text = string(given)?;
        let port = || text.parse().ok().map(loopback);
        let address = text.parse().ok().or_else(port);
        address.ok_or_else(|| Refusal::NotA { given: quote(text), expected: "an address with a port" })
    }

    fn json(&self, value: &SocketAddr) -> Json {
        json!(value.to_string())
    }
}

/// Names of hosts, as a URL has them. In a variable separated by commas.
pub(crate) struct HostNames;

impl Form for HostNames {
    type Value = Vec<String>;

    fn shape(&self) -> Shape {
        Shape::Many("NAME")
    }

    fn range(&self) -> String {
        "host names, as in node1.example.org".to_owned()
    }

    fn read(&self, given: &Given) -> Result<Self::Value, Refusal> {
        let name = |name: &OsString| {
            let name = utf8(name)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
            if name.len() > 253 || !name.chars().all(plain) {
                return Err(Refusal::NotA { given: quote(name), expected: "a host name" });
            }
            Ok(name.to_ascii_lowercase())
        };
        list(given)?.iter().map(name).collect()
    }

    fn json(&self, value: &Self::Value) -> Json {
        json!(value)
    }

    fn text(&self, value: &Self::Value) -> String {
        if value.is_empty() { "none".to_owned() } else { value.join(",") }
    }
}

/// The words of a list; in a variable separated by commas.
fn list(given: &Given) -> Result<Vec<OsString>, Refusal> {
    match given {
        Given::Text(text) => {
            let words = text.as_bytes().split(|byte| *byte == b',');
            Ok(words.map(|word| OsString::from_vec(word.to_vec())).collect())
        }
        Given::Texts(texts) => Ok(texts.clone()),
        Given::Strings(texts) => Ok(texts.iter().map(OsString::from).collect()),
        Given::Integer(_) | Given::Float(_) | Given::Boolean(_) | Given::String(_) | Given::Other(_) => {
            Err(wrong_type("an array of strings", given))
        }
    }
}

/// Cgroups below the root of the memory controller's hierarchy: `/box`. In a variable a colon separates two paths if
/// the next one begins after it with its slash; names of cgroups may have colons too.
pub(crate) struct Cgroups;

impl Form for Cgroups {
    type Value = Vec<PathBuf>;

    fn shape(&self) -> Shape {
        Shape::Many("PATH")
    }

    fn range(&self) -> String {
        "paths from the root of the memory controller's hierarchy, as in /box".to_owned()
    }

    fn read(&self, given: &Given) -> Result<Self::Value, Refusal> {
        let paths: Vec<OsString> = match given {
            Given::Text(text) => split(text.as_bytes()),
            Given::Texts(texts) => texts.clone(),
            Given::Strings(texts) => texts.iter().map(OsString::from).collect(),
            Given::Integer(_) | Given::Float(_) | Given::Boolean(_) | Given::String(_) | Given::Other(_) => {
                return Err(wrong_type("an array of strings", given));
            }
        };
        paths.iter().map(|path| cgroup(path)).collect()
    }

    fn json(&self, value: &Self::Value) -> Json {
        json!(value.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>())
    }

    fn text(&self, value: &Self::Value) -> String {
        if value.is_empty() {
            return "none".to_owned();
        }
        value.iter().map(|path| escape(&path.to_string_lossy())).collect::<Vec<_>>().join(":")
    }
}

/// The paths in a variable: apart at each colon before a slash or the end. A backslash takes its meaning from a colon or
/// a backslash after it.
fn split(text: &[u8]) -> Vec<OsString> {
    let (mut paths, mut path) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (*first, tail.first()) {
            (b'\\', Some(next @ (b':' | b'\\'))) => {
                path.push(*next);
                rest = &tail[1..];
            }
            (b':', Some(b'/') | None) => paths.push(OsString::from_vec(std::mem::take(&mut path))),
            (byte, _) => path.push(byte),
        }
    }
    paths.push(OsString::from_vec(path));
    paths
}

/// The path so that [`split`] gives it back, in whatever company.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let special = match character {
            ':' => matches!(characters.peek(), Some('/') | None),
            '\\' => matches!(characters.peek(), Some(':' | '\\') | None),
            _ => false,
        };
        if special {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Names of presets of rules. In a variable separated by commas.
pub(crate) struct Presets;

impl Form for Presets {
    type Value = Vec<String>;

    fn shape(&self) -> Shape {
        Shape::Many("NAME")
    }

    fn range(&self) -> String {
        format!("any of {}", presets::names())
    }

    fn read(&self, given: &Given) -> Result<Self::Value, Refusal> {
        let name = |name: &OsString| {
            let name = utf8(name)?;
            let refused = || Refusal::NotA { given: quote(name), expected: "a preset" };
            presets::by_name(name).map(|preset| preset.name.to_owned()).ok_or_else(refused)
        };
        list(given)?.iter().map(name).collect()
    }

    fn json(&self, value: &Self::Value) -> Json {
        json!(value)
    }

    fn text(&self, value: &Self::Value) -> String {
        if value.is_empty() { "none".to_owned() } else { value.join(",") }
    }
}

fn cgroup(path: &OsStr) -> Result<PathBuf, Refusal> {
    let checked = path_of(path, PATH_MOST)?;
    // `..` would name something outside of the hierarchy that the agent was given.
    let plain = checked.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if checked.is_absolute() && plain {
        return Ok(checked);
    }
    Err(Refusal::NotA { given: quote(&path.to_string_lossy()), expected: "an absolute path without `..`" })
}

fn path_of(path: &OsStr, most: usize) -> Result<PathBuf, Refusal> {
    if path.is_empty() {
        return Err(Refusal::Empty);
    }
    if path.as_bytes().contains(&0) {
        return Err(Refusal::NotA { given: quote(&path.to_string_lossy()), expected: "a path" });
    }
    if path.len() > most {
        return Err(Refusal::OutOfRange(format!("a path of {} bytes", path.len())));
    }
    Ok(PathBuf::from(path))
}
