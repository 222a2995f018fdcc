//! Recordings of real runs lead to the kills that were real: the engine decides the same, release after release. They
//! were made by `tests/tests/ray_examples.rs`, which says how.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings").join(name)
}

fn replay(input: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin("monitor"));
    command.arg("replay").args(arguments).write_stdin(input).output().unwrap()
}

fn recording(name: &str) -> String {
    std::fs::read_to_string(data(&format!("{name}.recording.jsonl"))).unwrap()
}

/// The kills, and the names of the victims.
fn check(name: &str, victims: &[&str]) {
    let out = replay(&recording(name), &["-", "--json"]);
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""));
    let kills: Value = serde_json::from_slice(&out.stdout).unwrap();
    let expected = std::fs::read(data(&format!("{name}.kills.json"))).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    assert_eq!(kills, expected);
    let names: Vec<_> =
        kills.as_array().unwrap().iter().map(|kill| kill["victims"][0]["name"].as_str().unwrap()).collect();
    assert_eq!(names, victims);
}

#[test]
fn a_leaking_task_is_killed_once() {
    check("leak", &["leak"]);
}

#[test]
fn of_two_actors_only_the_retriable_one_is_killed() {
    check("two_actors", &["first"]);
}

#[test]
fn of_two_callers_the_larger_group_loses_its_newest_each_time() {
    check("two_callers", &["b4", "a4", "b3"]);
}

#[test]
fn the_kills_are_a_table_for_people() {
    let file = data("leak.recording.jsonl");
    let out = replay("", &[file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains(" events\nKILL  WHEN") && text.contains("w1"), "{text}");
}

/// A hook was refused, and had again: what depends on hooks changes in the middle of a run.
#[test]
fn settings_that_follow_from_the_hooks_may_change() {
    let whole = recording("leak");
    let first = whole.lines().next().unwrap();
    let mut settings: Value = serde_json::from_str(first).unwrap();
    settings["event"]["gears"] = "none".into();
    settings["event"]["brake"] = true.into();
    let input = format!("{first}\n{settings}\n{first}\n");
    let out = replay(&input, &["-", "--json"]);
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn what_is_malformed_is_named_with_its_line() {
    let whole = recording("leak");
    let lines: Vec<&str> = whole.lines().collect();
    let torn = &whole[..whole.len() - 10];
    let late = format!("{}\n{}\n{}\n", lines[0], lines[5], lines[1]);
    let in_itself = lines[1].replace("\"parent\":null", "\"parent\":1");
    let other_settings = lines[0].replace("\"refresh_ms\":", "\"refresh_ms\":9");
    assert_ne!(other_settings, lines[0]);
    let later = r#"{"v":1,"now":99999999999999,"event":{"event":"reparented","domain":1,"parent":1}}"#;
    let other_event = lines[1].replace("domain_added", "weather");
    for (input, said) in [
        (lines[1].to_owned(), "standard input:1: a recording begins with the settings"),
        (
            format!("{}\n{other_settings}\n", lines[0]),
            "standard input:2: a recording begins with the settings",
        ),
        (format!("{}\nnonsense\n", lines[0]), "standard input:2: expected"),
        (format!("{}\n\n", lines[0]), "standard input:2: EOF"),
        (format!("{}\n{other_event}\n", lines[0]), "standard input:2: unknown variant `weather`"),
        (format!("{}\n{in_itself}\n", lines[0]), "standard input:2: domain 1 lies in itself"),
        (format!("{}\n{}\n{later}\n", lines[0], lines[1]), "standard input:3: domain 1 lies in itself"),
        (late, "standard input:3: its time"),
        (lines[0].replace("\"v\":1", "\"v\":2"), "standard input:1: version 2"),
        (lines[0].replace("\"v\":1", "\"v\":1,\"x\":1"), "standard input:1: unknown field `x`"),
        (torn.to_owned(), &format!("standard input:{}: EOF", lines.len())),
    ] {
        let out = replay(&input, &["-"]);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && stderr.contains(said), "{said}: {stderr}");
        assert!(out.stdout.is_empty());
    }
    let out = replay("", &["/no/such/file"]);
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn a_domain_may_lie_in_one_that_it_held_before() {
    let whole = recording("leak");
    let lines: Vec<&str> = whole.lines().collect();
    let told = |event: &str| format!(r#"{{"v":1,"now":99999999999999,"event":{{"event":{event}}}}}"#);
    let inner = told(r#""domain_added","domain":2,"name":"b","parent":1"#);
    let removed = told(r#""domain_removed","domain":1"#);
    let outer = told(r#""domain_added","domain":1,"name":"a","parent":2"#);
    let turned = [lines[0], lines[1], &inner, &removed, &outer].map(|line| format!("{line}\n")).concat();
    let out = replay(&turned, &["-"]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
}
