//! The example of docs/behavior.md#interfaces, what counts as a victim now, and the message for everything malformed.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn answer_to(snapshot: &Value) -> Answer {
    decide(Snapshot::parse(snapshot.to_string().as_bytes()).unwrap())
}

fn victims(answer: &Answer) -> Vec<(&str, bool)> {
    answer.victims.iter().map(|victim| (victim.id.as_str(), victim.should_retry)).collect()
}

fn ranking(answer: &Answer) -> Vec<&str> {
    answer.ranking.iter().map(|ranked| ranked.id.as_str()).collect()
}

fn message(text: impl AsRef<[u8]>) -> String {
    Snapshot::parse(text.as_ref()).unwrap_err().to_string()
}

/// The example of docs/behavior.md#interfaces.
fn example() -> Value {
    json!({"policy": "group_by_owner", "owner_tie_break": "newest",
        "domain": {"total": 16000, "used": 15500, "usage_threshold": 0.95, "min_memory_free": null},
        "workers": [
            {"id": "w1", "kind": "task", "owner": "a", "max_retries": -1, "started": 10, "memory": 400},
            {"id": "w2", "kind": "actor", "owner": "a", "max_restarts": 0, "started": 20, "memory": 300},
            {"id": "w3", "idle": true, "ever_leased": false, "started": 5, "memory": 2000}],
        "being_killed": ["w9"]})
}

#[test]
fn the_example_of_the_specification() {
    let answer = answer_to(&example());
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["threshold"], 15200);
    assert_eq!(json["above"], true);
    assert_eq!(json["victims"], json!([{"id": "w1", "should_retry": false}]));
    assert_eq!(ranking(&answer), ["w1", "w3", "w2"]);
    assert_eq!(json["ranking"][0]["rank"], 1);
    assert!(json["ranking"][0]["why"].is_string());
    assert_eq!(serde_json::from_value::<Answer>(json).unwrap(), answer);
}

#[test]
fn below_the_threshold_nobody_is_killed_and_the_ranking_is_given() {
    let mut snapshot = example();
    snapshot["domain"]["used"] = json!(15200);
    let answer = answer_to(&snapshot);
    assert!(!answer.above && answer.victims.is_empty());
    assert_eq!(ranking(&answer), ["w1", "w3", "w2"]);
    assert_eq!(answer.reason.as_deref(), Some("memory use does not exceed the threshold"));
}

#[test]
fn a_kill_in_flight_stops_the_next_and_its_worker_counts_no_more() {
    let mut snapshot = example();
    snapshot["being_killed"] = json!(["w9", "w1"]);
    let answer = answer_to(&snapshot);
    assert!(answer.above && answer.victims.is_empty());
    assert_eq!(answer.reason.as_deref(), Some("a kill is in flight: w1"));
    assert_eq!(ranking(&answer), ["w3", "w2"]);
    assert_eq!(answer.passed_over[0].id, "w1");
}

#[test]
fn unknown_is_never_above() {
    for key in ["total", "used"] {
        let mut snapshot = example();
        snapshot["domain"][key] = Value::Null;
        let answer = answer_to(&snapshot);
        assert!(!answer.above && answer.victims.is_empty(), "{key} unknown");
        assert!(answer.reason.unwrap().contains("unknown"));
    }
}

#[test]
fn without_candidates_it_says_so() {
    let mut snapshot = example();
    snapshot["workers"] = json!([]);
    let answer = answer_to(&snapshot);
    assert_eq!(answer.reason.as_deref(), Some("above threshold but no worker can be killed"));
    assert!(answer.above && answer.ranking.is_empty());
}

