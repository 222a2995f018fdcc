//! Numbers and other people's text, short enough for a cell of the screen. Pure.

use std::time::Duration;

use ratatui::text::Span;

use crate::printable::printable;
use crate::units::Bytes;

/// For what is not known.
pub(super) const UNKNOWN: &str = "-";

pub(super) fn memory(bytes: Option<Bytes>) -> String {
    bytes.map_or_else(|| UNKNOWN.to_owned(), |bytes| bytes.to_string())
}

/// A second's growth: nothing for what stands still.
pub(super) fn growth(bytes: Option<i64>) -> String {
    match bytes {
        None => UNKNOWN.to_owned(),
        Some(bytes) if bytes.unsigned_abs() < 1024 => "0".to_owned(),
        Some(bytes) => {
            let sign = if bytes < 0 { '\u{2212}' } else { '+' };
            format!("{sign}{}/s", Bytes(bytes.unsigned_abs()))
        }
    }
}

/// In the two largest units.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A part of a whole in percent, rounded down.
pub(super) fn percent(part: Bytes, whole: Bytes) -> Option<u64> {
    let percent = (u128::from(part.0) * 100).checked_div(u128::from(whole.0))?;
    u64::try_from(percent).ok()
}

/// Other people's text, cut to so many cells; a cut is shown.
pub(super) fn cut(text: &str, cells: usize) -> String {
    let text = printable(text);
    if Span::raw(&text[..]).width() <= cells {
        return text;
    }
    let mut cut = String::new();
    for character in text.chars() {
        cut.push(character);
        if Span::raw(&cut[..]).width() + 1 > cells {
            cut.pop();
            break;
        }
    }
    cut.push('…');
    if cells == 0 { String::new() } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_its_cell_and_commands_nothing() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("x", 0), "");
        assert_eq!(cut("a\u{1b}[2J", 20), "a\\u{1b}[2J");
        for cells in 0..12 {
            assert!(Span::raw(cut("漢a字b漢c", cells)).width() <= cells);
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(growth(Some(-3 << 20)), "\u{2212}3.0 MiB/s");
        assert_eq!(growth(Some(12)), "0");
        assert_eq!(percent(Bytes(19), Bytes(20)), Some(95));
        assert_eq!(percent(Bytes(1), Bytes(0)), None);
        assert_eq!(duration(Duration::from_secs(3725)), "1 h 2 min");
    }
}
