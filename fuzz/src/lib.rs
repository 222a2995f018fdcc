//! What must hold of any bytes that reach one of monitor's readers, one function for each format. A function that
//! finds it does not hold panics and says what. `fuzz_targets/` gives them what libFuzzer makes up, and
//! `monitor/tests/corpus.rs`, which includes this file, the corpus and damaged copies of it.
//!
//! Only the public side of the library is used, the files included that its readers open.

mod btf;
mod config;
mod control_line;
mod files;
mod journal;
mod meminfo;
mod memory_stat;
mod record;
mod recording;
mod snapshot;

/// A format, as its fuzz target and its folder in the corpus are called, and what must hold of it.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("btf", btf::holds),
    ("config", config::holds),
    ("control_line", control_line::holds),
    ("journal", journal::holds),
    ("meminfo", meminfo::holds),
    ("memory_stat", memory_stat::holds),
    ("record", record::holds),
    ("recording", recording::holds),
    ("snapshot", snapshot::holds),
];

/// Gives `data` to the target of this name.
pub fn check(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, holds) = target.unwrap_or_else(|| panic!("no target {name}"));
    holds(data);
}

/// How many lines `data` has for somebody who looks for line 3 in it: the last one may be empty.
fn lines(data: &[u8]) -> usize {
    1 + data.iter().filter(|byte| **byte == b'\n').count()
}
