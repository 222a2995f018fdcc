//! The chart of a kill as SVG: once from a minute before to ten seconds after, and once from the crossing to the end, where
//! its moments lie milliseconds apart. Lines are told apart by color and by their dashes, and named in the legend below,
//! in HTML, where text has room.

use maud::{Markup, html};

use super::foreign;
use super::marks::{Mark, from, rows};
use super::scale::{Axis, sizes, time, times};
use crate::engine::KillRecord;
use crate::retry::KilledBy;
use crate::series::{DomainSeries, Series, WorkerSeries};
use crate::units::{Bytes, Nanos};

/// Size of the drawing, and of its margins: left, right, top, bottom.
const SIZE: (f64, f64) = (720.0, 300.0);
const MARGIN: (f64, f64, f64, f64) = (76.0, 16.0, 12.0, 30.0);
/// A mark's number has this much room.
const LABEL: (f64, f64) = (20.0, 18.0);
/// How many workers are drawn: there are as many dashes in the style.
const LINES: usize = 6;

/// What one drawing shows.
struct View<'a> {
    name: &'static str,
    about: String,
    /// In nanoseconds from the crossing on.
    span: (i64, i64),
    zero: Nanos,
    domain: &'a DomainSeries,
    workers: &'a [WorkerSeries],
    marks: &'a [Mark],
    threshold: Bytes,
    /// The largest value that is drawn.
    most: Bytes,
}

/// Both drawings and their legend. `None`: nothing is known of the domain, or of when it was over its threshold.
pub(super) fn both(kill: &KillRecord, series: &Series, marks: &[Mark]) -> Option<Markup> {
    let zero = kill.began()?;
    let domain = series.domains.iter().find(|domain| domain.domain == kill.domain)?;
    let (first, last) = (domain.points.first()?.at, domain.points.last()?.at);
    let workers = &series.workers[..series.workers.len().min(LINES)];
    let used = domain.points.iter().map(|level| level.used);
    let most = used.chain([kill.threshold, kill.used]).max().unwrap_or(kill.threshold);
    let end = marks.iter().map(|mark| mark.at).max().unwrap_or(0).max(1_000_000);
    let begin = marks.iter().map(|mark| mark.at).min().unwrap_or(0).min(0);
    let room = (end - begin) / 5;
    let view = |name, about, span| View {
        name,
        about,
        span,
        zero,
        domain,
        workers,
        marks,
        threshold: kill.threshold,
        most,
    };
    let whole = view(
        "whole",
        format!(
            "From {} before {} to {} after it",
            plain(from(zero, first)),
            if kill.by == KilledBy::Kernel { "the kernel's choice" } else { "the crossing" },
            plain(from(zero, last))
        ),
        (from(zero, first).min(begin), from(zero, last).max(end)),
    );
    let near = view("near", "The kill itself".to_owned(), (begin - room, end + room));
    Some(html! {
        (figure(&whole, false))
        (figure(&near, true))
        (legend(workers, kill))
    })
}

fn plain(nanos: i64) -> String {
    time(nanos).trim_start_matches(['+', '\u{2212}']).to_owned()
}

fn figure(view: &View<'_>, numbered: bool) -> Markup {
    let x = Axis::new((view.span.0 as f64, view.span.1 as f64), (MARGIN.0, SIZE.0 - MARGIN.1));
    let places: Vec<f64> = view.marks.iter().map(|mark| x.place(mark.at as f64)).collect();
    let rows = if numbered { rows(&places, LABEL.0) } else { vec![0; places.len()] };
    let above =
        if numbered { rows.iter().max().map_or(0.0, |most| (*most as f64 + 1.0) * LABEL.1) } else { 0.0 };
    let top = MARGIN.2 + above;
    let height = SIZE.1 + above;
    let y = Axis::new((0.0, view.most.0 as f64 * 1.05), (height - MARGIN.3, top));
    let id = |part: &str| format!("{}-{part}", view.name);
    html! {
        figure {
            figcaption { (view.about) }
            div.scroll {
                svg viewBox=(format!("0 0 {} {height}", SIZE.0)) role="img" aria-labelledby=(id("title")) {
                    title id=(id("title")) {
                        (view.about) ": memory of the domain against its threshold, and of its largest workers"
                    }
                    clipPath id=(id("clip")) {
                        rect x=(MARGIN.0) y=(top) width=(SIZE.0 - MARGIN.0 - MARGIN.1)
                            height=(height - top - MARGIN.3) {}
                    }
                    (grid(view, &x, &y, (top, height)))
                    g clip-path=(format!("url(#{})", id("clip"))) { (lines(view, &x, &y)) }
                    (marked(&places, &rows, numbered, (top, height)))
                }
            }
        }
    }
}

