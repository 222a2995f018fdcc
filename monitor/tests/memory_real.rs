//! The readers against the real kernel's files. What needs root makes a memory cgroup of its own, charges
//! memory in it alone, and removes it. A test that cannot run says why; with `CI=true` it fails.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy.toml exempts the test functions alone")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use monitor::memory::{
    CgroupPath, DomainReader, Hierarchy, Level, ReadError, Reading, Roots, Source, Version, users,
};
use monitor::units::{Bytes, Pid};
use procfs::Current;

const MIB: u64 = 1 << 20;
/// For what the kernel does on its own time; no test waits this long when all is well.
const DEADLINE: Duration = Duration::from_secs(30);

fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "with CI=true nothing is skipped: {why}");
}

fn hierarchy() -> Result<Hierarchy, ReadError> {
    let roots = Roots::default();
    Hierarchy::find(&roots.cgroupfs, &roots.procfs)
}

fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "in {DEADLINE:?} it did not happen: {what}");
        std::thread::yield_now();
    }
}

/// A memory cgroup of this test's own, removed at the end with what was started in it.
struct Cgroup {
    hierarchy: Hierarchy,
    path: CgroupPath,
    child: Option<Child>,
}

impl Cgroup {
    /// `None`, and why on stderr, where it cannot be made.
    fn make(name: &str) -> Option<Self> {
        let made = hierarchy().map_err(|error| error.to_string()).and_then(|hierarchy| {
            let path: CgroupPath = format!("monitor-test-{name}-{}", std::process::id()).parse().unwrap();
            fs::create_dir(hierarchy.dir(&path)).map_err(|error| format!("cannot make a cgroup: {error}"))?;
            let cgroup = Self { hierarchy, path, child: None };
            if cgroup.file(cgroup.limit_file()).exists() {
                Ok(cgroup)
            } else {
                Err("the memory controller is not enabled for children of the root cgroup".to_owned())
            }
        });
        match made {
            Ok(cgroup) => Some(cgroup),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.hierarchy.dir(&self.path).join(name)
    }

    fn limit_file(&self) -> &'static str {
        match self.hierarchy.version() {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        }
    }

    fn set_limit(&self, mib: u64) {
        fs::write(self.file(self.limit_file()), (mib * MIB).to_string()).unwrap();
    }

    fn reader(&self) -> DomainReader {
        DomainReader::cgroup(&Roots::default(), &self.hierarchy, &self.path, false).unwrap()
    }

