//! Frames as they are drawn, at several sizes, and what keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent};
use serde_json::json;

use super::message::Want;
use super::model::Focus;
use super::order::{Row, Sort};
use super::worker::Worker;
use super::*;
use crate::control::answers::Status;
use crate::engine::{Explanation, KillRecord};
use crate::series::Series;
use crate::worker::WorkerId;

const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

/// As an agent says it that has run for ten minutes.
fn status(now: u64, used: u64) -> Status {
    let domain = |name: &str, used: u64, error: Option<&str>| {
        json!({"domain": name, "total": 1024 * MIB, "used": used, "threshold": 973 * MIB, "above": used > 973 * MIB,
               "estimate": used, "read_at": now, "error": error, "workers": 3, "kill": null})
    };
    serde_json::from_value(json!({
        "version": "0.1.0", "pid": 42, "now": now, "uptime_ms": 600_000, "policy": "group_by_owner",
        "refresh_ms": 250, "kills": true, "dry_run": false, "protects": true, "survival": [],
        "probes": [{"name": "rss_stat", "tracepoint": "kmem:rss_stat", "state": "attached", "counts": true}],
        "domains": [domain("node", used, None), domain("cgroup:/jobs/a", used / 2, None),
                    domain("cgroup:/gone", 0, Some("no such file"))],
        "workers": 3, "processes": {"with_pidfd": 3, "without_pidfd": 0, "most": 100, "fork_limited_users": 0},
        "kills_in_flight": 0, "drops": [],
        "brake": {"mode": "off", "on": false, "held": [], "releaser": null},
        "watchdog": true,
        "counters": crate::engine::Counters { kills: 2, killed: 2, ..Default::default() },
        "faults": crate::control::answers::Faults::default(),
        "journal": null, "socket": {"path": "/s", "lost": 0, "error": null},
    }))
    .unwrap()
}

fn worker(id: u64, owner: Option<&str>, name: &str, mib: u64, at: u64) -> Worker {
    serde_json::from_value(json!({
        "id": format!("w{id}"), "kind": "task", "owner": owner, "name": name, "pid": 1000 + id, "processes": [],
        "uid": 0, "attempt": 0, "state": if id == 3 { "idle" } else { "running" }, "started": id * SECOND,
        "retriable": true, "memory": mib * MIB,
        "sample": {"bytes": mib * MIB, "measured": "pss", "at": at}, "domains": ["node"],
    }))
    .unwrap()
}

fn explanation() -> Explanation {
    let ranked = |id: u64, rank: usize, owner: &str| {
        json!({"id": format!("w{id}"), "rank": rank, "kind": "task", "owner": owner, "memory": 1, "should_retry": true,
               "why": format!("newest of the workers of {owner}")})
    };
    serde_json::from_value(json!({
        "domain": "node", "policy": "group_by_owner", "total": 1024 * MIB, "used": 500 * MIB, "threshold": 973 * MIB,
        "above": false, "victims": [], "reason": "Memory is fine", "passed_over": [],
        "ranking": [ranked(2, 1, "train"), ranked(1, 2, "train"), ranked(4, 3, "etl")],
    }))
    .unwrap()
}

fn kill(id: u64, name: &str, at: u64) -> KillRecord {
    serde_json::from_value(json!({
        "id": id, "domain": "node", "policy": "group_by_owner", "trigger": "crossing", "total": 1024 * MIB,
        "victims": [{"worker": format!("w{id}"), "pid": 9, "should_retry": true, "memory": 200 * MIB, "kind": "task",
                     "why": "", "name": name, "owner": "train"}],
        "used": 980 * MIB, "threshold": 973 * MIB, "confirmed": true,
        "times": {"crossing": at, "decision": at, "signal": at, "dead": at, "memory_back": at},
    }))
    .unwrap()
}

