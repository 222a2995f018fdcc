//! Text of others, made safe to show. Names, owners and reasons come from files and from other users, and a terminal
//! obeys control characters, reorders a line by bidirectional ones, and shows nothing of invisible ones.

use std::fmt::Write as _;

/// The text as part of a line: with its control, bidirectional and invisible characters escaped.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut printable, c| {
        if is_hidden(c) {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
        printable
    })
}

/// Whole output, which may have many lines: what [`printable`] would escape, but line ends and tabs, as `\uXXXX`. JSON
/// stays the same JSON by that.
#[must_use]
pub fn output(text: &str) -> String {
    let mut units = [0; 2];
    text.chars().fold(String::with_capacity(text.len()), |mut printable, c| {
        if is_hidden(c) && !matches!(c, '\n' | '\t') {
            for unit in c.encode_utf16(&mut units) {
                // A `String` takes everything.
                let _ = write!(printable, "\\u{unit:04x}");
            }
        } else {
            printable.push(c);
        }
        printable
    })
}

/// Control characters, and those that reorder or break a line or cannot be seen (Unicode's format characters, fillers
/// and tags).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{200b}\u{2066}\u{feff}\u{e0041}\nä漢🙂";

    #[test]
    fn a_part_of_a_line_has_no_line_end() {
        assert_eq!(
            printable(NASTY),
            r"a\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{200b}\u{2066}\u{feff}\u{e0041}\nä漢🙂"
        );
    }

    #[test]
    fn json_stays_the_same_json() {
        let json = serde_json::json!({ "name": NASTY, NASTY: 1 });
        let text = serde_json::to_string_pretty(&json).unwrap();
        let shown = output(&text);
        assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
    }
}