    /// Starts a process in the cgroup that comes to hold `mib` MiB: `tail` keeps what it may have to print.
    fn charge(&mut self, mib: usize) -> Pid {
        let mut child = Command::new("tail")
            .args(["-c", &(mib << 20).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        fs::write(self.file("cgroup.procs"), child.id().to_string()).unwrap();
        child.stdin.as_mut().unwrap().write_all(&vec![1; mib << 20]).unwrap();
        let pid = Pid(child.id());
        self.child = Some(child);
        pid
    }

    fn remove(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let dir = self.hierarchy.dir(&self.path);
        // The dead process leaves the cgroup a moment after it was waited for.
        wait_for("the cgroup is removed", || (fs::remove_dir(&dir).is_ok() || !dir.exists()).then_some(()));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.remove();
    }
}

fn limited(level: Level) -> Reading {
    match level {
        Level::Limited(reading) => reading,
        Level::NoLimit { .. } => panic!("{level:?} has no limit"),
    }
}

#[test]
fn meminfo_is_read_as_procfs_reads_it() {
    let mut reader = DomainReader::node(&Roots::default(), None, false).unwrap();
    // Memory moves from one reading to the next: they agree when it happens not to.
    wait_for("reader and oracle agree", || {
        let ours = limited(reader.read().unwrap());
        let theirs = procfs::Meminfo::current().unwrap();
        assert_eq!((ours.total, ours.source), (Bytes(theirs.mem_total), Source::Meminfo));
        (ours.used == Bytes(theirs.mem_total - theirs.mem_available.unwrap())).then_some(())
    });
}

#[test]
fn the_cgroup_of_this_process_is_found_with_its_id() {
    let Ok(hierarchy) = hierarchy() else { return skip("no memory controller here") };
    let path = match hierarchy.cgroup_of(Path::new("/proc"), Pid(std::process::id())) {
        Err(error @ ReadError::Outside { .. }) => return skip(&error.to_string()),
        other => other.unwrap(),
    };
    let charged = hierarchy.charged(&path).unwrap();
    assert!(hierarchy.id(&charged).unwrap().0 > 0);
}

#[test]
fn a_cgroup_is_read_as_its_files_say() {
    let Some(mut cgroup) = Cgroup::make("read") else { return };
    let mut reader = cgroup.reader();
    assert!(matches!(reader.read(), Ok(Level::NoLimit { .. })));
    cgroup.set_limit(128);
    let pid = cgroup.charge(32);
    let reading = wait_for("32 MiB are charged", || {
        let reading = limited(reader.read().unwrap());
        (reading.used >= Bytes(32 * MIB)).then_some(reading)
    });
    assert_eq!(reading.total, Bytes(128 * MIB));
    assert!(reading.used < Bytes(64 * MIB), "nothing else is charged here: {reading:?}");

    let (usage, prefix) = match cgroup.hierarchy.version() {
        Version::V1 => ("memory.usage_in_bytes", "total_"),
        Version::V2 => ("memory.current", ""),
    };
    wait_for("reader and files agree", || {
        let number = |text: &str| text.trim().parse::<u64>().unwrap();
        let usage = number(&fs::read_to_string(cgroup.file(usage)).unwrap());
        let stat = fs::read_to_string(cgroup.file("memory.stat")).unwrap();
        let cache: u64 = ["inactive_file ", "active_file "]
            .map(|key| {
                let key = format!("{prefix}{key}");
                number(stat.lines().find_map(|line| line.strip_prefix(&key)).unwrap())
            })
            .iter()
            .sum();
        (limited(reader.read().unwrap()).used == Bytes(usage - cache)).then_some(())
    });

    assert_eq!(cgroup.hierarchy.cgroup_of(Path::new("/proc"), pid), Ok(cgroup.path.clone()));
    assert_eq!(cgroup.hierarchy.limited(&cgroup.path), [(cgroup.path.clone(), Ok(Bytes(128 * MIB)))]);
    assert_eq!(reader.cgroup_id(), Some(cgroup.hierarchy.id(&cgroup.path).unwrap()));
    let within = Some((&cgroup.hierarchy, &cgroup.path));
    let users = users::top(Path::new("/proc"), within, 10, DEADLINE, &[]).unwrap();
    assert_eq!(users.top.iter().map(|user| user.pid).collect::<Vec<_>>(), [Some(pid)]);
    assert!(users.top[0].memory >= Bytes(32 * MIB) && users.top[0].command.starts_with("tail -c"));
}

#[test]
fn a_resize_takes_effect_at_the_next_reading() {
    let Some(cgroup) = Cgroup::make("resize") else { return };
    let mut reader = cgroup.reader();
    for mib in [64, 256, 32] {
        cgroup.set_limit(mib);
        assert_eq!(limited(reader.read().unwrap()).total, Bytes(mib * MIB));
    }
}

#[test]
fn a_removed_cgroup_is_gone_also_when_one_of_its_name_comes_again() {
    let Some(mut cgroup) = Cgroup::make("gone") else { return };
    let mut reader = cgroup.reader();
    let id = reader.cgroup_id();
    cgroup.remove();
    assert!(reader.read().unwrap_err().is_gone());
    fs::create_dir(cgroup.hierarchy.dir(&cgroup.path)).unwrap();
    assert!(reader.read().unwrap_err().is_gone());
    assert_ne!(cgroup.reader().cgroup_id(), id);
}
