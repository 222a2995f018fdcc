//! Which raylets run on this machine, and what their command lines say. Reads /proc, changes nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::clock;
use crate::proc_forks::{Forks, Made};
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
const LONGEST_VALUE: usize = 2048;

/// A process is looked at so often before it is taken for something else: it may not have become a raylet yet.
const LOOKS: u8 = 8;

/// One whose age is not known, so often.
const LOOKS_AT_OLD: u8 = 2;

/// Of so many numbers that were given since the last search each is tried. If there were more, all processes are listed.
const TRIED: u32 = 1000;

/// A list of thousands of processes takes milliseconds: the next one comes after so many times as long, up to the second
/// number.
const PAUSE: (u32, Duration) = (200, Duration::from_secs(5));

/// So often everybody is looked at again: a number may have been given to another process unseen.
const ANEW: Duration = Duration::from_secs(30);

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

/// Finds raylets again and again. It looks at each process a few times while that is young, and after that only at those
/// that are raylets; how many others there are does not matter.
#[derive(Debug)]
pub(crate) struct Search {
    procfs: PathBuf,
    forks: Forks,
    /// Processes that may yet become raylets, and how often each is still looked at.
    young: BTreeMap<u32, u8>,
    /// Numbers of new processes that are too many to try: the list of all says which of them live.
    unlisted: Option<RangeInclusive<u32>>,
    /// No list of all before this.
    next: Nanos,
    /// When everybody is looked at again.
    anew: Nanos,
    /// The raylets of the last search.
    known: Vec<Raylet>,
}

impl Search {
    pub(crate) fn new(procfs: PathBuf) -> Self {
        let forks = Forks::new(&procfs);
        let (next, anew) = (Nanos(0), Nanos(0));
        Self { procfs, forks, young: BTreeMap::new(), unlisted: None, next, anew, known: Vec::new() }
    }

    /// The raylets that live now, by pid.
    pub(crate) fn find(&mut self) -> Vec<Raylet> {
        let now = clock::now();
        match self.forks.made() {
            Made::Nothing => {}
            Made::Among(numbers) if self.unlisted.is_none() && numbers.end() - numbers.start() < TRIED => {
                self.young.extend(numbers.map(|pid| (pid, LOOKS)));
            }
            Made::Among(numbers) => {
                let earlier = self.unlisted.take().unwrap_or_else(|| numbers.clone());
                let (first, last) = (earlier.start().min(numbers.start()), earlier.end().max(numbers.end()));
                self.unlisted = Some(*first..=*last);
            }
            Made::Unknown => self.unlisted = Some(0..=u32::MAX),
        }
        if now >= self.anew {
            self.anew = now.after(ANEW);
            self.unlisted = Some(0..=u32::MAX);
        }
        if now >= self.next
            && let Some(numbers) = self.unlisted.take()
        {
            self.list(&numbers);
            let (ended, (times, most)) = (clock::now(), PAUSE);
            self.next = ended.after(ended.since(now).saturating_mul(times).min(most));
        }
        let mut found = self.living();
        // One that could not be read for a moment is looked at again.
        let gone = self.known.iter().filter(|known| !found.iter().any(|raylet| raylet.pid == known.pid));
        self.young.extend(gone.map(|known| (known.pid.0, LOOKS_AT_OLD)));
        self.look_at_young(&mut found);
        found.sort_by_key(|raylet| raylet.pid);
        self.known.clone_from(&found);
        found
    }

    /// Those of the last search that live.
    fn living(&self) -> Vec<Raylet> {
        self.known
            .iter()
            .filter(|known| start_of(&self.procfs, known.pid) == Some(known.start_time))
            .cloned()
            .collect()
    }

    /// Which processes of these numbers there are.
    fn list(&mut self, numbers: &RangeInclusive<u32>) {
        let looks = if *numbers.start() == 0 { LOOKS_AT_OLD } else { LOOKS };
        for entry in fs::read_dir(&self.procfs).into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            if let Some(pid) = pid.filter(|pid| numbers.contains(pid)) {
                self.young.entry(pid).or_insert(looks);
            }
        }
    }

    fn look_at_young(&mut self, found: &mut Vec<Raylet>) {
        let (procfs, until) = (&self.procfs, Instant::now() + PATIENCE);
        self.young.retain(|pid, looks| {
            if found.iter().any(|known| known.pid == Pid(*pid)) {
                return false;
            }
            match look_at(procfs, Pid(*pid), until) {
                Look::Raylet(raylet) => found.push(raylet),
                // A number is given a moment before its process can be seen: it is tried once more.
                Look::Gone if *looks == LOOKS => *looks = 1,
                Look::Gone => return false,
                Look::Other => *looks -= 1,
                Look::Unasked => return true,
            }
            *looks > 0
        });
    }
}

