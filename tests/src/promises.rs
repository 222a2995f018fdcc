//! What scripts rely on (docs/stability.md): every key that a command's JSON had is still there, with its type. The keys
//! are in `tests/promises/`, as `KEY.KEY[]: type`, one file for each output; `UPDATE_PROMISES=1` adds what is new.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Adds new keys to the files.
const UPDATE_VARIABLE: &str = "UPDATE_PROMISES";

/// All keys below a value, each with the types that it was seen with.
type Keys = BTreeMap<String, BTreeSet<String>>;

/// Holds outputs, each with the name of its file and all that was printed, against what is promised.
///
/// # Errors
/// A key is gone or has another type; nothing is promised of an output; a file cannot be written.
pub fn hold(outputs: Vec<(&str, Vec<Value>)>) -> Result<()> {
    let mut faults = Vec::new();
    for (name, values) in outputs {
        let (mut before, found) = (promised(name), keys(&values));
        faults.extend(broken(&before, &found).into_iter().map(|fault| format!("{name}: {fault}")));
        if std::env::var_os(UPDATE_VARIABLE).is_some() {
            for (key, words) in found {
                before.entry(key).or_default().extend(words);
            }
            let line = |(key, words): (String, BTreeSet<String>)| {
                format!("{key}: {}\n", words.into_iter().collect::<Vec<_>>().join(" or "))
            };
            let text: String = before.into_iter().map(line).collect();
            fs::write(file(name), text).with_context(|| file(name).display().to_string())?;
        }
        ensure!(!promised(name).is_empty(), "nothing is promised of {name}: {UPDATE_VARIABLE}=1");
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promises").join(format!("{name}.txt"))
}

fn promised(name: &str) -> Keys {
    let text = fs::read_to_string(file(name)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(key, words)| (key.to_owned(), words.split(" or ").map(str::to_owned).collect())).collect()
}

fn keys(values: &[Value]) -> Keys {
    let mut keys = Keys::new();
    values.iter().for_each(|value| collect(value, "", &mut keys));
    keys
}

fn collect(value: &Value, path: &str, keys: &mut Keys) {
    let word = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(all) => {
            all.iter().for_each(|one| collect(one, &format!("{path}[]"), keys));
            "array"
        }
        Value::Object(all) => {
            all.iter().for_each(|(key, one)| collect(one, &format!("{path}.{key}"), keys));
            "object"
        }
    };
    keys.entry(path.to_owned()).or_default().insert(word.to_owned());
}

/// The keys that a key lies below.
fn above(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices(['.', '[']).map(|(at, _)| &key[..at])
}

/// What is wrong with an output, if anything: a key that is gone, or a value that no reader of before expects.
fn broken(promised: &Keys, found: &Keys) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, words) in promised {
        match found.get(key) {
            // What it would be below is not known this time.
            None if above(key).any(|above| found.get(above).is_some_and(|now| now.contains("null"))) => {}
            None => faults.push(format!("{key} is gone")),
            Some(now) => {
                // Null is what is not known this time.
                let known = |now: &&String| {
                    *now == "null" || words.contains(*now) || words.iter().all(|word| word == "null")
                };
                faults.extend(now.iter().find(|now| !known(now)).map(|now| format!("{key} is {now} now")));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_goes_away_is_found_and_a_new_one_is_none_of_it() {
        let of = |text: &str| keys(&[serde_json::from_str(text).unwrap()]);
        let before = of(r#"{"a": 1, "b": [{"c": "x"}], "d": null}"#);
        assert_eq!(broken(&before, &of(r#"{"a": 2, "b": [{"c": null, "new": 1}], "d": 5}"#)), [""; 0]);
        assert_eq!(broken(&before, &of(r#"{"a": 2, "b": null, "d": null}"#)), [""; 0]);
        assert_eq!(
            broken(&before, &of(r#"{"b": [{"e": "x"}], "d": null}"#)),
            [".a is gone", ".b[].c is gone"]
        );
        assert_eq!(broken(&before, &of(r#"{"a": "1", "b": [{"c": "x"}], "d": null}"#)), [".a is string now"]);
    }
}
