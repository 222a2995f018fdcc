//! The agent's facts as text for people: cells and tables. What is not known is `-`.

use std::fmt::Display;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use crate::printable::printable;
use crate::units::{Nanos, signed};

/// For what is not known.
pub(super) const UNKNOWN: &str = "-";

/// What there may be, control characters escaped: names come from other users, and a terminal obeys them.
pub(super) fn maybe(value: Option<impl Display>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| printable(&value.to_string()))
}

/// Bytes a second, with their sign.
pub(super) fn rate(growth: Option<i64>) -> String {
    maybe(growth.map(|growth| format!("{}/s", signed(growth))))
}

/// Yes or no.
pub(super) fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// The word for a fact that is one of a few, as the wire has it.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).map_or_else(|_| UNKNOWN.to_owned(), |value| text(&value))
}

/// A value of a note; the keys depend on the note's kind.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => UNKNOWN.to_owned(),
        Value::Bool(value) => yes(*value),
        Value::String(text) => printable(text),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(_) => printable(&value.to_string()),
    }
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
pub(super) fn between(from: Option<Nanos>, to: Option<Nanos>) -> Option<String> {
    let nanos = to?.0.checked_sub(from?.0)?;
    Some(match nanos {
        0..1_000_000 => format!("{} µs", nanos / 1000),
        1_000_000..1_000_000_000 => format!("{}.{} ms", nanos / 1_000_000, nanos % 1_000_000 / 100_000),
        _ => span(nanos / 1_000_000),
    })
}

/// At most so many characters; what is cut off at the end is `…`.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// The same, cut off in front: of a path the end tells.
pub(super) fn cut_front(text: &str, most: usize) -> String {
    let all = text.chars().count();
    if all <= most {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(all + 1 - most)).collect()
}

/// A table of text without borders; `right`: the headings of columns that are aligned to the right. Ends with a newline.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    body: impl IntoIterator<Item = [String; N]>,
    right: &[&str],
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in body {
        table.add_row(row);
    }
    for (column, heading) in table.column_iter_mut().zip(header) {
        column.set_padding((0, 2));
        if right.contains(&heading) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::units::Bytes;

    #[test]
    fn values_have_units_and_unknown_ones_are_dashes() {
        assert_eq!(maybe(Some(Bytes(327_680_000))), "312.5 MiB");
        assert_eq!(maybe(None::<Bytes>), "-");
        assert_eq!(span(1_500), "1.500 s");
        assert_eq!(span(3_725_000), "1 h 2 min");
        let between = |from, to| between(Some(Nanos(from)), Some(Nanos(to)));
        assert_eq!(between(1_000, 251_000).as_deref(), Some("250 µs"));
        assert_eq!(between(0, 2_500_000).as_deref(), Some("2.5 ms"));
        assert_eq!(between(5, 1), None);
        assert_eq!(super::between(None, Some(Nanos(5))), None);
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(text(&json!("a\u{1b}[2Jb\nc")), "a\\u{1b}[2Jb\\nc");
        assert_eq!(maybe(Some("a\u{1b}[2Jb\nc")), "a\\u{1b}[2Jb\\nc");
    }
}
