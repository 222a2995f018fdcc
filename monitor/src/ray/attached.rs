//! The files that raylets of one mount namespace read, as the agent keeps them: the truth, kept below their line while the
//! agent acts before them, one pulse above it when a kill is asked for, and which raylet read what. Knows no engine and no
//! helper.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::fanotify;
use super::feed::{self, Kind, Receipt};
use super::news::{News, Reads};
use super::raylets::Raylet;
use super::settings::Settings;
use crate::engine::KillId;
use crate::units::{Bytes, Nanos, Pid};

/// A raylet that takes two readings for one kill takes the second right after the first.
const SECOND_READING: Duration = Duration::from_millis(50);

/// So many of its refreshes a moment is waited for at which one raylet of several is the next to read.
const ROUNDS: u64 = 3;

/// It is, if the others read so much later.
const APART: Duration = Duration::from_millis(10);

/// A busy machine's raylet may be late by this when it is to show that it reads our files.
const SLACK: Duration = Duration::from_millis(500);

/// A pulse that nobody reads is taken back after so many refreshes of the slowest raylet, and this: a raylet that hung must not
/// kill for what was long ago.
const UNREAD: (u64, Duration) = (4, Duration::from_secs(2));

/// A raylet that has read nothing for so many of its refreshes, and this, does not read the files any more.
const SILENT: (u64, Duration) = (10, Duration::from_secs(30));

/// So much longer than the kernel's is our meminfo, so that no number of it that becomes longer changes its length.
const ROOM: usize = 64;

/// A raylet that reads the files.
pub(super) struct Reader {
    pub(super) raylet: Raylet,
    pub(super) settings: Settings,
    since: Nanos,
    pub(super) last_read: Option<Nanos>,
    /// It has the file open, as far as is known.
    pub(super) open: bool,
}

impl Reader {
    pub(super) fn new(raylet: Raylet, settings: Settings, since: Nanos) -> Self {
        Self { raylet, settings, since, last_read: None, open: false }
    }

    fn refreshes(&self, number: u64) -> Duration {
        Duration::from_millis(self.settings.refresh_ms.saturating_mul(number))
    }
}

/// What the helper handed over.
pub(super) struct Handed {
    pub(super) kind: Kind,
    pub(super) usage: OwnedFd,
    pub(super) readers: OwnedFd,
    pub(super) real_usage: OwnedFd,
    pub(super) real_stat: Option<OwnedFd>,
}

/// What the file says.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Truth,
    Pulse,
}

struct Pulse {
    kill: KillId,
    /// Of several that see the files, the one that is to read it.
    raylet: Option<Pid>,
    /// How long it waits for a moment at which that one is the next to read; none: it is shown.
    waits: Option<Nanos>,
    receipt: Receipt,
    /// When it is taken back, read or not.
    until: Nanos,
    /// When it was read first.
    begun: Option<Nanos>,
}

/// See the module.
pub(super) struct Attached {
    files: Handed,
    /// How long our meminfo is.
    length: Cell<usize>,
    /// The one that gives its name to all.
    pub(super) executor: Pid,
    pub(super) readers: Vec<Reader>,
    since: Nanos,
    /// A raylet read them.
    pub(super) proven: bool,
    /// The agent acts before the raylets would: what they see is kept below their lines.
    pub(super) below: bool,
    pulse: Option<Pulse>,
    pub(super) last_pulse: Option<Nanos>,
    pub(super) pulses: u64,
    pub(super) receipts: u64,
}

impl Attached {
    pub(super) fn new(files: Handed, first: Reader, now: Nanos) -> Self {
        let executor = first.raylet.pid;
        Self {
            files,
            length: Cell::new(0),
            executor,
            readers: vec![first],
            since: now,
            proven: false,
            below: false,
            pulse: None,
            last_pulse: None,
            pulses: 0,
            receipts: 0,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.files.kind
    }

    /// A raylet reads them: what the loop is told of it.
    pub(super) fn news_of(&self, reader: &Reader) -> News {
        let file = match self.files.kind {
            Kind::Meminfo => None,
            Kind::V1 | Kind::V2 => rustix::fs::fstat(&self.files.real_usage).ok(),
        };
        News::Attached {
            raylet: reader.raylet.pid,
            executor: self.executor,
            reads: file.map_or(Reads::Node, |file| Reads::Cgroup { dev: file.st_dev, ino: file.st_ino }),
            line: reader.settings.line,
        }
    }

    /// To be polled.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.files.readers
    }

    pub(super) fn pulsing(&self) -> bool {
        self.pulse.is_some()
    }

