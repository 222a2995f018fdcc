//! From the text of a configuration file to the values it gives, each with its line. No I/O, and no opinion on
//! the values: the table has that.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::error::ConfigError;
use crate::config::setting::Setting;
use crate::config::source::Given;
use crate::config::table::{SETTINGS, by_key};
use crate::rules::{self, Rules};

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// As it was named.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// A setting that the file gives a value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    /// Where its key stands, from 1.
    pub(super) line: usize,
    pub(super) given: Given,
}

/// The entries of the file, and whatever keeps it from being TOML with known keys only.
pub(super) fn entries(file: &ConfigFile) -> (Vec<Entry>, Vec<ConfigError>) {
    let (table, faults) = DeTable::parse_recoverable(&file.text);
    let mut errors = syntax_errors(file, &faults);
    // The parser goes on after a fault; what it makes of that line is not what was meant.
    let torn: Vec<usize> = faults.iter().filter_map(|f| f.span()).map(|s| line(&file.text, &s)).collect();
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line(&file.text, &key.span());
        if torn.contains(&line) || key.get_ref() == "rule" {
            continue;
        }
        match by_key(key.get_ref()) {
            Some(setting) => entries.push(Entry { setting, line, given: given(value.get_ref()) }),
            None => errors.push(unknown_key(&file.path, line, key.get_ref())),
        }
    }
    if faults.is_empty() {
        errors.extend(rule_errors(file));
    }
    (entries, errors)
}

/// What is wrong with the rules of the file, taken by themselves: with others they may still share a name.
fn rule_errors(file: &ConfigFile) -> Vec<ConfigError> {
    let name = file.path.display().to_string().into();
    let rule = |line: u32, message: String| ConfigError::Rule { line: line as usize, message };
    match rules::parse::rules_in_configuration(&name, &file.text) {
        Err(errors) => errors.iter().map(|error| rule(error.line, error.to_string())).collect(),
        Ok(specs) => match Rules::compile(&specs, None) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(|error| rule(error.line, error.to_string())).collect(),
        },
    }
}

fn syntax_errors(file: &ConfigFile, faults: &[toml::de::Error]) -> Vec<ConfigError> {
    faults
        .iter()
        .map(|fault| {
            let line = fault.span().map_or(1, |span| line(&file.text, &span));
            let key = file.text.lines().nth(line - 1).and_then(known_key);
            let prefix = key.map(|key| format!("{key}: ")).unwrap_or_default();
            let message = prefix + &fault.message().trim().replace('\n', "; ");
            ConfigError::Syntax { path: file.path.clone(), line, message }
        })
        .collect()
}

/// The key of a setting that a line begins with, if what follows is its value.
fn known_key(line: &str) -> Option<&'static str> {
    let (key, _) = line.split_once('=')?;
    by_key(key.trim()).map(|setting| setting.key)
}

fn unknown_key(path: &Path, line: usize, key: &str) -> ConfigError {
    // clap's measure for flags, but stricter than its 0.7, which finds "grace_ms" in "a".
    const NEAR: f64 = 0.8;
    let likeness = |setting: &&Setting| strsim::jaro(key, setting.key);
    let suggestion = SETTINGS
        .iter()
        .filter(|setting| likeness(setting) > NEAR)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .map(|setting| setting.key);
    ConfigError::UnknownKey { path: path.to_owned(), line, key: key.escape_debug().to_string(), suggestion }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::String(text.to_string()),
        // Beyond i128 it stays text, for the form to say that it is out of range.
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Given::Text(number.as_str().into()), Given::Integer),
        DeValue::Float(number) => number.as_str().parse().map_or(Given::Other("a float"), Given::Float),
        DeValue::Boolean(value) => Given::Boolean(*value),
        DeValue::Array(array) => array
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map_or(Given::Other("an array of other things than strings"), Given::Strings),
        DeValue::Datetime(_) => Given::Other("a date"),
        DeValue::Table(_) => Given::Other("a table"),
    }
}

/// The line, from 1, in which `span` begins.
fn line(text: &str, span: &Range<usize>) -> usize {
    1 + text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count()
}
