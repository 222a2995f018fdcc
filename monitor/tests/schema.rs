//! `docs/protocol.schema.json` is made from the types of the protocol; here it is kept equal to them, and
//! `docs/protocol.md` complete. Needs the feature `schema`.

#![cfg(feature = "schema")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use monitor::config::Shown;
use monitor::control::answers::{Reloaded, Status, Why};
use monitor::control::protocol::{Admitted, Call, Push, Registered, Reply};
use monitor::engine::{Explanation, KillRecord, Note, WorkerView};
use monitor::learn::LearnedView;
use monitor::ray::RayletView;
use monitor::report::Report;
use monitor::series::Series;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The lines on the socket, and what their `ok` and `note` hold.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is wanted")]
struct Protocol {
    /// A line from a client.
    call: Call,
    /// A line from the agent that answers a call.
    reply: Reply,
    /// A line from the agent that answers no call.
    push: Push,
    /// What `note` of a push of that name holds.
    note: Note,
    /// What `ok` holds, by the call.
    answers: Answers,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is wanted")]
struct Answers {
    register: Registered,
    admit: Admitted,
    learned: Vec<LearnedView>,
    forget_learned: usize,
    unregister: (),
    set_idle: (),
    status: Status,
    config: Vec<Shown>,
    metrics: String,
    workers: Vec<WorkerView>,
    explain: Explanation,
    kills: Vec<KillRecord>,
    report: Report,
    samples: Series,
    why: Why,
    reload: Reloaded,
    ray_status: Option<Vec<RayletView>>,
    ray_detach: (),
    watch: (),
    give_way: (),
}

fn schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Protocol>()
}

#[test]
fn the_schema_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.schema.json");
    let expected = format!("{:#}\n", Value::from(schema()));
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert!(
        found == expected,
        "docs/protocol.schema.json differs from the types: run \
         `UPDATE_SCHEMA=1 cargo test -p monitor --features schema --test schema`"
    );
}

/// The words of a tagged enum, as they are on the wire.
fn words(schema: &Value, definition: &str) -> Vec<String> {
    let alternatives = schema["$defs"][definition]["oneOf"].as_array().unwrap();
    let word = |one: &Value| {
        let constant = |value: &Value| value["const"].as_str().map(str::to_owned);
        let tag = ["push", "note"].iter().find_map(|tag| constant(&one["properties"][tag]));
        let key = || one["required"].as_array()?.first()?.as_str().map(str::to_owned);
        constant(one).or(tag).or_else(key)
    };
    alternatives.iter().map(|one| word(one).unwrap_or_else(|| panic!("{definition}: {one}"))).collect()
}

#[test]
fn every_call_refusal_push_and_note_is_in_the_document() {
    let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md"));
    let schema = Value::from(schema());
    for definition in ["RefusalCode", "Push", "Note"] {
        let words = words(&schema, definition);
        assert!(words.len() > 3, "{definition}: {words:?}");
        for word in words {
            assert!(document.contains(&format!("`{word}`")), "docs/protocol.md does not say `{word}`");
        }
    }
}