    /// The raylets that should have read the files: within two of their readings at first, and again and again after that.
    pub(super) fn late(&self, now: Nanos) -> Vec<Pid> {
        let proof = self.since.after(self.refreshes(2) + SLACK);
        let is_late = |reader: &&Reader| match self.proven {
            false => proof <= now,
            true => {
                let last = reader.last_read.unwrap_or(reader.since);
                last.after(reader.refreshes(SILENT.0) + SILENT.1) <= now
            }
        };
        self.readers.iter().filter(is_late).map(|reader| reader.raylet.pid).collect()
    }

    /// So many refreshes of the slowest raylet.
    fn refreshes(&self, number: u64) -> Duration {
        self.readers.iter().map(|reader| reader.refreshes(number)).max().unwrap_or_default()
    }

    /// The truth, kept below the line. Not while a pulse waits to be read.
    pub(super) fn refresh(&self) -> io::Result<()> {
        let shown = self.pulse.as_ref().is_some_and(|pulse| pulse.waits.is_none());
        if shown { Ok(()) } else { self.show(Shown::Truth) }
    }

    /// Shows more than the line until that is read: of several raylets rather by this one.
    pub(super) fn ask(&mut self, kill: KillId, raylet: Option<Pid>, now: Nanos) -> io::Result<()> {
        if self.readers.is_empty() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // By group one reading decides; otherwise the policy takes a second one.
        let needed =
            if self.readers.iter().all(|reader| reader.settings.by_group == Some(true)) { 1 } else { 2 };
        // What was read before is no receipt.
        self.note_readers(now);
        let waits = now.after(self.refreshes(ROUNDS));
        let until = waits.after(self.refreshes(UNREAD.0) + UNREAD.1);
        let receipt = Receipt::new(needed);
        self.pulse = Some(Pulse { kill, raylet, waits: Some(waits), receipt, until, begun: None });
        self.last_pulse = Some(now);
        self.pulses += 1;
        self.show_in_time(now).inspect_err(|_| self.pulse = None)
    }

    /// Shows a pulse that waits, if its raylet is the next to read, or if it waited long enough. Not while a raylet has the
    /// file open: it would read the pulse, and that could not be told from the truth.
    fn show_in_time(&mut self, now: Nanos) -> io::Result<()> {
        let Some(Pulse { raylet, waits: Some(until), .. }) = self.pulse else { return Ok(()) };
        let open = self.readers.iter().any(|reader| reader.open);
        if now < until && (open || !raylet.is_none_or(|raylet| reads_next(&self.readers, raylet))) {
            return Ok(());
        }
        self.show(Shown::Pulse)?;
        if let Some(pulse) = &mut self.pulse {
            pulse.waits = None;
        }
        Ok(())
    }

    /// Back to the truth, read or not.
    pub(super) fn withdraw(&mut self) -> io::Result<()> {
        self.pulse = None;
        self.refresh()
    }

    /// Which raylets read the files since the last look. The kill that a raylet acknowledged, the first time.
    pub(super) fn look(&mut self, now: Nanos) -> Option<KillId> {
        let accesses = self.note_readers(now);
        let Pulse { waits, until, .. } = self.pulse.as_ref()?;
        if waits.is_some() {
            // What was read so far was the truth.
            if *until <= now {
                let _ = self.withdraw();
            } else if self.show_in_time(now).is_err()
                && let Some(pulse) = &mut self.pulse
            {
                // A file that cannot be written now is written a moment later.
                pulse.waits = Some(now.after(SECOND_READING));
            }
            return None;
        }
        let pulse = self.pulse.as_mut()?;
        let known = pulse.receipt.acknowledged();
        for access in accesses {
            pulse.receipt.take(access.opened, access.closed);
        }
        if pulse.receipt.begun() {
            pulse.begun.get_or_insert(now);
        }
        // One that has opened it kills for it, whatever becomes of the request now.
        let heard = (!known && pulse.receipt.acknowledged()).then_some(pulse.kill);
        let waited = pulse.begun.is_some_and(|begun| now.since(begun) >= SECOND_READING);
        let over = pulse.until <= now;
        if pulse.receipt.complete() || waited || over {
            self.receipts += u64::from(pulse.receipt.begun());
            // A file that cannot be written now is written at the next refresh.
            let _ = self.withdraw();
        }
        heard
    }

