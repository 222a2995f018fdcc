//! Which raylets run on this machine, and what their command lines say. Reads /proc, changes nothing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::clock;
use crate::proc_forks::Forks;
use crate::proc_stat::Stat;
use crate::units::{Nanos, Pid};

/// The name of the program, and of its processes.
const NAME: &str = "raylet";

/// The most of a command line that is read. Ray's own are a few KiB.
const LONGEST_LINE: u64 = 64 << 10;

/// How long the reads of a search may take together, each a quarter of it, and how many may take longer at once.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_WAITING: usize = 8;

/// The longest name or path of one that is believed: it is kept, shown, and sent to the helper.
const LONGEST_VALUE: usize = 4096;

/// A process is looked at so often before it is taken for something else: it may not have become a raylet yet.
const LOOKS: u8 = 8;

/// Those that are there at the first search, less often.
const LOOKS_AT_OLD: u8 = 2;

/// Among thousands of processes a search takes milliseconds: the next one comes after so many times as long, up to the second
/// number. Until then those that are known are looked at.
const PAUSE: (u32, Duration) = (200, Duration::from_secs(1));

/// After so many searches everybody is looked at again: a pid may have been given to another.
const ANEW: u32 = 120;

/// A raylet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raylet {
    pub(crate) pid: Pid,
    pub(crate) start_time: u64,
    pub(crate) uid: u32,
    /// Its node's id in Ray's cluster.
    pub(crate) node: Option<String>,
    /// Ray's session.
    pub(crate) session: Option<String>,
    /// Its log, as it names it.
    pub(crate) log: Option<PathBuf>,
    /// Its program, as it names it.
    pub(crate) program: PathBuf,
}

/// Finds raylets again and again, and looks at each other process only a few times. While nothing is forked it looks at those
/// that it knows alone.
#[derive(Debug)]
pub(crate) struct Search {
    procfs: PathBuf,
    others: HashMap<u32, u8>,
    searches: u32,
    /// No search before this.
    next: Nanos,
    forks: Forks,
    /// For so many searches nothing was forked.
    quiet: u8,
    /// The raylets of the last search.
    known: Vec<Raylet>,
}

impl Search {
    pub(crate) fn new(procfs: PathBuf) -> Self {
        let forks = Forks::new(&procfs);
        Self {
            procfs,
            others: HashMap::new(),
            searches: 0,
            next: Nanos(0),
            forks,
            quiet: 0,
            known: Vec::new(),
        }
    }

    /// The raylets that live now, by pid.
    pub(crate) fn find(&mut self) -> Vec<Raylet> {
        let began = clock::now();
        if began < self.next {
            return self.known();
        }
        let until = Instant::now() + PATIENCE;
        self.searches = self.searches.wrapping_add(1);
        let anew = self.searches.is_multiple_of(ANEW);
        if anew {
            self.others.clear();
        }
        self.quiet = if self.forks.any() { 0 } else { self.quiet.saturating_add(1) };
        let found = if self.quiet > LOOKS && !anew { self.known() } else { self.look_at_all(until) };
        self.known.clone_from(&found);
        let (ended, (times, most)) = (clock::now(), PAUSE);
        self.next = ended.after(ended.since(began).saturating_mul(times).min(most));
        found
    }

    /// Those of the last search that live.
    fn known(&self) -> Vec<Raylet> {
        self.known
            .iter()
            .filter(|known| start_of(&self.procfs, known.pid) == Some(known.start_time))
            .cloned()
            .collect()
    }

    fn look_at_all(&mut self, until: Instant) -> Vec<Raylet> {
        let (procfs, known) = (&self.procfs, &self.known);
        let new = if self.searches == 1 { LOOKS - LOOKS_AT_OLD } else { 0 };
        let mut found = Vec::new();
        let mut living = HashMap::new();
        for entry in fs::read_dir(procfs).into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let looks = self.others.get(&pid).copied().unwrap_or(new);
            let seen = if looks < LOOKS { look_at(procfs, Pid(pid), known, until) } else { Ok(None) };
            match seen {
                Ok(Some(raylet)) => found.push(raylet),
                Ok(None) => drop(living.insert(pid, looks.saturating_add(1))),
                Err(Unasked) => drop(living.insert(pid, looks)),
            }
        }
        self.others = living;
        found.sort_by_key(|raylet| raylet.pid);
        found
    }
}

/// When a process that is called as a raylet is started; `None`: it is none, or is gone.
fn start_of(procfs: &Path, pid: Pid) -> Option<u64> {
    if fs::read(procfs.join(pid.to_string()).join("comm")).ok()?.trim_ascii_end() != NAME.as_bytes() {
        return None;
    }
    Stat::of(procfs, pid).ok().filter(|stat| !stat.has_ended()).map(|stat| stat.start_time)
}

/// A process that could not be asked within the time.
struct Unasked;