fn series() -> Series {
    let points: Vec<_> =
        (0..600).map(|second| json!([second * SECOND, (300 + second) * MIB, 973 * MIB])).collect();
    serde_json::from_value(
        json!({"domains": [{"domain": "node", "points": points}], "workers": [], "pauses": []}),
    )
    .unwrap()
}

/// A model that has heard two rounds.
fn model() -> Model {
    let mut model = Model::default();
    model.hear(Message::Series(Box::new(series())));
    for (now, mib) in [(600, 100), (601, 150)] {
        let now = now * SECOND;
        model.hear(Message::Status(Box::new(status(now, 900 * MIB))));
        model.hear(Message::Workers(vec![
            worker(1, Some("train"), "load", mib, now),
            worker(2, Some("train"), "שלום 漢字 \u{202e}evil\u{1b}[2J", 300, now),
            worker(3, None, "spare", 5, now),
            worker(
                4,
                Some("etl"),
                "a name that is much longer than any column of a small screen would be",
                40,
                now,
            ),
        ]));
    }
    model.hear(Message::Explanation(Box::new(explanation())));
    model.hear(Message::Kills(vec![kill(1, "old", 100 * SECOND), kill(2, "new", 590 * SECOND)]));
    model.prepare();
    model
}

fn press(model: &mut Model, code: KeyCode) -> Outcome {
    let outcome = keys::press(model, KeyEvent::from(code));
    model.prepare();
    outcome
}

fn type_in(model: &mut Model, text: &str) {
    for character in text.chars() {
        press(model, KeyCode::Char(character));
    }
}

#[test]
fn a_frame_at_80_by_24() {
    insta::assert_snapshot!(frame(&model(), (80, 24)));
}

#[test]
fn a_frame_at_200_by_60() {
    insta::assert_snapshot!(frame(&model(), (200, 60)));
}

#[test]
fn a_frame_at_40_by_12() {
    insta::assert_snapshot!(frame(&model(), (40, 12)));
}

#[test]
fn no_size_is_too_small_and_nothing_commands_the_terminal() {
    let mut model = model();
    let overlays = [KeyCode::Char('?'), KeyCode::Char('e'), KeyCode::Char('x')];
    for code in overlays {
        press(&mut model, code);
        for width in [1, 2, 7, 20, 39, 81, 300] {
            for height in [1, 2, 3, 5, 9, 25, 100] {
                let text = frame(&model, (width, height));
                assert!(!text.chars().any(|c| crate::printable::is_hidden(c) && c != '\n'), "{text:?}");
            }
        }
        press(&mut model, KeyCode::Esc);
    }
}

#[test]
fn workers_stand_by_owner_in_the_order_in_which_they_would_be_killed() {
    let model = model();
    let order: Vec<String> = model
        .rows
        .iter()
        .map(|row| match row {
            Row::Owner { owner, .. } => owner.clone().unwrap_or_default(),
            Row::Worker { id, .. } => id.to_string(),
        })
        .collect();
    assert_eq!(order, ["train", "w2", "w1", "etl", "w4", "", "w3"]);
    assert_eq!(model.courses[&WorkerId(1)].growth, Some(50 << 20));
    assert_eq!(model.chosen_worker, Some(WorkerId(2)));
}

#[test]
fn keys_sort_filter_and_explain() {
    let mut model = model();
    press(&mut model, KeyCode::Char('s'));
    assert_eq!(model.sort, Sort::Memory);
    let first = |model: &Model| model.rows.iter().find_map(Row::worker);
    assert_eq!(first(&model), Some(WorkerId(2)));
    press(&mut model, KeyCode::Char('s'));
    assert_eq!(first(&model), Some(WorkerId(1)), "by growth");

    press(&mut model, KeyCode::Char('/'));
    type_in(&mut model, "etlq");
    assert!(model.typing && model.rows.is_empty());
    press(&mut model, KeyCode::Backspace);
    assert_eq!(press(&mut model, KeyCode::Enter), Outcome::Nothing);
    assert_eq!((model.rows.len(), model.chosen_worker), (1, Some(WorkerId(4))));
    let text = frame(&model, (80, 24));
    assert!(text.contains("only: etl") && !text.contains("load"), "{text}");

    press(&mut model, KeyCode::Char('e'));
    let text = frame(&model, (80, 24));
    assert!(text.contains("number 3 of 3") && text.contains("newest of the workers of etl"), "{text}");
    press(&mut model, KeyCode::Esc);
    press(&mut model, KeyCode::Esc);
    assert_eq!((model.filter.len(), model.rows.len()), (0, 4));
    assert_eq!(press(&mut model, KeyCode::Char('q')), Outcome::Quit);
}

