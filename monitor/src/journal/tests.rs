//! What is written is read back: after rotations, after a crash in the middle of a line, after a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::engine::{Decision, Freed, KillId, Settings};
use crate::report::tests::{decision, record};
use crate::units::{Bytes, Nanos, Pid};

/// Writes a decision and an end for each kill, waiting for one before the next: the queue is shorter than some tests.
fn write(path: &Path, max: u64, kills: impl IntoIterator<Item = u64>) -> JournalView {
    let writer = Writer::start(path, Bytes(max)).unwrap();
    for (done, kill) in (1..).zip(kills) {
        writer.decision(Arc::new(Decision { kill: KillId(kill), ..decision() }));
        writer.killed(KillRecord { id: KillId(kill), ..record() });
        while writer.view().written + writer.view().lost < 2 * done {
            std::thread::yield_now();
        }
    }
    writer.view()
}

#[test]
fn what_is_written_is_read_back_and_comes_out_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("below/journal");
    assert_eq!(write(&path, 1 << 20, [1, 2]).written, 4);
    let (kills, skipped) = read(&path).unwrap();
    assert_eq!((kills.len(), skipped), (2, Vec::new()));
    let decided = kills[&KillId(2)].decision.as_ref().unwrap();
    assert_eq!(decided.decision, Decision { kill: KillId(2), ..decision() });
    assert!(!decided.ranking.is_empty());
    assert_eq!(decided.decision.differences(&decided.decision.again().unwrap()), Vec::<String>::new());
    assert_eq!(kills[&KillId(2)].killed.as_deref(), Some(&KillRecord { id: KillId(2), ..record() }));
    assert!(kills[&KillId(1)].report().unwrap().runners_up.len() == 2);
    let users = BTreeMap::from_iter(decision().candidates.iter().map(|input| (input.worker, input.uid)));
    let last = Last { kill: Some(KillId(2)), worker: WorkerId(3), users, blocks: BTreeMap::new() };
    assert_eq!(last_numbers(&path).unwrap(), Some(last.clone()));
    let writer = Writer::start(&path, Bytes(1 << 20)).unwrap();
    writer.workers(Given::UpTo(WorkerId(1000)));
    writer.workers(Given::Block { last: WorkerId(2000), uid: 7 });
    drop(writer);
    let blocks = BTreeMap::from([(WorkerId(2000), 7)]);
    assert_eq!(last_numbers(&path).unwrap(), Some(Last { worker: WorkerId(2000), blocks, ..last }));
    assert_eq!(read(&path).unwrap(), (kills, Vec::new()), "it is no kill");
}

