//! Reads a journal back: all its whole lines, the older file's first. A line that is not one is skipped and named;
//! the last one may be torn by a crash, or be written just now.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Decided, Entry, Given, Line, VERSION, older};
use crate::config::DEFAULT_FILE;
use crate::engine::{KillId, KillRecord};
use crate::report::Report;
use crate::series::Series;
use crate::units::Pid;
use crate::wall_clock;
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
            Some(decided) => Report::new(&decided.decision, record.clone(), Path::new(DEFAULT_FILE)),
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
    each(path, |file, number, line| match parse(line).map(dated) {
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
        Ok(Entry::Continued(_) | Entry::Workers(_) | Entry::Lost(_)) => {}
        Err(why) => skipped.push(Skipped { path: file.to_owned(), number, why }),
    })?;
    Ok((kills, skipped))
}

/// Which kill is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The one with this number.
    Kill(KillId),
    /// The last one of a worker with a registered process of this number.
    Pid(Pid),
    /// The last one of this worker.
    Worker(WorkerId),
}

impl Wanted {
    /// Whether a record is of it. A dry run killed nothing.
    #[must_use]
    pub fn is(self, record: &KillRecord, may_see: impl Fn(Option<u32>) -> bool) -> bool {
        let mut victims = record.victims.iter().filter(|victim| may_see(victim.uid));
        match self {
            Self::Kill(kill) => record.id == kill,
            Self::Pid(pid) => !record.dry_run && victims.any(|victim| victim.pid == pid),
            Self::Worker(worker) => !record.dry_run && victims.any(|victim| victim.worker == worker),
        }
    }

    /// What a line about it has in it: only those are parsed.
    fn needles(self) -> [String; 2] {
        match self {
            Self::Kill(KillId(kill)) => [format!("\"id\":{kill},"), format!("\"kill\":{kill},")],
            Self::Pid(Pid(pid)) => [format!("\"pid\":{pid},"), format!("\"pid\":{pid}}}")],
            Self::Worker(worker) => [format!("\"{worker}\""), format!("\"{worker}\"")],
        }
    }
}

/// All that the journal at `path` knows of one kill; `None`: it has none. The last is taken, of those that `may_see` lets
/// through by their victims' users.
///
/// # Errors
/// The file cannot be read.
pub fn find(
    path: &Path,
    wanted: Wanted,
    may_see: &dyn Fn(Option<u32>) -> bool,
) -> Result<Option<Past>, JournalError> {
    let kill = match wanted {
        Wanted::Kill(kill) => kill,
        Wanted::Pid(_) | Wanted::Worker(_) => {
            let mut last = None;
            each_about(path, wanted, |entry| {
                let record = match &entry {
                    Entry::Killed(record) => record,
                    Entry::Report(report) => &report.kill,
                    Entry::Decision(_)
                    | Entry::Continued(_)
                    | Entry::Workers(_)
                    | Entry::Chart(_)
                    | Entry::Lost(_) => return,
                };
                if wanted.is(record, may_see) {
                    last = Some(record.id);
                }
            })?;
            let Some(kill) = last else { return Ok(None) };
            kill
        }
    };
    let mut past: Option<Past> = None;
    each_about(path, Wanted::Kill(kill), |entry| match entry {
        Entry::Decision(decided) if decided.decision.kill == kill => {
            past = Some(Past { decision: Some(decided), ..Past::default() });
        }
        Entry::Killed(record) if record.id == kill => {
            past.get_or_insert_default().killed = Some(record);
        }
        Entry::Report(report) if report.kill.id == kill => {
            past.get_or_insert_default().report = Some(report);
        }
        Entry::Chart(chart) if chart.kill == Some(kill) => {
            past.get_or_insert_default().chart = Some(chart);
        }
        Entry::Decision(_)
        | Entry::Chart(_)
        | Entry::Killed(_)
        | Entry::Report(_)
        | Entry::Continued(_)
        | Entry::Workers(_)
        | Entry::Lost(_) => {}
    })?;
    Ok(past)
}

