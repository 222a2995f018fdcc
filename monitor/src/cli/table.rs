//! JSON of the agent's as text for people: cells and tables. What is missing, null or of an unknown form is `-`,
//! so that an agent of another version can be read too.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use crate::printable::printable;
use crate::units::Bytes;

/// For what is not known.
pub(super) const UNKNOWN: &str = "-";

/// The form of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// A size, aligned to the right.
    Bytes,
}

impl Form {
    fn cell(self, value: &Value) -> String {
        match self {
            Self::Text => text(value),
            Self::Bytes => bytes(value),
        }
    }
}

/// Text as it is, control characters escaped: names come from other users, and a terminal obeys them.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => UNKNOWN.to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => printable(text),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(_) => printable(&value.to_string()),
    }
}

/// A size.
pub(super) fn bytes(value: &Value) -> String {
    value.as_u64().map_or_else(|| text(value), |size| Bytes(size).to_string())
}

/// A time span in milliseconds.
pub(super) fn millis(value: &Value) -> String {
    value.as_u64().map_or_else(|| text(value), span)
}

/// A time span with the units that matter.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..10 => format!("{}.{:03} s", seconds, millis % 1000),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The time from one point to another of the agent's clock.
pub(super) fn between(from: &Value, to: &Value) -> String {
    match (from.as_u64(), to.as_u64()) {
        (Some(from), Some(to)) if to >= from => match to - from {
            nanos @ 0..1_000_000 => format!("{} µs", nanos / 1000),
            nanos @ 1_000_000..1_000_000_000 => {
                format!("{}.{} ms", nanos / 1_000_000, nanos % 1_000_000 / 100_000)
            }
            nanos => span(nanos / 1_000_000),
        },
        _ => UNKNOWN.to_owned(),
    }
}

/// A table of objects: each column has a heading, the key of its value, and its form. Ends with a newline.
pub(super) fn table(rows: &[Value], columns: &[(&str, &str, Form)]) -> String {
    let header = columns.iter().map(|(heading, ..)| (*heading).to_owned()).collect();
    let body = rows.iter().map(|row| columns.iter().map(|(_, key, form)| form.cell(&row[*key])).collect());
    let right: Vec<_> = columns.iter().map(|(.., form)| *form == Form::Bytes).collect();
    lines(header, body, &right)
}

/// A table of text without borders; `right`: which columns are aligned to the right. Ends with a newline.
pub(super) fn lines(header: Vec<String>, body: impl Iterator<Item = Vec<String>>, right: &[bool]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in body {
        table.add_row(row);
    }
    for (column, &right) in table.column_iter_mut().zip(right.iter().chain(std::iter::repeat(&false))) {
        column.set_padding((0, 2));
        if right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The list below `key`, or the value itself; what is not a list is an empty one.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).unwrap_or(value).as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_units_and_unknown_ones_are_dashes() {
        assert_eq!(bytes(&json!(327_680_000)), "312.5 MiB");
        assert_eq!(bytes(&json!(null)), "-");
        assert_eq!(bytes(&json!("lots")), "lots");
        assert_eq!(millis(&json!(1_500)), "1.500 s");
        assert_eq!(millis(&json!(3_725_000)), "1 h 2 min");
        assert_eq!(between(&json!(1_000), &json!(251_000)), "250 µs");
        assert_eq!(between(&json!(0), &json!(2_500_000)), "2.5 ms");
        assert_eq!(between(&json!(5), &json!(1)), "-");
        assert_eq!(between(&json!(5), &json!(null)), "-");
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(text(&json!("a\u{1b}[2Jb\nc")), "a\\u{1b}[2Jb\\nc");
    }
}
