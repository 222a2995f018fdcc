//! Pages for people: the report of a kill as one HTML file that stands alone, without scripts, readable in print, in the
//! dark and on a phone. `monitor kills N --html` writes it, and `/kills/N` serves it.
//!
//! Names, owners and command lines are other people's text: maud escapes markup, [`printable`] what reorders or hides
//! text, and `bdi` keeps a right-to-left name within its place. Pure: it is given what is known.

mod chart;
mod marks;
mod scale;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::marks::Mark;
use crate::engine::{KillRecord, VictimRecord};
use crate::printable::printable;
use crate::report::Report;
use crate::retry::KilledBy;
use crate::series::Series;

const STYLE: &str = include_str!("page/style.css");

/// No scripts, nothing from elsewhere: also where the file is opened from a disk.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The report of a kill. `series`: what was used over time around it, if that is known; `when`: the time of day.
#[must_use]
pub fn report(report: &Report, series: Option<&Series>, when: Option<&str>) -> String {
    let kill = &report.kill;
    let marks = Mark::of(kill, series);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title(kill)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(kill, when))
                    (charts(kill, series, &marks))
                    (tables::stages(&marks))
                    (tables::ranking(report))
                    (tables::growth(&report.kill))
                    (tables::advice(report))
                    (tables::users(report))
                    section {
                        h2 { "The whole report" }
                        pre { (report) }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn title(kill: &KillRecord) -> String {
    let verb = if kill.dry_run { "Would kill" } else { "Kill" };
    let by = if kill.by == KilledBy::Kernel { " by the kernel" } else { "" };
    format!("{verb} {}{by} in {}", kill.id, printable(&kill.domain))
}

/// Other people's text, in its place.
fn foreign(text: &str) -> Markup {
    html! { bdi { (printable(text)) } }
}

fn head(kill: &KillRecord, when: Option<&str>) -> Markup {
    let over = kill.used.saturating_sub(kill.threshold);
    html! {
        header {
            h1 { (title(kill)) }
            @for victim in &kill.victims {
                p.victim {
                    @if kill.dry_run { "Would be killed: " } @else { "Killed: " }
                    strong { (victim.worker.to_string()) }
                    @if let Some(name) = &victim.name { " " (foreign(name)) }
                    ", a " (printable(&victim.kind))
                    @if let Some(owner) = &victim.owner { " of owner " (foreign(owner)) }
                    ", pid " (victim.pid.to_string())
                    @if let Some(memory) = victim.memory { ", which held " (memory.to_string()) }
                    ". "
                    (retry(victim))
                }
            }
            @if kill.others > 0 {
                p.victim { (kill.others) " more, of other users." }
            }
            p {
                "Memory of " (foreign(&kill.domain)) ": " strong { (kill.used.to_string()) } " of "
                (kill.total.to_string()) " used"
                @if kill.by == KilledBy::Kernel {
                    " when it was last checked, with a threshold of "
                } @else {
                    ", " (over.to_string()) " over the threshold of "
                }
                (kill.threshold.to_string()) "."
                @if let Some(when) = when { " " (when) "." }
            }
        }
    }
}

fn retry(victim: &VictimRecord) -> &'static str {
    match (victim.kind.as_str(), victim.should_retry) {
        // Nobody of ours starts it again.
        (_, true) if victim.rule.is_some() => "Whatever started it may start it again.",
        ("actor", _) => "It is restarted while max_restarts remain.",
        (_, true) if victim.waits => "It is retried once there is more room than when it was killed.",
        (_, true) => "It is retried while oom_retries remain.",
        (_, false) => "It is not retried.",
    }
}

fn charts(kill: &KillRecord, series: Option<&Series>, marks: &[Mark]) -> Markup {
    let drawn =
        series.filter(|series| !series.is_empty()).and_then(|series| chart::both(kill, series, marks));
    html! {
        section {
            h2 { "Memory over time" }
            @match drawn {
                Some(drawn) => (drawn),
                None => p { "There is no chart: no samples of this time and domain are left. The agent keeps them for ten \
                             minutes, and the chart of a kill in its journal." },
            }
        }
    }
}

#[cfg(test)]
mod tests;
