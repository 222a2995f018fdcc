//! Why a worker is where it is in the order, as a text over the screen. Pure.

use super::model::Model;
use super::overlay::Overlay;
use super::words::{duration, memory};
use crate::printable::printable;
use crate::worker::WorkerId;

/// Why a worker is where it is in the order.
pub(super) fn overlay(model: &Model, id: WorkerId) -> Overlay {
    let title = format!("Why {id} is where it is");
    let Some(worker) = model.workers.iter().find(|worker| worker.id == id) else {
        return Overlay::new(title, "It is gone.".to_owned());
    };
    let mut lines = Vec::new();
    let name = worker.name.as_deref().map(|name| format!(" {}", printable(name))).unwrap_or_default();
    let owner = worker.owner.as_deref().map_or_else(|| "nobody".to_owned(), printable);
    lines.push(format!("{id}{name}: {}, owner {owner}, pid {}", printable(&worker.kind), worker.pid));
    let peak = model.courses.get(&id).map(|course| course.peak);
    lines.push(format!("Memory {}, at most {}", memory(worker.memory), memory(peak)));
    if let Some(now) = model.status.as_ref().map(|status| status.now) {
        lines.push(format!(
            "Started {} ago, priority {}",
            duration(now.since(worker.started)),
            worker.priority
        ));
    }
    if let Some(rule) = &worker.rule {
        lines.push(format!("A worker by rule {}", printable(rule)));
    }
    lines.push(String::new());
    lines.extend(place(model, id));
    Overlay::new(title, lines.join("\n"))
}

/// What the agent says of its place.
fn place(model: &Model, id: WorkerId) -> Vec<String> {
    let Some(explanation) = &model.explanation else { return vec!["The agent has not said yet.".to_owned()] };
    let domain = printable(&explanation.domain);
    let answer = &explanation.answer;
    let name = id.to_string();
    let mut lines = Vec::new();
    if let Some(ranked) = answer.ranking.iter().find(|ranked| ranked.id == name) {
        lines.push(format!("In {domain} it is number {} of {}:", ranked.rank, answer.ranking.len()));
        lines.push(printable(&ranked.why));
        let retried = if ranked.should_retry { "It would be retried." } else { "It would not be retried." };
        lines.push(retried.to_owned());
    } else if let Some(passed) = answer.passed_over.iter().find(|passed| passed.id == name) {
        lines.push(format!("In {domain} it is no candidate: {}", printable(&passed.why)));
    } else {
        lines.push(format!("It is no candidate in {domain}."));
    }
    if let Some(reason) = &answer.reason {
        lines.push(String::new());
        lines.push(printable(reason));
    }
    lines.push(String::new());
    lines.push(format!("monitor explain --domain '{domain}' has the whole order."));
    lines
}