    /// When a pulse that waits is shown, and one that was read once is withdrawn, at the latest.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let pulse = self.pulse.as_ref()?;
        pulse.waits.or_else(|| pulse.begun.map(|begun| begun.after(SECOND_READING))).or(Some(pulse.until))
    }

    /// What raylets did with the file; of other readers nothing.
    fn note_readers(&mut self, now: Nanos) -> Vec<fanotify::Access> {
        let mut accesses = fanotify::events(&self.files.readers);
        accesses.retain(|access| {
            let reader = self.readers.iter_mut().find(|reader| reader.raylet.pid == access.pid);
            let Some(reader) = reader else { return false };
            // Both in one event: it was opened before it was closed.
            reader.open = access.opened && !access.closed;
            if access.closed {
                reader.last_read = Some(now);
                self.proven = true;
            }
            true
        });
        accesses
    }

    /// Raylets of one namespace may have different lines: the lowest keeps all below theirs, the highest brings all above.
    fn show(&self, shown: Shown) -> io::Result<()> {
        let lines = self.readers.iter().map(|reader| reader.settings.line);
        let (used, total, text) = self.truth()?;
        let value = match shown {
            Shown::Truth if !self.below || self.readers.is_empty() => Some(used),
            Shown::Truth => lines.min().map(|line| feed::resting(used, line, total)),
            Shown::Pulse => lines.max().map(|line| feed::pulsed(used, line, total)),
        };
        let Some(value) = value else { return Ok(()) };
        let text = match text {
            None => feed::number(value),
            Some(real) => {
                if self.length.get() < real.len() + ROOM / 4 {
                    self.length.set(real.len() + ROOM);
                }
                feed::meminfo(&real, value, self.length.get()).ok_or(io::ErrorKind::InvalidData)?
            }
        };
        rustix::io::pwrite(&self.files.usage, text.as_bytes(), 0)?;
        Ok(())
    }

    /// What is used, of what, and the text of a meminfo.
    fn truth(&self) -> io::Result<(Bytes, Bytes, Option<String>)> {
        let text = read_whole(&self.files.real_usage)?;
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        match self.files.kind {
            Kind::Meminfo => {
                let (used, total) = feed::meminfo_used(&text).ok_or_else(malformed)?;
                Ok((used, total, Some(text)))
            }
            Kind::V1 | Kind::V2 => {
                let used = Bytes(text.trim().parse().map_err(|_| malformed())?);
                let stat = self.files.real_stat.as_ref().map(read_whole).transpose()?.unwrap_or_default();
                let total = self.readers.first().map_or(Bytes(0), |reader| reader.settings.total);
                Ok((used.saturating_sub(feed::cached(&stat, self.files.kind)), total, None))
            }
        }
    }
}

/// What nobody feeds any more must not stay above the line.
impl Drop for Attached {
    fn drop(&mut self) {
        if self.pulsing() {
            // Where it cannot be written, the helper takes it away.
            let _ = self.withdraw();
        }
    }
}

/// Whether this raylet reads clearly before all others, as far as their last readings tell. A single one always does.
fn reads_next(readers: &[Reader], raylet: Pid) -> bool {
    let next = |reader: &Reader| {
        reader.last_read.map(|at| at.after(Duration::from_millis(reader.settings.refresh_ms)))
    };
    let Some(own) = readers.iter().find(|reader| reader.raylet.pid == raylet) else { return true };
    let mut others = readers.iter().filter(|reader| reader.raylet.pid != raylet);
    others.all(|other| next(own).zip(next(other)).is_some_and(|(own, other)| own.after(APART) < other))
}

/// A file of the kernel's, from its start: a few KiB.
pub(super) fn read_whole(file: &OwnedFd) -> io::Result<String> {
    const LONGEST: usize = 64 * 1024;
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        if length == bytes.len() {
            if length >= LONGEST {
                break;
            }
            bytes.resize(2 * length, 0);
        }
        let at = u64::try_from(length).unwrap_or(u64::MAX);
        match rustix::io::pread(file, &mut bytes[length..], at) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// One that read last at this millisecond.
    fn reader(pid: u32, last_read: Option<u64>) -> Reader {
        let raylet = Raylet {
            pid: Pid(pid),
            start_time: 0,
            uid: 0,
            node: None,
            session: None,
            log: None,
            program: std::path::PathBuf::new(),
        };
        let settings = Settings::of("", b"RAY_memory_monitor_refresh_ms=100\0", Bytes(1 << 30));
        Reader { last_read: last_read.map(|at| Nanos(at * MS)), ..Reader::new(raylet, settings, Nanos(0)) }
    }

    #[test]
    fn of_several_raylets_one_is_next_if_the_others_have_just_read() {
        assert!(reads_next(&[reader(1, None)], Pid(1)), "a single one, whatever it did");
        let both = [reader(1, Some(1000)), reader(2, Some(1060))];
        assert!(reads_next(&both, Pid(1)));
        assert!(!reads_next(&both, Pid(2)));
        // One that is late may read at any moment.
        let late = [reader(1, Some(1000)), reader(2, Some(500))];
        assert!(!reads_next(&late, Pid(1)));
        assert!(reads_next(&late, Pid(2)));
        let together = [reader(1, Some(1000)), reader(2, Some(1005))];
        assert!(!reads_next(&together, Pid(1)) && !reads_next(&together, Pid(2)));
        assert!(!reads_next(&[reader(1, Some(1000)), reader(2, None)], Pid(1)), "it was never seen reading");
        assert!(reads_next(&both, Pid(3)), "it is gone: any of them");
    }
}
