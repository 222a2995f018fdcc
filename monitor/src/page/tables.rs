//! The tables of a report's page: moments, ranking, memory users, and what to do.

use maud::{Markup, html};

use super::foreign;
use super::marks::Mark;
use super::scale::time;
use crate::engine::KillRecord;
use crate::report::text::span;
use crate::report::{Report, growth};

/// The moments of the kill, numbered as in the chart.
pub(super) fn stages(marks: &[Mark]) -> Markup {
    html! {
        @if !marks.is_empty() {
            section {
                h2 { "Moments" }
                div.scroll {
                    table {
                        thead { tr { th { "#" } th { "What" } th.right { "After the crossing" } } }
                        tbody {
                            @for (number, mark) in marks.iter().enumerate() {
                                tr { td { (number + 1) } td { (mark.what) } td.right { (time(mark.at)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The victims, and the workers that would have been next.
pub(super) fn ranking(report: &Report) -> Markup {
    let memory =
        |memory: Option<crate::units::Bytes>| memory.map_or_else(|| "-".to_owned(), |one| one.to_string());
    let all = report
        .candidates
        .map(|all| format!(", of {all} candidate{}", if all == 1 { "" } else { "s" }))
        .unwrap_or_default();
    html! {
        section {
            h2 { "Ranking" }
            @if report.kill.policy.is_empty() {
                p { "The kernel chose, by its own measure." }
            } @else {
                p { "In the order of the policy " (foreign(&report.kill.policy)) (all) "." }
            }
            div.scroll {
                table {
                    thead { tr { th { "#" } th { "Worker" } th { "Owner" } th.right { "Memory" } th { "Why" } } }
                    tbody {
                        @for (number, victim) in report.kill.victims.iter().enumerate() {
                            tr.victim {
                                td { (number + 1) }
                                td { (victim.worker.to_string()) @if let Some(name) = &victim.name { " " (foreign(name)) } }
                                td { (foreign(victim.owner.as_deref().unwrap_or("-"))) }
                                td.right { (memory(victim.memory)) }
                                td { (foreign(&victim.why)) }
                            }
                        }
                        @for next in &report.runners_up {
                            tr {
                                td { (next.rank) }
                                td { (foreign(&next.id)) }
                                td { (foreign(next.owner.as_deref().unwrap_or("-"))) }
                                td.right { (memory(next.memory)) }
                                td { (foreign(&next.why)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Who took the memory.
pub(super) fn growth(kill: &KillRecord) -> Markup {
    html! {
        @if let Some(grown) = kill.grown {
            section {
                h2 { "Who grew, in the " (span(growth::within(kill, grown))) " before the decision" }
                div.scroll {
                    table {
                        thead { tr { th { "What" } th.right { "Grew by" } } }
                        tbody {
                            @for (what, by) in growth::rows(kill) { tr { td { (what) } td.right { (by) } } }
                        }
                    }
                }
            }
        }
    }
}

/// What to do.
pub(super) fn advice(report: &Report) -> Markup {
    html! {
        @if !report.advice.is_empty() {
            section {
                h2 { "What to do" }
                ul { @for advice in &report.advice { li { (foreign(advice)) } } }
            }
        }
    }
}

/// The largest users of memory just after the signal.
pub(super) fn users(report: &Report) -> Markup {
    let killed = |pid| report.kill.victims.iter().any(|victim| Some(victim.pid) == pid);
    html! {
        @if let Some(users) = &report.users {
            section {
                h2 { "Largest memory users, just after the signal" }
                @if !users.complete { p { "Incomplete: time ran out." } }
                div.scroll {
                    table {
                        thead { tr { th.right { "Pid" } th.right { "Memory" } th { "Command" } } }
                        tbody {
                            @for user in &users.top {
                                tr.victim[killed(user.pid)] {
                                    td.right { (user.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())) }
                                    td.right { (user.memory.to_string()) }
                                    td { code { (foreign(&user.command)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