/// Whether a process is a raylet, and what it says of itself. One that is known is not asked again. `None`: it is none, or is gone.
fn look_at(procfs: &Path, pid: Pid, known: &[Raylet], until: Instant) -> Result<Option<Raylet>, Unasked> {
    let Some(start_time) = start_of(procfs, pid) else { return Ok(None) };
    if let Some(known) = known.iter().find(|known| (known.pid, known.start_time) == (pid, start_time)) {
        return Ok(Some(known.clone()));
    }
    let dir = procfs.join(pid.to_string());
    let Ok(found) = fs::metadata(&dir) else { return Ok(None) };
    let raylet = parse(&command_line(&dir, found.uid(), until)?);
    Ok(raylet.map(|raylet| Raylet { pid, start_time, uid: found.uid(), ..raylet }))
}

/// The command line of a process of this user, read on a thread of its own: a process can make a reader wait for ever
/// (`memory::kept`). Where a thread waits for one of this user's, no other of theirs is read.
fn command_line(dir: &Path, uid: u32, until: Instant) -> Result<Vec<u8>, Unasked> {
    static WAITING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    let waiting = || WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let patience = until.saturating_duration_since(Instant::now()).min(PATIENCE / 4);
    if patience.is_zero() || waiting().contains(&uid) || waiting().len() >= MOST_WAITING {
        return Err(Unasked);
    }
    waiting().push(uid);
    let (path, (tell, told)) = (dir.join("cmdline"), channel());
    let read = move || {
        let mut line = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(LONGEST_LINE).read_to_end(&mut line));
        waiting().retain(|user| *user != uid);
        // It may have taken too long.
        let _ = tell.send(read.map(|_| line));
    };
    if thread::Builder::new().name("raylet".to_owned()).spawn(read).is_err() {
        waiting().retain(|user| *user != uid);
        return Err(Unasked);
    }
    // One that cannot be read is gone.
    Ok(told.recv_timeout(patience).map_err(|_| Unasked)?.unwrap_or_default())
}

/// A command line, arguments ended by zero bytes.
fn parse(line: &[u8]) -> Option<Raylet> {
    let mut arguments = line.split(|byte| *byte == 0).filter(|argument| !argument.is_empty());
    let program = PathBuf::from(OsStr::from_bytes(arguments.next()?));
    if program.file_name() != Some(OsStr::new(NAME)) {
        return None;
    }
    let mut raylet =
        Raylet { pid: Pid(0), start_time: 0, uid: 0, node: None, session: None, log: None, program };
    let mut folder = None;
    for argument in arguments {
        let Some((name, value)) = split(argument).filter(|(_, value)| value.len() <= LONGEST_VALUE) else {
            continue;
        };
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        match name.as_slice() {
            b"node_id" => raylet.node = text(),
            b"session_name" => raylet.session = text(),
            b"stdout_filepath" => raylet.log = Some(PathBuf::from(OsStr::from_bytes(value))),
            b"log_dir" => folder = Some(PathBuf::from(OsStr::from_bytes(value))),
            _ => {}
        }
    }
    raylet.log = raylet.log.or_else(|| folder.map(|folder| folder.join("raylet.out")));
    Some(raylet)
}

/// `--node_id=x` and `--node-id=x` alike.
fn split(argument: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let argument = argument.strip_prefix(b"--")?;
    let at = argument.iter().position(|byte| *byte == b'=')?;
    let name = argument[..at].iter().map(|byte| if *byte == b'-' { b'_' } else { *byte });
    Some((name.collect(), &argument[at + 1..]))
}

/// The process that started this one, or that it was given to. `None`: there is no such process.
pub(crate) fn parent_of(procfs: &Path, pid: Pid) -> Option<Pid> {
    let text = fs::read(procfs.join(pid.to_string()).join("stat")).ok()?;
    // The command in parentheses may hold anything; the state and the parent follow the last one.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    fields.split(' ').nth(1)?.parse().ok().map(Pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_names_node_session_and_log_in_either_spelling() {
        let line = b"/x/ray/core/src/ray/raylet/raylet\0--node_id=abc\0--session-name=session_1\0--log_dir=/tmp/l\0--head\0";
        let raylet = parse(line).unwrap();
        assert_eq!((raylet.node.as_deref(), raylet.session.as_deref()), (Some("abc"), Some("session_1")));
        assert_eq!(raylet.log, Some(PathBuf::from("/tmp/l/raylet.out")));
        let line = b"/x/raylet\0--log_dir=/tmp/l\0--stdout_filepath=/tmp/other.out\0";
        assert_eq!(parse(line).unwrap().log, Some(PathBuf::from("/tmp/other.out")));
        assert_eq!(parse(b"/usr/bin/python\0raylet\0"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        let me = Pid(std::process::id());
        let parent = parent_of(Path::new("/proc"), me).unwrap();
        assert_eq!(parent.0, std::os::unix::process::parent_id());
    }
}
