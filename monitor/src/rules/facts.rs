//! One look at all processes: the facts that rules are matched by, from PROCFS and the cgroups' directories. It decides
//! nothing. A process that ends meanwhile is left out; what may not be read is unknown, and unknown matches nothing.
//!
//! What a user can forge is marked: an executable counts as trusted only if it is the very file (device and inode) that
//! its path names here, and nobody but root can change that file or what leads to it; a cgroup only as far as root owns it
//! and all around it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Facts, Never, Place, Profile, Rules, trust};
use crate::memory::{CgroupPath, Hierarchy, ReadError, Roots, process};
use crate::proc_threads;
use crate::units::{Bytes, Pid};

/// The most of a command line that is read: those of Java have their class path before what matters.
const TITLE_LENGTH: u64 = 32 << 10;

/// Set for kernel threads (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// Set for threads that exit (include/linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// Root excludes a process from the kernel's own killer by this or less.
const EXCLUDED: i32 = -999;

/// A process, as one look found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The process.
    pub pid: Pid,
    /// Its parent.
    pub parent: Option<Pid>,
    /// The kernel's name of it.
    pub comm: Vec<u8>,
    /// Its command line, arguments separated by one space.
    pub title: Vec<u8>,
    /// The path of its executable.
    pub exe: Option<Vec<u8>>,
    /// Whether that is certainly the file that this path names, and root's.
    pub exe_trusted: bool,
    /// As whom it runs; `None`: as several.
    pub uid: Option<u32>,
    /// What it holds, shared memory counted whole.
    pub rss: Option<Bytes>,
    /// Why it is never a worker.
    pub never: Option<Never>,
    /// Its cgroup, as a position in [`Machine::cgroups`]; `None`: not known.
    pub cgroup: Option<usize>,
}

/// A cgroup that a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCgroup {
    /// Its path.
    pub path: CgroupPath,
    /// How many bytes of the path, from its beginning, name cgroups that only root makes.
    pub trusted: usize,
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub struct Machine {
    /// The processes.
    pub processes: Vec<Seen>,
    /// The cgroups that they are in.
    pub cgroups: Vec<SeenCgroup>,
    /// The names of users.
    pub users: HashMap<u32, String>,
}

impl Machine {
    /// Looks at all processes. `own` are the agent, what serves it, and their ancestors.
    ///
    /// # Errors
    /// PROCFS cannot be listed.
    pub fn look(roots: &Roots, own: &HashSet<Pid>) -> Result<Self, ReadError> {
        let hierarchy = Hierarchy::find(&roots.cgroupfs, &roots.procfs).ok();
        let mut looker = Looker {
            roots,
            hierarchy,
            own,
            cgroups: Vec::new(),
            by_path: HashMap::new(),
            trusted: HashMap::new(),
            files: HashMap::new(),
        };
        let mut pids = process::all(&roots.procfs)?;
        pids.sort_unstable();
        let processes = pids.into_iter().filter_map(|pid| looker.process(pid)).collect();
        Ok(Self { processes, cgroups: looker.cgroups, users: users() })
    }

    /// The processes as rules match them, in the same order.
    #[must_use]
    pub fn profiles(&self, rules: &Rules) -> Vec<Profile<'_>> {
        let nowhere = Arc::new(rules.place(b"", 0));
        let places: Vec<Arc<Place>> = self
            .cgroups
            .iter()
            .map(|cgroup| Arc::new(rules.place(cgroup.path.as_path().as_os_str().as_bytes(), cgroup.trusted)))
            .collect();
        self.processes
            .iter()
            .map(|seen| {
                let facts = Facts {
                    pid: seen.pid,
                    parent: seen.parent,
                    comm: &seen.comm,
                    title: &seen.title,
                    exe: seen.exe.as_deref(),
                    exe_trusted: seen.exe_trusted,
                    uid: seen.uid,
                    user: seen.uid.and_then(|uid| self.users.get(&uid)).map(String::as_str),
                    memory: seen.rss,
                    never: seen.never,
                };
                let place = seen.cgroup.and_then(|cgroup| places.get(cgroup)).unwrap_or(&nowhere);
                Profile::new(facts, Arc::clone(place))
            })
            .collect()
    }
}

/// This process and its ancestors, and each agent of root's with what serves it: what a look must not take for workers.
/// Nobody, if PROCFS is not that of this process, as a tree of files is not.
#[must_use]
pub fn own(procfs: &Path) -> HashSet<Pid> {
    let pid = Pid(std::process::id());
    let here = fs::read_link(procfs.join("self")).is_ok_and(|own| own.as_os_str() == &*pid.to_string());
    let mut own = HashSet::new();
    if here {
        own.insert(pid);
        own.extend(process::ancestors(procfs, pid));
        for agent in agents(procfs) {
            own.insert(agent);
            own.extend(process::ancestors(procfs, agent));
        }
    }
    own
}