fn grid(view: &View<'_>, x: &Axis, y: &Axis, (top, height): (f64, f64)) -> Markup {
    let right = SIZE.0 - MARGIN.1;
    html! {
        g.grid {
            @for size in sizes(view.most) {
                @let at = n(y.place(size.0 as f64));
                line x1=(MARGIN.0) x2=(right) y1=(at) y2=(at) {}
                text x=(MARGIN.0 - 8.0) y=(at) dy="0.35em" text-anchor="end" { (size.to_string()) }
            }
            @for tick in times(view.span.0, view.span.1) {
                @let at = n(x.place(tick as f64));
                line x1=(at) x2=(at) y1=(n(top)) y2=(n(height - MARGIN.3)) {}
                text x=(at) y=(n(height - 10.0)) text-anchor="middle" { (time(tick)) }
            }
        }
    }
}

fn lines(view: &View<'_>, x: &Axis, y: &Axis) -> Markup {
    let path = |points: &mut dyn Iterator<Item = (Nanos, Bytes)>| {
        let mut text = String::new();
        for (at, bytes) in points {
            let (px, py) = (x.place(from(view.zero, at) as f64), y.place(bytes.0 as f64));
            text += &format!("{}{} {}", if text.is_empty() { "M" } else { "L" }, n(px), n(py));
        }
        text
    };
    let threshold = n(y.place(view.threshold.0 as f64));
    html! {
        @for (number, worker) in view.workers.iter().enumerate() {
            path class=(format!("worker w{number}")) d=(path(&mut worker.points.iter().copied())) {}
            @for (at, bytes) in worker.points.iter().filter(|point| x.holds(from(view.zero, point.0) as f64)) {
                circle class=(format!("worker w{number}")) r="1.6" cx=(n(x.place(from(view.zero, *at) as f64)))
                    cy=(n(y.place(bytes.0 as f64))) {}
            }
        }
        path.used d=(path(&mut view.domain.points.iter().map(|level| (level.at, level.used)))) {}
        line.threshold x1=(MARGIN.0) x2=(SIZE.0) y1=(threshold) y2=(threshold) {}
    }
}

fn marked(places: &[f64], rows: &[usize], numbered: bool, (top, height): (f64, f64)) -> Markup {
    html! {
        g.marks {
            @for (number, (place, row)) in places.iter().zip(rows).enumerate() {
                @let y = top - (*row as f64 + 0.5) * LABEL.1;
                line x1=(n(*place)) x2=(n(*place)) y1=(n(if numbered { y } else { top })) y2=(n(height - MARGIN.3)) {}
                @if numbered {
                    circle.number cx=(n(*place)) cy=(n(y)) r="8" {}
                    text.number x=(n(*place)) y=(n(y)) dy="0.35em" text-anchor="middle" { (number + 1) }
                }
            }
        }
    }
}

fn legend(workers: &[WorkerSeries], kill: &KillRecord) -> Markup {
    let sample = |class: &str| {
        html! {
            svg.sample viewBox="0 0 30 10" aria-hidden="true" { line class=(class) x1="0" x2="30" y1="5" y2="5" {} }
        }
    };
    html! {
        ul.legend {
            li { (sample("used")) "Used by " (foreign(&kill.domain)) }
            li { (sample("threshold")) "Threshold" }
            @for (number, worker) in workers.iter().enumerate() {
                li {
                    (sample(&format!("worker w{number}")))
                    (worker.worker.to_string())
                    @if let Some(name) = &worker.name { " " (foreign(name)) }
                    @if let Some(owner) = &worker.owner { ", owner " (foreign(owner)) }
                    @if kill.victims.iter().any(|victim| victim.worker == worker.worker) {
                        strong { @if kill.dry_run { " (would be killed)" } @else { " (killed)" } }
                    }
                }
            }
        }
    }
}

/// A place, with a decimal.
fn n(place: f64) -> String {
    format!("{place:.1}")
}