#[test]
fn by_time_counts_idle_workers_by_its_options() {
    let mut snapshot = example();
    snapshot["policy"] = json!("by_time");
    let answer = answer_to(&snapshot);
    assert_eq!(victims(&answer), [("w1", true), ("w2", false)], "300 above and a buffer of 800");
    assert_eq!(answer.passed_over[0].id, "w3");
    snapshot["idle_threshold"] = json!(2000);
    assert_eq!(victims(&answer_to(&snapshot)), [("w3", true)]);
    snapshot["idle_threshold"] = Value::Null;
    snapshot["workers"][2]["ever_leased"] = json!(true);
    assert_eq!(victims(&answer_to(&snapshot)), [("w3", true)]);
    snapshot["workers"][2]["memory"] = Value::Null;
    snapshot["kill_buffer"] = json!(100);
    assert_eq!(victims(&answer_to(&snapshot)), [("w3", true), ("w1", true)]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let snapshot = json!({"domain": {"total": 100, "used": 96}, "workers": [
        {"id": "task", "started": 1}, {"id": "actor", "kind": "actor", "started": 2}]});
    let snapshot = Snapshot::parse(snapshot.to_string().as_bytes()).unwrap();
    assert_eq!(snapshot.policy, Policy::default());
    assert_eq!(snapshot.domain.threshold, Some(Bytes(95)));
    assert_eq!(snapshot.workers[0].kind, Kind::Task { max_retries: Times::AtMost(3) });
    assert_eq!(snapshot.workers[1].kind, Kind::Actor { max_restarts: Times::AtMost(0) });
    assert_eq!(snapshot.workers[0].activity, Activity::Busy);
}

#[test]
fn ties_go_by_the_numbers_of_the_agent_or_else_by_the_file() {
    let order = |ids: [&str; 3]| {
        let workers: Vec<_> = ids.iter().map(|id| json!({"id": id, "owner": "a", "started": 1})).collect();
        let snapshot = json!({"domain": {"total": 100, "used": 96}, "workers": workers});
        ranking(&answer_to(&snapshot)).join(" ")
    };
    assert_eq!(order(["w10", "w9", "w11"]), "w11 w10 w9");
    assert_eq!(order(["w10", "w9", "other"]), "other w9 w10");
    assert_eq!(order(["w7", "w07", "w3"]), "w3 w07 w7", "two names of one number");
}

#[test]
fn a_usage_above_the_total_reads_as_the_total() {
    let snapshot = json!({"domain": {"total": 100, "used": 120}, "workers": []});
    assert_eq!(answer_to(&snapshot).used, Some(Bytes(100)));
}

#[test]
fn everything_malformed_names_its_place_and_its_field() {
    let domain = r#"{"total": 100, "used": 96}"#;
    let worker = |fields: &str| format!("{{\"domain\": {domain},\n \"workers\": [\n  {{{fields}}}]}}");
    let with_domain = |fields: &str| format!("{{\"domain\": {{{fields}}}, \"workers\": []}}");
    for (text, expected) in [
        (String::new(), "it is empty: expected a snapshot in JSON"),
        (" \n".to_owned(), "it is empty: expected a snapshot in JSON"),
        (
            worker(r#""id": "w1", "started": -5"#),
            "line 3, column 28: workers[0].started: invalid value: integer `-5`, expected u64",
        ),
        (worker(r#""id": "w1""#), "line 3, column 14: workers[0]: missing field `started`"),
        (
            worker(r#""id": "w1", "started": 5, "max_retires": 0"#),
            "line 3, column 42: workers[0].max_retires: unknown field `max_retires`, expected one of `id`, `kind`, `owner`, `max_retries`, `max_restarts`, `started`, `memory`, `idle`, `ever_leased`, `priority`, `memory_declared`, `last_task`, `memory_learned`, `memory_peak`, `growth`, `growth_minute`",
        ),
        (
            worker(r#""id": "w1", "started": 5, "max_retries": -2"#),
            "line 3, column 46: workers[0].max_retries: -2 is out of range: -1 (unlimited) or 0 to 4294967295",
        ),
        (
            worker(r#""id": "w1", "started": 5, "max_restarts": 1"#),
            "line 3, column 46: workers[0].max_restarts: is for actors, and this is a task: its key is max_retries",
        ),
        (
            worker(r#""max_retries": 1, "id": "w1", "kind": "actor", "started": 5"#),
            "line 3, column 19: workers[0].max_retries: is for tasks, and this is an actor: its key is max_restarts",
        ),
        (
            worker(r#""id": "w1", "kind": "job", "started": 5"#),
            "line 3, column 28: workers[0].kind: unknown variant `job`, expected `task` or `actor`",
        ),
        (worker(r#""id": "", "started": 5"#), "line 3, column 10: workers[0].id: is empty"),
        (
            worker(r#""id": "x", "started": 5}, {"id": "x", "started": 6"#),
            r#"line 3, column 37: workers[1].id: "x" is the id of workers[0] too"#,
        ),
        (
            with_domain(r#""used": 1, "total": 0"#),
            "line 1, column 33: domain.total: 0 means no limit, and memory without a limit can't run out",
        ),
        (with_domain(r#""total": 100"#), "line 1, column 25: domain: missing field `used`"),
        (
            with_domain(r#""total": 100, "used": 1, "usage_threshold": 1.5"#),
            "line 1, column 57: domain.usage_threshold: usage_threshold 1.5 is out of range: 0 to 1",
        ),
        (
            with_domain(r#""total": 100, "used": 1, "min_memory_free": 101"#),
            "line 1, column 57: domain.min_memory_free: min_memory_free 101 is more than the total of 100 bytes",
        ),
        (
            with_domain(r#""total": 100.5, "used": 1"#),
            "line 1, column 26: domain.total: invalid type: floating point `100.5`, expected u64",
        ),
        (
            format!("{{\"policy\": \"lifo\", \"domain\": {domain}, \"workers\": []}}"),
            "line 1, column 17: policy: unknown variant `lifo`, expected one of `group_by_owner`, `retriable_lifo`, `retriable_fifo`, `by_time`, `by_memory`",
        ),
        (format!("{{\"domain\": {domain}}}"), "line 1, column 38: missing field `workers`"),
        (format!("{} x", with_domain(r#""total": 1, "used": 1"#)), "line 1, column 52: trailing characters"),
        ("{\"domain\": ".to_owned(), "line 1, column 11: domain: EOF while parsing a value"),
        ("\"text\"".to_owned(), "line 1, column 6: invalid type: string \"text\", expected an object"),
        ("{\"domain\": [1, 1, 1, 1]".to_owned(), "domain: invalid type: sequence, expected an object"),
    ] {
        let message = message(&text);
        assert!(message.ends_with(expected), "{text}\n  gives {message}\n  not {expected}");
    }
    assert_eq!(message(b"{\n \"\xff\""), "line 2, column 3: it is not UTF-8 text");
}

#[test]
fn absurd_nesting_is_refused() {
    for open in ["[", "{\"workers\":[", "{\"domain\":{\"total\":"] {
        assert!(Snapshot::parse(open.repeat(100_000).as_bytes()).is_err());
    }
}

proptest! {
    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Snapshot::parse(&bytes);
    }

    #[test]
    fn no_broken_snapshot_panics(at in 0usize..600, byte: u8) {
        let mut bytes = example().to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(snapshot) = Snapshot::parse(&bytes) {
            let _ = decide(snapshot);
        }
    }
}

#[test]
fn what_else_is_known_of_memory_is_shown_and_what_was_learned_counts_where_nothing_is_declared() {
    let answer = answer_to(&json!({"policy": "by_memory", "domain": {"total": 1000, "used": 990},
        "workers": [{"id": "w1", "started": 1, "memory": 300, "memory_learned": 250, "memory_peak": 310, "growth": -5,
                     "growth_minute": 7},
                    {"id": "w2", "started": 2, "memory": 200, "memory_declared": 100, "memory_learned": 200}]}));
    assert_eq!(ranking(&answer), ["w2", "w1"], "100 above what it declared, 50 above what was learned");
    let json = serde_json::to_value(&answer).unwrap();
    let first = &json["ranking"][1];
    let facts = ["memory_learned", "memory_peak", "growth", "growth_minute"].map(|key| first[key].as_i64());
    assert_eq!(facts, [Some(250), Some(310), Some(-5), Some(7)]);
    assert_eq!(first.get("memory_declared"), None, "it is not known");
    assert_eq!(serde_json::from_value::<Answer>(json).unwrap(), answer);
}
