//! What the box used over time, one strip for each way to run the tasks: an SVG without scripts. Pure.

use std::fmt::Write as _;

use super::{BOX, Outcome, PERCENT};

const WIDTH: f64 = 900.0;
const STRIP: f64 = 96.0;
const LEFT: f64 = 20.0;
const TOP: f64 = 24.0;

/// Those of the first seed.
pub(crate) fn draw(outcomes: &[Outcome]) -> String {
    let first: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.seed == 1).collect();
    let longest = first.iter().map(|outcome| outcome.makespan_ms).max().unwrap_or(1).max(1);
    let height = TOP + STRIP * first.len() as f64 + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"16\" fill=\"#333\">Memory used by forty tasks in a box of {} MiB, over time</text>\n",
        BOX >> 20
    );
    for (index, outcome) in first.iter().enumerate() {
        strip(&mut svg, outcome, TOP + STRIP * index as f64, longest);
    }
    let end = TOP + STRIP * first.len() as f64 + 16.0;
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{end}\" text-anchor=\"end\" fill=\"#666\">{} s</text>\n</svg>",
        WIDTH - LEFT,
        longest / 1000
    );
    svg
}

fn strip(svg: &mut String, outcome: &Outcome, top: f64, longest: u64) {
    let (bottom, high) = (top + STRIP - 8.0, STRIP - 34.0);
    let x = |ms: u64| LEFT + (WIDTH - 2.0 * LEFT) * ms as f64 / longest as f64;
    let y = |bytes: u64| bottom - high * bytes as f64 / BOX as f64;
    let end = x(outcome.makespan_ms);
    let mut points = format!("{LEFT:.1},{bottom:.1}");
    for (ms, bytes) in outcome.usage.iter().filter(|(ms, _)| *ms <= outcome.makespan_ms) {
        let _ = write!(points, " {:.1},{:.1}", x(*ms), y(*bytes));
    }
    let line = y(BOX / 100 * PERCENT);
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#222\">{}: {} kills, {:.0} s, {:.1}% of the work lost</text>\n\
         <polygon points=\"{points} {end:.1},{bottom:.1}\" fill=\"#7aa6c2\"/>\n\
         <line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{line:.1}\" y2=\"{line:.1}\" stroke=\"#b33\" stroke-dasharray=\"4 3\"/>\n\
         <line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\" stroke=\"#999\"/>\n",
        top + 14.0,
        outcome.way,
        outcome.kills,
        outcome.makespan_ms as f64 / 1000.0,
        100.0 * outcome.lost(),
        WIDTH - LEFT,
        WIDTH - LEFT,
    );
}