fn each_about(path: &Path, wanted: Wanted, mut see: impl FnMut(Entry)) -> Result<(), JournalError> {
    let [one, other] = wanted.needles();
    each(path, |_, _, line| {
        let about = std::str::from_utf8(line).is_ok_and(|text| text.contains(&one) || text.contains(&other));
        if let (true, Ok(line)) = (about, parse(line)) {
            see(dated(line));
        }
    })
}

/// The last kills that the journal at `path` knows, the newest last.
///
/// # Errors
/// The file cannot be read.
pub fn last_kills(path: &Path, most: usize) -> Result<VecDeque<KillRecord>, JournalError> {
    let mut kills: VecDeque<KillRecord> = VecDeque::new();
    each(path, |_, _, line| {
        let about = line.windows(KILLED.len()).take(HEAD).any(|window| window == KILLED);
        if let (true, Ok(Entry::Killed(record))) = (about, parse(line).map(dated)) {
            if kills.len() == most {
                kills.pop_front();
            }
            kills.push_back(*record);
        }
    })?;
    Ok(kills)
}

/// What the end of a kill begins with, and how far from its line's begin that is at most.
const KILLED: &[u8] = b"\"killed\":{";
const HEAD: usize = 64;

/// The largest numbers in a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Last {
    /// Of a kill; `None`: there is none.
    pub kill: Option<KillId>,
    /// Of a worker; 0: none is named.
    pub worker: WorkerId,
    /// The users of the workers that it names, as far as it says.
    pub users: BTreeMap<WorkerId, u32>,
    /// Whose the blocks of numbers were that end with these.
    pub blocks: BTreeMap<WorkerId, u32>,
}

/// So many blocks are remembered, the latest.
const MOST_BLOCKS: usize = 10_000;

impl Last {
    /// A later line.
    fn add(&mut self, later: Self) {
        self.kill = self.kill.max(later.kill);
        self.worker = self.worker.max(later.worker);
        self.users.extend(later.users);
        self.blocks.extend(later.blocks);
        if self.blocks.len() > MOST_BLOCKS {
            self.blocks.pop_first();
        }
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

/// What a line names: its kill, the largest number of its workers, and their users. Reads as little of it as that
/// takes.
fn numbers(line: &[u8]) -> Option<Last> {
    #[derive(Deserialize)]
    struct Named {
        worker: WorkerId,
        // What older agents wrote does not say it.
        uid: Option<u32>,
    }
    #[derive(Deserialize)]
    struct Rest {
        last: WorkerId,
    }
    #[derive(Deserialize)]
    struct Decision {
        kill: KillId,
        candidates: Vec<Named>,
        rest: Option<Rest>,
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
        workers: Option<Given>,
    }
    let Numbers { decision, killed, report, workers } = serde_json::from_slice(line).ok()?;
    let ended = killed.or(report);
    let kill = decision.as_ref().map(|of| of.kill).max(ended.as_ref().map(|of| of.id));
    let rest = decision.as_ref().and_then(|of| of.rest.as_ref()).map(|rest| rest.last);
    let named = decision.map(|of| of.candidates).into_iter().chain(ended.map(|of| of.victims));
    let named: Vec<Named> = named.flatten().collect();
    let worker = named.iter().map(|named| named.worker).chain(rest).chain(workers.map(Given::last)).max()?;
    let users = named.into_iter().filter_map(|named| Some((named.worker, named.uid?))).collect();
    let blocks = workers.into_iter().filter_map(|given| match given {
        Given::Block { last, uid } => Some((last, uid)),
        Given::UpTo(_) => None,
    });
    Some(Last { kill, worker, users, blocks: blocks.collect() })
}

fn parse(line: &[u8]) -> Result<Line, String> {
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
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// What a line says. What older agents wrote of a kill has no time by the wall clock: that of the line is a moment later.
fn dated(line: Line) -> Entry {
    let at = || Some(wall_clock::of_millis(line.wall_ms));
    match line.entry {
        Entry::Killed(mut record) => {
            record.at = record.at.take().or_else(at);
            Entry::Killed(record)
        }
        Entry::Report(mut report) => {
            report.kill.at = report.kill.at.take().or_else(at);
            Entry::Report(report)
        }
        other @ (Entry::Decision(_)
        | Entry::Continued(_)
        | Entry::Workers(_)
        | Entry::Chart(_)
        | Entry::Lost(_)) => other,
    }
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
