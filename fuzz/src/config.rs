//! Configuration files: an error names a line that exists and fits on one; what is taken is neither clamped nor
//! changed, and a file made of what is in effect has the same effect.

use std::fmt::Write as _;

use monitor::config::{ConfigError, ConfigErrors, ConfigFile, ConfigFlags, Resolved, Source, check, resolve};
use serde_json::Value;

pub fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = ConfigFile { path: "f".into(), text: text.to_owned() };
    let settings = match check(&file) {
        Ok((settings, _)) => settings,
        Err(errors) => return refused(&file, &errors),
    };
    match effect(&file) {
        Ok(resolved) => {
            let given =
                resolved.settings.iter().filter(|setting| matches!(setting.source, Source::File { .. }));
            assert_eq!(given.count(), settings);
            as_written(text, &resolved);
            let again = effect(&ConfigFile { path: "f".into(), text: written(&resolved) });
            assert_eq!(again.unwrap().config, resolved.config, "\n{}", written(&resolved));
        }
        // A file is not to blame for what it does not say.
        Err(errors) => {
            assert!(
                errors.iter().all(|error| matches!(error, ConfigError::NothingGuarded { .. })),
                "{errors}"
            );
        }
    }
}

fn effect(file: &ConfigFile) -> Result<Resolved, ConfigErrors> {
    resolve(&ConfigFlags::default(), &|_| None, Some(file), 0)
}

fn refused(file: &ConfigFile, errors: &ConfigErrors) {
    assert!(errors.iter().next().is_some(), "refused for nothing");
    for error in errors.iter() {
        let message = error.to_string();
        let line = message.strip_prefix("f:").and_then(|rest| rest.split(':').next()?.parse().ok());
        let line: usize = line.unwrap_or_else(|| panic!("no line: {message}"));
        assert!((1..=super::lines(file.text.as_bytes())).contains(&line), "{message}");
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
    assert!(effect(file).is_err(), "check refuses what the agent takes");
}

/// Numbers are in effect as they stand in the file, or stand for a word (-1).
fn as_written(text: &str, resolved: &Resolved) {
    let table: toml::Table = text.parse().unwrap();
    for (key, value) in &table {
        let setting = resolved.settings.iter().find(|effective| effective.setting.key == key).unwrap();
        match value {
            toml::Value::Integer(number) => assert!(
                setting.json.is_null()
                    || setting.json.as_i64() == Some(*number)
                    || setting.json.as_f64() == Some(*number as f64),
                "{key} = {number} became {}",
                setting.json
            ),
            toml::Value::Float(number) => assert_eq!(setting.json.as_f64(), Some(*number), "{key}"),
            toml::Value::Boolean(value) => assert_eq!(setting.json.as_bool(), Some(*value), "{key}"),
            toml::Value::String(_) | toml::Value::Array(_) => {}
            toml::Value::Datetime(_) | toml::Value::Table(_) => panic!("{key} takes {value}"),
        }
    }
}

/// A file that gives all that this one gave, as `monitor config` shows it.
fn written(resolved: &Resolved) -> String {
    let mut text = String::new();
    for effective in &resolved.settings {
        if !matches!(effective.source, Source::File { .. }) {
            continue;
        }
        let value = match &effective.json {
            Value::Null => toml::Value::String(effective.text.clone()),
            Value::Bool(value) => toml::Value::Boolean(*value),
            Value::Number(number) => number
                .as_i64()
                .map_or_else(|| toml::Value::Float(number.as_f64().unwrap()), toml::Value::Integer),
            Value::String(text) => toml::Value::String(text.clone()),
            Value::Array(items) => {
                let item = |item: &Value| toml::Value::String(item.as_str().unwrap().to_owned());
                toml::Value::Array(items.iter().map(item).collect())
            }
            Value::Object(_) => panic!("{} is an object", effective.setting.key),
        };
        writeln!(text, "{} = {value}", effective.setting.key).unwrap();
    }
    text
}
