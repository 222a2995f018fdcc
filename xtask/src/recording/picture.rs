//! The moving picture of a recording: SVG with CSS, which browsers play inside an image, in the colors that the reader's
//! system prefers. Who prefers no motion sees the end. Pure.

use std::fmt::Write as _;

use super::screen::{Line, Passing, Seen};

/// Lines that are seen at a time.
const ROWS: usize = 24;
/// Pixels from line to line, around all, and of a hundred letters.
const LINE: usize = 18;
const EDGE: usize = 14;
const LETTERS: usize = 785;
/// Seconds that the end is shown, before it begins again.
const PAUSE: f64 = 6.0;
/// The line in place changes too often to be read: not more often than this many seconds.
const STEP: f64 = 0.4;

const STYLE: &str = "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;\
    fill:#1f2328}rect{fill:#f6f8fa;stroke:#d1d9e0}.d{fill:#59636e}.a{fill:#d1242f}.p{fill:#0969da}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}rect{fill:#0d1117;stroke:#3d444d}.d{fill:#9198a1}.a{fill:#ff7b72}\
    .p{fill:#79c0ff}}.o{opacity:0}@media(prefers-reduced-motion:reduce){*{animation:none!important}}";

/// Draws it; `columns` is the width of the terminal.
pub(super) fn draw(seen: &Seen, columns: usize) -> String {
    let clock = Clock(seen.end + PAUSE);
    let (mut style, mut body) = (STYLE.to_owned(), String::new());
    let _ = write!(
        style,
        "#s *,#s{{animation-duration:{:.2}s}}#s *,#s{{animation-iteration-count:infinite;animation-timing-function:step-end}}",
        clock.0
    );
    for (number, line) in seen.lines.iter().enumerate() {
        let _ = write!(style, "@keyframes l{number}{{0%{{opacity:0}}{}{{opacity:1}}}}", clock.at(line.at));
        let (class, line) = (class(&line.text), cut(&line.text, columns));
        let _ = writeln!(body, "{}", text(number, &line, class, &format!("l{number}")));
    }
    for (number, passing) in thinned(&seen.passing).iter().enumerate() {
        let (from, to) = (clock.at(passing.from), clock.at(passing.to));
        let _ = write!(style, "@keyframes p{number}{{0%{{opacity:0}}{from}{{opacity:1}}{to}{{opacity:0}}}}");
        let line = cut(&passing.text, columns);
        let _ = writeln!(body, "{}", text(passing.below, &line, "p o", &format!("p{number}")));
    }
    let end = scrolled(seen.lines.len());
    style.push_str("@keyframes s{0%{transform:none}");
    for (number, Line { at, .. }) in
        seen.lines.iter().enumerate().filter(|(number, _)| scrolled(number + 1) > 0)
    {
        let _ =
            write!(style, "{}{{transform:translateY(-{}px)}}", clock.at(*at), scrolled(number + 1) * LINE);
    }
    let _ = write!(style, "}}#s{{transform:translateY(-{}px);animation-name:s}}", end * LINE);
    let (width, height) = (columns * LETTERS / 100 + 2 * EDGE, ROWS * LINE + 2 * EDGE);
    let (inner_width, inner_height) = (width - 2 * EDGE, ROWS * LINE);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"A recording of cargo xtask demo\">\n<!-- Made by `cargo xtask recording`: do not edit. -->\n\
         <style>{style}</style>\n<rect x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
         <svg x=\"{EDGE}\" y=\"{EDGE}\" width=\"{inner_width}\" height=\"{inner_height}\"><g id=\"s\">\n{body}</g></svg>\n</svg>\n",
        width - 1,
        height - 1,
    )
}

/// How far the sheet is moved when it has so many lines: the one in place is below them.
fn scrolled(lines: usize) -> usize {
    (lines + 1).saturating_sub(ROWS)
}

/// One pass of the animation, in seconds.
struct Clock(f64);

impl Clock {
    fn at(&self, seconds: f64) -> String {
        format!("{:.2}%", (seconds / self.0 * 100.0).clamp(0.01, 99.99))
    }
}

fn text(row: usize, text: &str, class: &str, animation: &str) -> String {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text y=\"{}\"{class} style=\"animation-name:{animation}\">{text}</text>", row * LINE + LINE - 5)
}

/// What does not fit into a line is left out, and that is shown.
fn cut(text: &str, columns: usize) -> String {
    match text.char_indices().nth(columns) {
        None => text.to_owned(),
        Some(_) => text.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Details are dimmer, and what is over the threshold is seen at once.
fn class(text: &str) -> &'static str {
    if text.contains("ABOVE: ") {
        "a"
    } else if text.starts_with("          ") {
        "d"
    } else {
        ""
    }
}

/// Each is shown until the next that is kept, as long as no line came between them.
fn thinned(all: &[Passing]) -> Vec<Passing> {
    let mut kept: Vec<Passing> = Vec::new();
    for passing in all {
        match kept.last_mut() {
            Some(last) if last.below == passing.below && passing.from - last.from < STEP => {
                last.to = passing.to
            }
            _ => kept.push(passing.clone()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_too_often_is_thinned_and_no_gap_is_left() {
        let passing = |from: f64, below| Passing { from, to: from + 0.1, below, text: String::new() };
        let kept = thinned(&[passing(1.0, 1), passing(1.1, 1), passing(1.5, 1), passing(1.6, 2)]);
        let times: Vec<(f64, f64)> = kept.iter().map(|kept| (kept.from, kept.to)).collect();
        assert_eq!(times, [(1.0, 1.2000000000000002), (1.5, 1.6), (1.6, 1.7000000000000002)]);
    }

    #[test]
    fn a_line_that_is_too_long_says_so() {
        assert_eq!((cut("abcd", 4).as_str(), cut("abcde", 4).as_str()), ("abcd", "abc…"));
    }

    #[test]
    fn text_is_no_markup_and_a_long_recording_scrolls() {
        let line = |number: usize| Line { at: number as f64, text: format!("<{number}&") };
        let seen = Seen { lines: (0..ROWS + 3).map(line).collect(), passing: Vec::new(), end: 30.0 };
        let picture = draw(&seen, 80);
        assert!(picture.contains(">&lt;0&amp;</text>") && !picture.contains("<0&"));
        assert!(picture.contains("#s{transform:translateY(-72px)"), "{picture}");
    }
}