/// The wall clock is set back by years, before 1970, and ahead between the lines of each kill: the order of the lines and
/// what is read from them are those of a clock that goes on. Times of decisions and reports are of the monotonic clock.
#[test]
fn settings_of_the_wall_clock_change_nothing_but_what_is_said_of_it() {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    fn jumping() -> SystemTime {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let year = Duration::from_secs(365 * 86_400);
        match CALLS.fetch_add(1, Ordering::Relaxed) {
            0 => UNIX_EPOCH + 60 * year,
            1 => UNIX_EPOCH - year,
            calls => UNIX_EPOCH + u32::try_from(40 - calls).unwrap() * year,
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (jumps, steady) = (directory.path().join("jumps"), directory.path().join("steady"));
    for (path, wall) in [(&jumps, jumping as fn() -> SystemTime), (&steady, || UNIX_EPOCH)] {
        let writer = Writer::start_at(path, Bytes(1 << 20), wall).unwrap();
        for kill in [3, 4, 5] {
            writer.decision(Arc::new(Decision { kill: KillId(kill), ..decision() }));
            writer.killed(KillRecord { id: KillId(kill), ..record() });
        }
    }
    let lines = |path: &Path| -> Vec<Line> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let wall: Vec<u64> = lines(&jumps).iter().map(|line| line.wall_ms / (365 * 86_400_000)).collect();
    assert_eq!(wall, [60, 0, 38, 37, 36, 35], "it did jump");
    let entries = |path| lines(path).into_iter().map(|line| line.entry).collect::<Vec<_>>();
    assert_eq!(entries(&jumps), entries(&steady));
    assert_eq!(read(&jumps).unwrap(), read(&steady).unwrap());
    assert_eq!(last_numbers(&jumps).unwrap(), last_numbers(&steady).unwrap());
    assert_eq!(last_numbers(&jumps).unwrap().unwrap().kill, Some(KillId(5)));
}

#[test]
fn who_was_held_and_for_how_long_is_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let of = |pid| Release { at: Nanos(9), worker: WorkerId(1), pid: Pid(pid), held_ns: 8, why: Freed::Room };
    let writer = Writer::start(&path, Bytes(1 << 20)).unwrap();
    writer.continued(vec![of(1), of(2)]);
    drop(writer);
    let line: Line = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(line.entry, Entry::Continued(vec![of(1), of(2)]));
    assert_eq!(read(&path).unwrap(), (std::collections::BTreeMap::new(), Vec::new()), "it is no kill");
}

#[test]
fn other_inputs_do_not_come_out_the_same() {
    let mut changed = decision();
    changed.candidates.retain(|input| input.worker.to_string() != changed.victims[0].id);
    let differences = changed.differences(&changed.again().unwrap());
    assert_eq!(differences, ["the victims were w2 (retry) and are w1 (no retry)"]);
    let moved = Decision { settings: Settings { usage_threshold: 0.5, ..Settings::default() }, ..decision() };
    assert_eq!(moved.differences(&moved.again().unwrap()), ["the threshold was 950 bytes and is 500"]);
}

#[test]
fn a_torn_last_line_is_skipped_and_said_and_the_next_start_cuts_it_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    write(&path, 1 << 20, [1]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let (kills, skipped) = read(&path).unwrap();
    assert!(kills[&KillId(1)].decision.is_some() && kills[&KillId(1)].killed.is_none());
    assert!(skipped[0].to_string().contains("journal:2: unfinished"), "{}", skipped[0]);
    write(&path, 1 << 20, [2]);
    let (kills, skipped) = read(&path).unwrap();
    assert_eq!((kills.len(), skipped), (2, Vec::new()));
}

#[test]
fn malformed_lines_and_other_versions_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    fs::write(&path, "{\"v\":9}\nnonsense\n{\"v\":1,\"wall_ms\":0}\n\u{0}\n").unwrap();
    let (kills, skipped) = read(&path).unwrap();
    assert!(kills.is_empty());
    let said: Vec<_> = skipped.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4);
    assert!(said[0].contains(":1: version 9") && said[1].contains(":2: expected"), "{said:?}");
    assert!(read(&directory.path().join("none")).unwrap_err().to_string().contains("none: No such file"));
    assert_eq!(last_numbers(&directory.path().join("none")).unwrap(), None);
}

#[test]
fn both_files_together_stay_below_the_bound_and_the_newest_kills_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let view = write(&path, 64 << 10, 1..=200);
    assert_eq!((view.lost, view.error), (0, None));
    let sizes = [&path, &older(&path)].map(|file| fs::metadata(file).unwrap().len());
    assert!(sizes.iter().all(|size| *size <= 32 << 10), "{sizes:?}");
    let (kills, skipped) = read(&path).unwrap();
    assert!(skipped.is_empty() && kills.len() < 200 && kills.contains_key(&KillId(200)));
    assert_eq!(last_numbers(&path).unwrap().and_then(|last| last.kill), Some(KillId(200)));
}

#[test]
fn what_cannot_be_written_is_counted_and_said() {
    let view = write(Path::new("/dev/full"), 1 << 20, [1]);
    assert_eq!((view.written, view.lost), (0, 2));
    assert!(view.error.unwrap().contains("/dev/full: No space left on device"));
    let directory = tempfile::tempdir().unwrap();
    let view = write(directory.path(), 1 << 20, [1]);
    assert!(view.error.unwrap().contains("Is a directory"));
}

#[test]
fn a_journal_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (_first, _) = file::Output::open(&path, 1 << 20).unwrap();
    assert!(write(&path, 1 << 20, [1]).error.unwrap().contains("another process writes this journal"));
}
