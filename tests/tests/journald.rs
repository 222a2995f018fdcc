//! The agent as a service: its log goes to systemd's journal with fields, by journald's own protocol. Here the socket is a
//! test's own; the real journal is in the VM that boots systemd (`cargo xtask vm --systemd`).

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::PATIENCE;
use monitor_tests::hog::Hog;
use monitor_tests::{sandbox, worker};

/// The fields of an entry, each with all its values.
type Entry = BTreeMap<String, Vec<String>>;

/// A journald: its socket, and the stream that a service's stderr is.
struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    stream: UnixStream,
    _dir: tempfile::TempDir,
}

impl Journal {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { socket, path, stream: UnixStream::pair().unwrap().0, _dir: dir }
    }

    fn guard(&self, sandbox: &Sandbox, more: &[(&str, &OsStr)]) -> Agent {
        let stderr = OwnedFd::from(self.stream.try_clone().unwrap());
        let about = File::from(stderr.try_clone().unwrap()).metadata().unwrap();
        let stream = format!("{}:{}", about.dev(), about.ino());
        let mut environment = more.to_vec();
        environment.push(("JOURNAL_STREAM", stream.as_ref()));
        environment.push(("__MONITOR_JOURNAL_SOCKET", self.path.as_os_str()));
        let flags = ["--usage-threshold", "0.5"];
        Agent::guard_speaking_to(sandbox, flags, stderr.into(), &environment).unwrap()
    }

    /// What comes until `last` holds of an entry.
    fn read_until(&self, last: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        monitor_tests::clock::wait_for("an entry of the journal", PATIENCE, || {
            while let Ok(length) = self.socket.recv(&mut buffer) {
                entries.push(parse(&buffer[..length]));
                if entries.last().is_some_and(&last) {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .unwrap();
        entries
    }
}

/// By <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.
fn parse(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&bytes[..end]).unwrap();
        bytes = &bytes[end + 1..];
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            None => {
                let (length, rest) = bytes.split_at(8);
                let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
                let value = std::str::from_utf8(&rest[..length]).unwrap().to_owned();
                assert_eq!(rest[length], b'\n');
                bytes = &rest[length + 1..];
                (line, value)
            }
        };
        // What journald takes: anything else it drops.
        assert!(!key.is_empty() && key.len() <= 64 && !key.starts_with('_'), "{key}");
        assert!(
            key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'),
            "{key}"
        );
        entry.entry(key.to_owned()).or_default().push(value);
    }
    entry
}

fn is(entry: &Entry, key: &str, value: &str) -> bool {
    entry.get(key).is_some_and(|values| values == &[value])
}

#[test]
fn a_kill_is_one_entry_with_its_facts_as_fields() {
    let sandbox = sandbox!(128);
    let journal = Journal::new();
    let agent = journal.guard(&sandbox, &[]);
    let ready = journal.read_until(|entry| entry["MESSAGE"][0].contains("listening on"));
    assert!(is(ready.last().unwrap(), "SYSLOG_IDENTIFIER", "monitor"));

    let mut hog = Hog::new(1 << 20).rate(200).on_line().spawn_in(&sandbox).unwrap();
    // A name is only a name: it begins no field.
    let name = "a\nMONITOR_KILL=9\nPRIORITY=0";
    let id = Caller::connect(agent.socket()).unwrap().register_of(hog.pid(), name, "them").unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let entries = journal.read_until(|entry| is(entry, "MONITOR_NOTE", "report"));
    let told =
        |word: &str| entries.iter().filter(|entry| is(entry, "MONITOR_NOTE", word)).collect::<Vec<_>>();
    // One line for a decision, and its report.
    assert!(told("decided").is_empty());
    let [killed] = told("killed")[..] else { panic!("{entries:?}") };
    let pid = hog.pid().to_string();
    for (key, value) in [
        ("MESSAGE_ID", "6c71a0c10a2149299f29759f561eeda5"),
        ("PRIORITY", "4"),
        ("MONITOR_KILL", "1"),
        ("MONITOR_KILLED_BY", "monitor"),
        ("MONITOR_WORKER", &id),
        ("MONITOR_PID", &pid),
        ("MONITOR_OWNER", "them"),
        ("MONITOR_NAME", r"a\nMONITOR_KILL=9\nPRIORITY=0"),
        ("MONITOR_DOMAIN", &sandbox.domain()),
        ("MONITOR_CGROUP", &sandbox.path().to_string()),
    ] {
        assert!(is(killed, key, value), "{key}={value} is not in {killed:?}");
    }
    assert!(killed["MESSAGE"][0].starts_with("the agent killed w1"), "{killed:?}");
    let report = told("report")[0];
    assert!(
        report["MESSAGE"][0].contains("\nWhat to do:\n") && is(report, "MONITOR_KILL", "1"),
        "{report:?}"
    );
    // What it says for people has the fields too, which `journalctl` does not show.
    assert!(
        entries
            .iter()
            .chain(&ready)
            .all(|entry| entry["MESSAGE"].len() == 1 && entry.contains_key("PRIORITY"))
    );
}

/// Of a hung journald: the socket takes no more.
#[test]
fn a_journal_that_takes_nothing_holds_no_kill_up() {
    let sandbox = sandbox!(128);
    let journal = Journal::new();
    let agent = journal.guard(&sandbox, &[("MONITOR_LOG", OsStr::new("trace"))]);
    for kills in 1..=3 {
        worker::outgrow(&agent, &sandbox, &["--owner", "o"]).unwrap();
        assert_eq!(agent.kills_over(kills).unwrap()[kills - 1]["confirmed"], true);
    }
}

/// Stderr is a file, as after `systemd-run ... 2>file`, and the variable was inherited.
#[test]
fn another_stderr_than_the_journals_gets_the_text() {
    let sandbox = sandbox!(128);
    let flags = ["--usage-threshold", "0.5"];
    let agent = Agent::guard_changed(&sandbox, flags, |command| {
        command.env("JOURNAL_STREAM", "8:1");
        Ok(())
    });
    assert!(agent.unwrap().said().iter().any(|line| line.contains("listening on")));
}