/// The processes of root that run this very program as the agent or as what serves it.
fn agents(procfs: &Path) -> Vec<Pid> {
    let file = |pid: &str| fs::metadata(procfs.join(pid).join("exe")).map(|found| (found.dev(), found.ino()));
    let Ok(program) = file("self") else { return Vec::new() };
    let serves = |pid: &Pid| {
        let dir = procfs.join(pid.to_string());
        // An argument is forged at will, but not as root.
        let arguments = fs::read(dir.join("cmdline")).unwrap_or_default();
        let role = arguments.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        let roles = ["agent", crate::agent::RELEASER];
        file(&pid.to_string()).is_ok_and(|found| found == program)
            && roles.iter().any(|known| known.as_bytes() == role)
            && fs::metadata(&dir).is_ok_and(|found| found.uid() == 0)
    };
    process::all(procfs).unwrap_or_default().into_iter().filter(serves).collect()
}

/// The names of the users that /etc/passwd has. Others are known by their numbers only: a directory service that does
/// not answer must not hold up whoever looks.
fn users() -> HashMap<u32, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1))
            && let Ok(uid) = uid.parse()
        {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// A look on its way: what was found out before is not asked again.
struct Looker<'l> {
    roots: &'l Roots,
    hierarchy: Option<Hierarchy>,
    own: &'l HashSet<Pid>,
    cgroups: Vec<SeenCgroup>,
    by_path: HashMap<CgroupPath, usize>,
    /// How far each cgroup's path is root's.
    trusted: HashMap<CgroupPath, usize>,
    /// Device and inode of the files that only root can change; `None`: others can.
    files: HashMap<PathBuf, Option<(u64, u64)>>,
}

impl Looker<'_> {
    /// `None`: it has ended.
    fn process(&mut self, pid: Pid) -> Option<Seen> {
        let dir = self.roots.procfs.join(pid.to_string());
        let stat = fs::read(dir.join("stat")).ok().and_then(|text| Stat::parse(&text)).unwrap_or_default();
        if stat.ended {
            return None;
        }
        // What its first thread does not say any more, one that lives does.
        let dir =
            if stat.flags & PF_EXITING == 0 { dir } else { proc_threads::speaker(&self.roots.procfs, pid) };
        let status = Status::read(&dir)?;
        let kernel = stat.flags & PF_KTHREAD != 0;
        let (exe, exe_trusted) = if kernel { (None, false) } else { self.executable(&dir) };
        let never = self.never(pid, kernel, &dir, &status);
        Some(Seen {
            pid,
            parent: stat.parent.or(status.parent),
            comm: if stat.comm.is_empty() { status.name } else { stat.comm },
            title: if kernel { Vec::new() } else { title(&dir) },
            exe,
            exe_trusted,
            uid: status.uid.filter(|_| !status.users_differ),
            rss: status.rss,
            never,
            cgroup: self.cgroup(pid),
        })
    }

    fn never(&self, pid: Pid, kernel: bool, dir: &Path, status: &Status) -> Option<Never> {
        if pid.0 == 1 {
            return Some(Never::Init);
        }
        if kernel {
            return Some(Never::KernelThread);
        }
        if self.own.contains(&pid) {
            return Some(Never::Agent);
        }
        let adjusted = fs::read_to_string(dir.join("oom_score_adj")).ok();
        if adjusted.and_then(|text| text.trim().parse().ok()).is_some_and(|score: i32| score <= EXCLUDED) {
            return Some(Never::OomScore);
        }
        status.users_differ.then_some(Never::SetUserId)
    }

    fn executable(&mut self, dir: &Path) -> (Option<Vec<u8>>, bool) {
        let link = dir.join("exe");
        let Ok(path) = fs::read_link(&link) else { return (None, false) };
        let file = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        // Asked once for each path; the process's own file is asked each time, since it may be another.
        let roots = *self
            .files
            .entry(path.clone())
            .or_insert_with(|| file(&path).filter(|_| path.is_absolute() && trust::roots(&path)));
        let trusted = roots.is_some_and(|roots| file(&link) == Some(roots));
        (Some(path.into_os_string().into_vec()), trusted)
    }

    fn cgroup(&mut self, pid: Pid) -> Option<usize> {
        let hierarchy = self.hierarchy.as_ref()?;
        let path = hierarchy.cgroup_of(&self.roots.procfs, pid).ok()?;
        if let Some(known) = self.by_path.get(&path) {
            return Some(*known);
        }
        let trusted = self.trusted(&path);
        self.cgroups.push(SeenCgroup { path: path.clone(), trusted });
        self.by_path.insert(path, self.cgroups.len() - 1);
        Some(self.cgroups.len() - 1)
    }

    /// How many bytes of the path name cgroups that only root, or the user who runs this, makes.
    fn trusted(&mut self, path: &CgroupPath) -> usize {
        let Some(hierarchy) = &self.hierarchy else { return 0 };
        let own = rustix::process::geteuid().as_raw();
        let mut ancestors: Vec<CgroupPath> = path.ancestors().collect();
        ancestors.reverse();
        let mut far = 0;
        for cgroup in ancestors {
            let length = cgroup.as_path().as_os_str().len();
            let dir = hierarchy.dir(&cgroup);
            let known = self.trusted.entry(cgroup).or_insert_with(|| {
                let roots = fs::symlink_metadata(&dir)
                    .is_ok_and(|found| (found.uid() == 0 || found.uid() == own) && found.mode() & 0o002 == 0);
                if roots { length } else { far }
            });
            if *known < length {
                return *known;
            }
            far = length;
        }
        far
    }
}

