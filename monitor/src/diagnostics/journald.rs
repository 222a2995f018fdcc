//! The log as systemd's journal has it: each line with its fields, by journald's native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). Used where stderr is the journal's own stream.
//!
//! Not by a crate: the known one sends on the thread that speaks, and the agent's loop must wait for nobody. Here a line
//! is put together where it is said, and sent by the thread that writes the log.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Says which file stderr is, if it is the journal's: device and inode.
const STREAM: &str = "JOURNAL_STREAM";

/// A field of an event with this name has fields of the journal, as [`crate::report::fields`] makes them.
const FACTS: &str = "facts";

/// The way to journald.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// If stderr goes to the journal, and journald listens.
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = std::env::var(STREAM).ok()?;
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        if !is_stream(&stream, stderr.dev(), stderr.ino()) {
            return None;
        }
        let path = path();
        let socket = UnixDatagram::unbound().ok()?;
        // A connection would not outlive journald; this one is only to see whether it is there.
        UnixDatagram::unbound().ok()?.connect(&path).ok()?;
        Some(Self { socket, path })
    }

    /// What is too long for a datagram goes as a file in memory.
    fn send_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("journal-entry", flags)?);
        file.write_all(entry)?;
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, all)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let to = SocketAddrUnix::new(&self.path)?;
        let nothing: [IoSlice<'_>; 0] = [];
        rustix::net::sendmsg_addr(&self.socket, &to, &nothing, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Each write is an entry.
impl io::Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        match self.socket.send_to(entry, &self.path) {
            Err(error) if too_long(&error) => self.send_file(entry)?,
            sent => drop(sent?),
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_long(error: &io::Error) -> bool {
    [Errno::MSGSIZE, Errno::NOBUFS].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A debug build can be told of another one, by tests.
fn path() -> PathBuf {
    let other = if cfg!(debug_assertions) { std::env::var_os("__MONITOR_JOURNAL_SOCKET") } else { None };
    other.map_or_else(|| SOCKET.into(), PathBuf::from)
}

fn is_stream(stream: &str, dev: u64, ino: u64) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    stream.split_once(':').is_some_and(|(d, i)| number(d) == Some(dev) && number(i) == Some(ino))
}

/// Makes an entry of each line that is said, and puts it into the queue.
pub(super) struct Entries(pub(super) NonBlocking);

impl<S: Subscriber> Layer<S> for Entries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        let metadata = event.metadata();
        let priority = match *metadata.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        entry.put("MONITOR_TARGET", metadata.target());
        // What does not fit into the queue is counted there.
        let _ = self.0.clone().write_all(&entry.finish(priority));
    }
}

/// A line without fields.
pub(super) fn plain(line: &str) -> Vec<u8> {
    Entry { message: line.to_owned(), ..Entry::default() }.finish(6)
}

/// An entry in the making.
#[derive(Default)]
struct Entry {
    /// For people: with the fields behind it, because `journalctl` shows nothing else.
    message: String,
    shown: String,
    fields: Vec<u8>,
}

impl Entry {
    /// A field; one with a line break goes with its length.
    fn put(&mut self, key: &str, value: &str) {
        self.fields.extend_from_slice(key.as_bytes());
        if value.contains('\n') {
            self.fields.push(b'\n');
            self.fields.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.fields.push(b'=');
        }
        self.fields.extend_from_slice(value.as_bytes());
        self.fields.push(b'\n');
    }

    fn finish(mut self, priority: u8) -> Vec<u8> {
        let message = std::mem::take(&mut self.message) + &self.shown;
        self.put("MESSAGE", message.trim_end());
        self.put("PRIORITY", &priority.to_string());
        self.put("SYSLOG_IDENTIFIER", "monitor");
        self.fields
    }

    fn add(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            FACTS => self.fields.extend_from_slice(value.as_bytes()),
            // Of the `log` crate: where in the code.
            name if name.starts_with("log.") => {}
            name => {
                // A `String` takes everything.
                let _ = write!(self.shown, " {name}={value}");
                self.put(&format!("MONITOR_{}", name.to_ascii_uppercase()), value);
            }
        }
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_is_the_journals_if_the_numbers_are_its_own() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "8", "", "8:1234:5", "a:b"] {
            assert!(!is_stream(other, 8, 1234), "{other}");
        }
    }

    /// What a reader of journald's socket gets: the datagram, or what is in the file that came with it.
    fn received(socket: &UnixDatagram) -> Vec<u8> {
        use std::io::{Read as _, Seek as _};

        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

        let mut buffer = vec![0; 1 << 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [io::IoSliceMut::new(&mut buffer)];
        let got = rustix::net::recvmsg(socket, &mut into, &mut control, RecvFlags::empty()).unwrap();
        let mut files = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let Some(file) = files.next() else { return buffer[..got.bytes].to_vec() };
        let (mut file, mut text) = (File::from(file), Vec::new());
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        assert!(file.write_all(b"x").is_err(), "nobody changes it any more");
        text
    }

    #[test]
    fn an_entry_of_any_length_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let reader = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal { socket: UnixDatagram::unbound().unwrap(), path };
        for length in [1, 10_000, 4 << 20] {
            let entry = plain(&"x".repeat(length));
            journal.write_all(&entry).unwrap();
            assert!(received(&reader) == entry, "{length}");
        }
    }

    #[test]
    fn a_value_with_a_line_break_cannot_begin_a_field() {
        let entry = plain("a\nPRIORITY=0");
        let mut wanted = b"MESSAGE\n".to_vec();
        wanted.extend_from_slice(&12_u64.to_le_bytes());
        wanted.extend_from_slice(b"a\nPRIORITY=0\nPRIORITY=6\nSYSLOG_IDENTIFIER=monitor\n");
        assert_eq!(entry, wanted);
    }
}
