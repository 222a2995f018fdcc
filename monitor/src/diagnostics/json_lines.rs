//! The log as JSON, one object a line: `time`, `level`, `target`, `message`, and the fields of what is said. What is said in
//! JSON itself (a note) stands there as what it is.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::NOTE;

/// See the module.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let time = crate::wall_clock::rfc3339(SystemTime::now());
        let level = metadata.level().to_string().to_ascii_lowercase();
        writeln!(writer, "{}", line(time, level, metadata.target(), fields.0))
    }
}

fn line(time: String, level: String, target: &str, fields: Map<String, Value>) -> Value {
    let mut line = Map::new();
    line.insert("time".to_owned(), time.into());
    line.insert("level".to_owned(), level.into());
    line.insert("target".to_owned(), target.into());
    for (key, value) in fields {
        let note = (target == NOTE && key == "message").then(|| value.as_str()).flatten();
        match note.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            Some(note) => line.insert(NOTE.to_owned(), note),
            None => line.insert(key, value),
        };
    }
    Value::Object(line)
}

/// The fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_note_is_an_object_and_anything_else_a_message() {
        let fields = |text: &str| {
            let Value::Object(fields) = json!({"message": text, "pid": 7}) else { unreachable!() };
            fields
        };
        let of = |target: &str, text: &str| line("t".into(), "info".into(), target, fields(text));
        assert_eq!(
            of("note", r#"{"note":"lost","at":1,"records":2}"#),
            json!({"time": "t", "level": "info", "target": "note", "pid": 7,
                   "note": {"note": "lost", "at": 1, "records": 2}})
        );
        assert_eq!(of("note", "{x")["message"], "{x");
        assert_eq!(of("a", "{}")["message"], "{}");
    }
}