/// What a process is.
enum Look {
    Raylet(Raylet),
    /// Not one, or not yet.
    Other,
    /// There is no such process.
    Gone,
    /// It could not be asked within the time.
    Unasked,
}

/// When a process that is called as a raylet was started; `None`: it is none, or is gone.
fn start_of(procfs: &Path, pid: Pid) -> Option<u64> {
    is_called_so(&procfs.join(pid.to_string()))?.then(|| start_time(procfs, pid))?
}

/// Of a process that has not ended.
fn start_time(procfs: &Path, pid: Pid) -> Option<u64> {
    Stat::of(procfs, pid).ok().filter(|stat| !stat.has_ended()).map(|stat| stat.start_time)
}

/// `None`: there is no such process.
fn is_called_so(dir: &Path) -> Option<bool> {
    Some(fs::read(dir.join("comm")).ok()?.trim_ascii_end() == NAME.as_bytes())
}

/// Whether a number is a process's, not that of a thread, which is called as its process unless it says otherwise.
fn is_process(dir: &Path, pid: Pid) -> bool {
    let status = fs::read_to_string(dir.join("status")).unwrap_or_default();
    let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    leader.is_some_and(|leader| leader.trim().parse() == Ok(pid.0))
}

/// Whether a process is a raylet, and what it says of itself.
fn look_at(procfs: &Path, pid: Pid, until: Instant) -> Look {
    let dir = procfs.join(pid.to_string());
    match is_called_so(&dir) {
        None => return Look::Gone,
        Some(false) => return Look::Other,
        Some(true) => {}
    }
    if !is_process(&dir, pid) {
        return Look::Gone;
    }
    let (Some(start_time), Ok(about)) = (start_time(procfs, pid), fs::metadata(&dir)) else {
        return Look::Gone;
    };
    match command_line(&dir, about.uid(), until) {
        Err(Unasked) => Look::Unasked,
        Ok(line) => match parse(&line) {
            Some(raylet) => Look::Raylet(Raylet { pid, start_time, uid: about.uid(), ..raylet }),
            None => Look::Other,
        },
    }
}

/// A process that could not be asked within the time.
struct Unasked;

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
        let Some((name, value)) = split(argument) else { continue };
        let Some(value) = believed(value) else { continue };
        match name.as_slice() {
            b"node_id" => raylet.node = Some(value.to_owned()),
            b"session_name" => raylet.session = Some(value.to_owned()),
            b"stdout_filepath" => raylet.log = Some(PathBuf::from(value)),
            b"log_dir" => folder = Some(PathBuf::from(value)),
            _ => {}
        }
    }
    raylet.log = raylet.log.or_else(|| folder.map(|folder| folder.join("raylet.out")));
    Some(raylet)
}

/// A value that can be sent and shown as it is: anybody may call a process of theirs as a raylet.
fn believed(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= LONGEST_VALUE)?;
    (!text.contains(char::is_control)).then_some(text)
}

/// `--node_id=x` and `--node-id=x` alike.
fn split(argument: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let argument = argument.strip_prefix(b"--")?;
    let at = argument.iter().position(|byte| *byte == b'=')?;
    let name = argument[..at].iter().map(|byte| if *byte == b'-' { b'_' } else { *byte });
    Some((name.collect(), &argument[at + 1..]))
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
        // What could not be sent to the helper, or would be longer than its messages, is not believed.
        for log in [b"/tmp/\xff".to_vec(), b"/tmp/\n".to_vec(), vec![b'x'; 3000]] {
            assert_eq!(parse(&[b"/x/raylet\0--log_dir=", log.as_slice()].concat()).unwrap().log, None);
        }
        assert_eq!(parse(b"/usr/bin/python\0raylet\0"), None);
        assert_eq!(parse(b""), None);
    }
}
