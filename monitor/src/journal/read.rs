//! Reads a journal back: all its whole lines, the older file's first. A line that is not one is skipped and named;
//! the last one may be torn by a crash, or be written just now.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Decided, Entry, Line, VERSION, older};
use crate::engine::{KillId, KillRecord};
use crate::report::Report;
use crate::series::Series;
use crate::worker::WorkerId;

/// The most that is read of a file: four times what a journal has by default, and an end for what has none.
const MOST: u64 = 256 << 20;

/// Why a journal cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct JournalError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A line that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{number}: {why}; the line is skipped", path.display())]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// The line's number, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub why: String,
}

/// What a journal knows of one kill. At least one of the three is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// The decision with its inputs.
    pub decision: Option<Box<Decided>>,
    /// Its end.
    pub killed: Option<Box<KillRecord>>,
    /// Its report.
    pub report: Option<Box<Report>>,
    /// What was used over time around it.
    pub chart: Option<Box<Series>>,
}

impl Past {
    /// All that can be reported of it: the report itself, or what follows from decision and end.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        if let Some(report) = &self.report {
            return Some((**report).clone());
        }
        let record = self.killed.as_deref()?;
        Some(match &self.decision {
            Some(decided) => Report::new(&decided.decision, record.clone()),
            None => Report::bare(record.clone()),
        })
    }

    /// The kill as in `monitor kills`; none if only its decision is there.
    #[must_use]
    pub fn record(&self) -> Option<&KillRecord> {
        self.report.as_ref().map(|report| &report.kill).or(self.killed.as_deref())
    }
}

/// Every kill that the journal at `path` knows, by number, and the lines that say nothing. If a number was given
/// twice (the journal was lost in between), the newer kill counts.
///
/// # Errors
/// The file cannot be read. That there is no older one is none.
pub fn read(path: &Path) -> Result<(BTreeMap<KillId, Past>, Vec<Skipped>), JournalError> {
    let mut kills: BTreeMap<KillId, Past> = BTreeMap::new();
    let mut skipped = Vec::new();
    each(path, |file, number, line| match parse(line) {
        Ok(Entry::Decision(decided)) => {
            let past = Past { decision: Some(decided), ..Past::default() };
            if let Some(kill) = past.decision.as_ref().map(|decided| decided.decision.kill) {
                kills.insert(kill, past);
            }
        }
        Ok(Entry::Killed(record)) => {
            let id = record.id;
            kills.entry(id).or_default().killed = Some(record);
        }
        Ok(Entry::Report(report)) => {
            let id = report.kill.id;
            kills.entry(id).or_default().report = Some(report);
        }
        Ok(Entry::Chart(chart)) => {
            if let Some(id) = chart.kill {
                kills.entry(id).or_default().chart = Some(chart);
            }
        }
        Ok(Entry::Continued(_) | Entry::Workers(_)) => {}
        Err(why) => skipped.push(Skipped { path: file.to_owned(), number, why }),
    })?;
    Ok((kills, skipped))
}

/// The largest numbers in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Of a kill; `None`: there is none.
    pub kill: Option<KillId>,
    /// Of a worker; 0: none is named.
    pub worker: WorkerId,
    /// Whose the workers were that it names, as far as it says.
    pub users: BTreeMap<WorkerId, u32>,
}

impl Last {
    /// A later line.
    fn add(&mut self, later: Self) {
        self.kill = self.kill.max(later.kill);
        self.worker = self.worker.max(later.worker);
        self.users.extend(later.users);
    }
}

/// The largest numbers in the journal at `path`; `None`: there is no line, or no journal.
///
/// # Errors
/// It is there and cannot be read.
pub fn last_numbers(path: &Path) -> Result<Option<Last>, JournalError> {
    let mut last: Option<Last> = None;
    let read = each(path, |_, _, line| {
        if let Some(found) = numbers(line) {
            match &mut last {
                None => last = Some(found),
                Some(last) => last.add(found),
            }
        }
    });
    match read {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(last),
        read => read.map(|()| last),
    }
}

/// What a line names: its kill, the largest number of its workers, and whose those are. Reads as little of it as that
/// takes.
fn numbers(line: &[u8]) -> Option<Last> {
    #[derive(Deserialize)]
    struct Named {
        worker: WorkerId,
        // What older agents wrote does not say it.
        uid: Option<u32>,
    }
    #[derive(Deserialize)]
    struct Decision {
        kill: KillId,
        candidates: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Killed {
        id: KillId,
        victims: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Numbers {
        decision: Option<Decision>,
        killed: Option<Killed>,
        report: Option<Killed>,
        workers: Option<WorkerId>,
    }
    let Numbers { decision, killed, report, workers } = serde_json::from_slice(line).ok()?;
    let ended = killed.or(report);
    let kill = decision.as_ref().map(|of| of.kill).max(ended.as_ref().map(|of| of.id));
    let named = decision.map(|of| of.candidates).into_iter().chain(ended.map(|of| of.victims));
    let named: Vec<Named> = named.flatten().collect();
    let worker = named.iter().map(|named| named.worker).chain(workers).max()?;
    let users = named.into_iter().filter_map(|named| Some((named.worker, named.uid?))).collect();
    Some(Last { kill, worker, users })
}

fn parse(line: &[u8]) -> Result<Entry, String> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let text = line
        .strip_suffix(b"\n")
        .ok_or_else(|| "unfinished: the agent was stopped while it wrote it, or writes it now".to_owned())?;
    let Version { v } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if v != VERSION {
        return Err(format!("version {v}; this program knows version {VERSION}"));
    }
    let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    Ok(line.entry)
}

/// Calls `see` with each line, its newline included, of the older file, if there is one, and of the file.
pub(super) fn each(path: &Path, mut see: impl FnMut(&Path, usize, &[u8])) -> Result<(), JournalError> {
    let before = older(path);
    let mut found = false;
    for file in [before.as_path(), path] {
        let fail = |source| JournalError { path: file.to_owned(), source };
        let opened = match File::open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound && (file == before || found) => continue,
            Err(error) => return Err(fail(error)),
        };
        found = true;
        let mut lines = BufReader::new(opened.take(MOST));
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if lines.read_until(b'\n', &mut line).map_err(fail)? == 0 {
                break;
            }
            see(file, number, &line);
        }
    }
    Ok(())
}
