//! The journal: every line is read or named, what was read comes out the same when it is written again, and nothing in
//! it reaches a terminal as a control character.

use std::collections::BTreeMap;

use monitor::engine::KillId;
use monitor::journal::{Entry, Line, Past, VERSION, last_numbers, read};

use super::files::{Contents, Files};

thread_local!(static JOURNALS: (Files, [Contents; 2]) = {
    let files = Files::new(&[("read", ""), ("written", "")]);
    let contents = ["read", "written"].map(|name| files.open(name));
    (files, contents)
});

pub fn holds(data: &[u8]) {
    JOURNALS.with(|(files, [given, written])| {
        given.set(data);
        let path = files.path("read");
        let (kills, skipped) = read(&path).unwrap();
        let numbers: Vec<usize> = skipped.iter().map(|line| line.number).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        assert!(numbers.iter().all(|number| (1..=super::lines(data)).contains(number)), "{numbers:?}");
        assert!(skipped.iter().all(|line| !line.why.is_empty() && !line.path.as_os_str().is_empty()));
        assert!(kills.len() + skipped.len() <= super::lines(data), "more than there are lines");
        assert!(
            kills.last_key_value().map(|(id, _)| *id)
                <= last_numbers(&path).unwrap().and_then(|last| last.kill)
        );
        kills.values().for_each(told);
        written.set(&again(&kills));
        assert_eq!(read(&files.path("written")).unwrap(), (kills, Vec::new()));
    });
}

fn told(past: &Past) {
    if let Some(decided) = &past.decision
        && let Ok(answer) = decided.decision.again()
    {
        let differences = decided.decision.differences(&answer);
        let same = answer.victims == decided.decision.victims
            && answer.threshold == Some(decided.decision.threshold);
        assert_eq!(differences.is_empty(), same, "{differences:?}");
    }
    if let Some(report) = past.report() {
        let text = report.to_string();
        let bad = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "in {text:?}");
    }
}

fn again(kills: &BTreeMap<KillId, Past>) -> Vec<u8> {
    let mut journal = Vec::new();
    for past in kills.values().cloned() {
        let entries = [
            past.decision.map(Entry::Decision),
            past.killed.map(Entry::Killed),
            past.report.map(Entry::Report),
        ];
        for entry in entries.into_iter().flatten() {
            serde_json::to_writer(&mut journal, &Line { v: VERSION, wall_ms: 0, entry }).unwrap();
            journal.push(b'\n');
        }
    }
    journal
}