#[test]
fn the_report_of_a_kill_is_asked_for_and_shown() {
    let mut model = model();
    press(&mut model, KeyCode::Tab);
    assert_eq!(model.focus, Focus::Kills);
    press(&mut model, KeyCode::Down);
    assert_eq!(press(&mut model, KeyCode::Enter), Outcome::Ask(Want::Report(1)));
    assert!(frame(&model, (80, 24)).contains("Asking the agent"));
    // Of another kill: not this one.
    model.hear(Message::Report { kill: 2, text: "two".to_owned() });
    assert!(!frame(&model, (80, 24)).contains("two"));
    let text = (1..=100).map(|line| format!("line {line} \u{1b}[31m\n")).collect();
    model.hear(Message::Report { kill: 1, text });
    let shown = frame(&model, (80, 24));
    assert!(
        shown.contains("Report of kill 1") && shown.contains("line 1 ") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    press(&mut model, KeyCode::PageDown);
    let shown = frame(&model, (80, 24));
    assert!(shown.contains("line 11 ") && !shown.contains("line 9 "), "{shown}");
    assert_eq!(press(&mut model, KeyCode::Char('q')), Outcome::Nothing, "it closes the report only");
    assert_eq!(press(&mut model, KeyCode::Char('q')), Outcome::Quit);
}

#[test]
fn domains_are_gone_through() {
    let mut model = model();
    for domain in ["cgroup:/jobs/a", "cgroup:/gone", "node"] {
        let outcome = press(&mut model, KeyCode::Right);
        assert_eq!(outcome, Outcome::Ask(Want::Domain(domain.to_owned())));
    }
    press(&mut model, KeyCode::Left);
    assert_eq!(model.shown_domain(), Some("cgroup:/gone"));
}

#[test]
fn an_agent_that_is_gone_is_said_and_one_that_is_back_is_shown() {
    let mut model = model();
    model.hear(Message::Lost("no agent listens at /s".to_owned()));
    let text = frame(&model, (80, 24));
    assert!(
        text.contains("no agent listens at /s") && text.contains("train"),
        "what was known stays: {text}"
    );
    assert!(text.contains("NOT HEARD") && !text.contains("protects"), "and nothing is promised: {text}");
    model.hear(Message::Status(Box::new(status(700 * SECOND, MIB))));
    assert!(!frame(&model, (80, 24)).contains("no agent"));
    let empty = frame(&Model::default(), (80, 24));
    assert!(empty.contains("asking the agent"), "{empty}");
}

#[test]
fn a_domain_over_its_threshold_is_said_without_colours() {
    let mut model = model();
    model.hear(Message::Status(Box::new(status(700 * SECOND, 1000 * MIB))));
    let text = frame(&model, (80, 24));
    assert!(text.contains("OVER THE THRESHOLD") && text.contains("102%"), "{text}");
}

#[test]
fn ten_thousand_workers_are_one_frame() {
    let mut model = model();
    let many: Vec<Worker> = (0..10_000)
        .map(|id| worker(id, Some(&format!("owner {}", id % 100)), "x", id % 500, 601 * SECOND))
        .collect();
    model.hear(Message::Workers(many));
    model.prepare();
    press(&mut model, KeyCode::End);
    let text = frame(&model, (80, 24));
    assert_eq!(text.lines().count(), 24);
    assert_eq!(model.rows.len(), 10_100);
}