/// What is taken from PROCFS/PID/status.
struct Status {
    name: Vec<u8>,
    parent: Option<Pid>,
    uid: Option<u32>,
    /// Its real, effective, saved and file-system users are not one.
    users_differ: bool,
    rss: Option<Bytes>,
}

impl Status {
    fn read(dir: &Path) -> Option<Self> {
        let text = fs::read(dir.join("status")).ok()?;
        let value = |key: &str| {
            let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key.as_bytes()));
            line.map(|value| String::from_utf8_lossy(value).trim().to_owned())
        };
        let uids: Vec<u32> =
            value("Uid:").unwrap_or_default().split_whitespace().flat_map(str::parse).collect();
        let kib = value("VmRSS:").and_then(|value| value.strip_suffix(" kB")?.trim().parse::<u64>().ok());
        Some(Self {
            name: value("Name:").unwrap_or_default().into_bytes(),
            parent: value("PPid:").and_then(|parent| parent.parse().ok()).filter(|pid| *pid > 0).map(Pid),
            uid: uids.first().copied(),
            users_differ: uids.iter().any(|uid| Some(uid) != uids.first()),
            rss: kib.map(|kib| Bytes(kib.saturating_mul(1024))),
        })
    }
}

/// What is taken from PROCFS/PID/stat (proc_pid_stat(5)).
#[derive(Debug, Default, PartialEq, Eq)]
struct Stat {
    comm: Vec<u8>,
    parent: Option<Pid>,
    flags: u64,
    /// It is a zombie, and no thread of it lives on.
    ended: bool,
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Self> {
        // The name may hold anything, also brackets: it ends at the last one.
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let comm = text.get(open + 1..close)?.to_vec();
        let rest = String::from_utf8_lossy(text.get(close + 1..)?).into_owned();
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok().filter(|pid| *pid > 0).map(Pid);
        let flags = fields.nth(4)?.parse().ok()?;
        // Field 20; flags were field 9.
        let threads: u64 = fields.nth(10)?.parse().ok()?;
        Some(Self { comm, parent, flags, ended: matches!(state, "Z" | "X" | "x") && threads <= 1 })
    }
}

/// The command line with one space between arguments. What a process wrote over it may end in any number of zeros.
fn title(dir: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = fs::File::open(dir.join("cmdline")) {
        // What was read before an error is what there is.
        let _ = file.take(TITLE_LENGTH).read_to_end(&mut text);
    }
    let end = text.iter().rposition(|byte| !matches!(byte, 0 | b' ' | b'\n')).map_or(0, |last| last + 1);
    text.truncate(end);
    for byte in &mut text {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_and_newlines_do_not_break_stat() {
        let line = b"42 (a) b (c\n) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 100 0 0";
        let found = Stat::parse(line).unwrap();
        assert_eq!((found.comm, found.parent, found.ended), (b"a) b (c\n".to_vec(), Some(Pid(7)), false));
        assert!(found.flags & PF_KTHREAD == 0);
        let zombie = |threads: u32| format!("42 (x) Z 7 42 42 0 -1 0 1 0 0 0 0 0 0 0 20 0 {threads} 0 100");
        assert!(Stat::parse(zombie(1).as_bytes()).unwrap().ended);
        assert!(!Stat::parse(zombie(2).as_bytes()).unwrap().ended, "a thread of it lives on");
        assert_eq!(Stat::parse(b"42 (x"), None);
    }

    #[test]
    fn this_process_is_found_with_what_it_is() {
        let roots = Roots::default();
        let own = own(&roots.procfs);
        let machine = Machine::look(&roots, &own).unwrap();
        let pid = Pid(std::process::id());
        let this = machine.processes.iter().find(|process| process.pid == pid).unwrap();
        assert_eq!(this.never, Some(Never::Agent));
        assert_eq!(this.exe.as_deref(), Some(std::env::current_exe().unwrap().as_os_str().as_bytes()));
        assert_eq!(this.uid, Some(rustix::process::geteuid().as_raw()));
        assert!(this.rss.is_some_and(|rss| rss > Bytes(0)));
        let parent = machine.processes.iter().find(|process| Some(process.pid) == this.parent);
        assert!(parent.is_none_or(|parent| parent.never.is_some()), "ancestors are never workers");
    }
}
