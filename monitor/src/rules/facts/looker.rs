//! Looks at all processes, and remembers what it saw: a process that is known costs one small file at the next look, and
//! all of its files now and then, by turns. What it remembers of whom root trusts is forgotten after some seconds.

mod part;
#[cfg(test)]
mod tree;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::part::{Ask, Part, Units};
use super::files::{Status, title};
use super::{Accounts, Machine, Never, Seen, SeenCgroup, Whose, pods};
use crate::executable::{self, File};
use crate::memory::{CgroupId, CgroupPath, Hierarchy, ReadError, Roots, process};
use crate::proc_stat::Stat;
use crate::proc_threads;
use crate::rules::trust;
use crate::units::Pid;

/// Root excludes a process from the kernel's own killer by this or less: services by -999, pause containers and container
/// shims by -998.
const EXCLUDED: i32 = -998;

/// The kubelet's for pods that a node needs (`system-node-critical`), whatever their class; and for those of class Guaranteed,
/// which are in none of these folders.
const NODE_CRITICAL: (i32, [&str; 2]) = (-997, ["besteffort", "burstable"]);

/// Each process is read whole at one of so many looks.
const TURNS: u64 = 8;

/// How long is believed who owns what.
const BELIEVED: Duration = Duration::from_secs(8);

/// How many more cgroups than twice those with processes in them are remembered between two looks at all processes, or at those
/// that are new: who moves from one new cgroup to the next makes no others.
const MOST_EMPTY: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Looker {
    roots: Roots,
    hierarchy: Option<Hierarchy>,
    /// The agent, what serves it, and their ancestors.
    own: HashSet<Pid>,
    /// The file that this process runs; `None`: PROCFS is not that of this process.
    program: Option<File>,
    /// Where the paths of this machine's files begin: in a container not at its own root.
    base: PathBuf,
    machine: Machine,
    looks: u64,
    /// When it was forgotten last who owns what.
    forgot: Instant,
    by_path: HashMap<CgroupPath, usize>,
    /// With more cgroups than these it is asked which are empty before a look at some processes.
    most_cgroups: usize,
    /// How far each cgroup's path is root's.
    trusted: HashMap<CgroupPath, usize>,
    /// The files that only root can change; `None`: others can.
    files: HashMap<PathBuf, Option<File>>,
}

/// The root of process 1, if this process sees another file system than that one does.
fn base(procfs: &Path) -> PathBuf {
    let namespace = |pid: &str| fs::metadata(procfs.join(pid).join("ns/mnt")).map(|found| found.ino()).ok();
    let (init, own) = (namespace("1"), namespace("self"));
    let root = procfs.join("1/root");
    // Without the right to look into it, its own root has to do.
    let elsewhere = init.is_some() && own.is_some() && init != own && fs::metadata(root.join(".")).is_ok();
    if elsewhere { root } else { PathBuf::from("/") }
}

impl Looker {
    /// `own` are the agent, what serves it, and their ancestors.
    #[must_use]
    pub fn new(roots: Roots, own: HashSet<Pid>) -> Self {
        let hierarchy = Hierarchy::find(&roots.cgroupfs, &roots.procfs).ok();
        let program = (!own.is_empty()).then(|| executable::file(&roots.procfs.join("self/exe"))).flatten();
        let base = base(&roots.procfs);
        Self {
            roots,
            hierarchy,
            own,
            program,
            base,
            machine: Machine::default(),
            looks: 0,
            forgot: Instant::now(),
            by_path: HashMap::new(),
            most_cgroups: MOST_EMPTY,
            trusted: HashMap::new(),
            files: HashMap::new(),
        }
    }

    /// Looks at all processes. `memory`: what each holds is asked anew; `cgroups_changed`: cgroups were made or removed since
    /// the last look.
    ///
    /// # Errors
    /// PROCFS cannot be listed.
    pub fn look(&mut self, memory: bool, cgroups_changed: bool) -> Result<&Machine, ReadError> {
        let mut pids = process::all(&self.roots.procfs)?;
        pids.sort_unstable();
        if self.looks == 0 || cgroups_changed || self.is_old() {
            self.forget();
            self.machine.accounts = Accounts::read(&self.base);
        }
        self.looks = self.looks.wrapping_add(1);
        let mut known = std::mem::take(&mut self.machine.processes).into_iter().peekable();
        let mut processes = Vec::with_capacity(pids.len());
        for pid in pids {
            while known.next_if(|old| old.pid < pid).is_some() {}
            let old = known.next_if(|old| old.pid == pid);
            let its_turn = (u64::from(pid.0) ^ self.looks).is_multiple_of(TURNS);
            processes.extend(self.again(pid, old, memory, its_turn));
        }
        self.machine.processes = processes;
        self.forget_empty_cgroups();
        Ok(&self.machine)
    }

    /// Makes one that has looked at nothing yet, of the same roots.
    pub fn another(&self) -> impl FnOnce() -> Self + Send + use<> {
        let (roots, own) = (self.roots.clone(), self.own.clone());
        move || Self::new(roots, own)
    }

    /// What the last look found.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The users, as they were read last.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.machine.accounts
    }

    /// The same, for a caller that does not look again.
    #[must_use]
    pub fn into_machine(self) -> Machine {
        self.machine
    }

    /// The kernel's id of the cgroup that is at this path now; `None`: there is none.
    #[must_use]
    pub fn cgroup_id(&self, path: &CgroupPath) -> Option<CgroupId> {
        self.hierarchy.as_ref()?.id(path).ok()
    }

    /// The id of the worker that is known at this path, if the cgroup there is still that one.
    #[must_use]
    pub fn known_unit(&self, units: &Units, path: &CgroupPath) -> Option<CgroupId> {
        units.get(path).copied().filter(|id| self.cgroup_id(path) == Some(*id))
    }

    /// Which rules have which processes: what a process can change of itself does not take it away from its rule.
    pub fn keep(&mut self, rules: impl IntoIterator<Item = (Pid, Arc<str>)>) {
        for (pid, rule) in rules {
            if let Ok(place) = self.machine.processes.binary_search_by_key(&pid, |seen| seen.pid) {
                self.machine.processes[place].kept = Some(rule);
            }
        }
    }

    /// Forgets which rules had which processes: the rules have changed.
    pub fn forget_rules(&mut self) {
        self.machine.processes.iter_mut().for_each(|seen| seen.kept = None);
        self.looks = 0;
    }

    /// Looks at one process as it is now, with nothing remembered but the names of users, and without its title, for which
    /// the kernel may wait as long as the process likes (`title`). `None`: it has ended.
    pub fn one(&mut self, pid: Pid) -> Option<Machine> {
        self.machine.cgroups.clear();
        self.by_path.clear();
        self.forget();
        if self.looks.is_multiple_of(TURNS) {
            self.machine.accounts = Accounts::read(&self.base);
        }
        self.looks = self.looks.wrapping_add(1);
        let seen = self.process_titled(pid, |_, _| Vec::new())?;
        let Machine { cgroups, accounts, .. } = &self.machine;
        Some(Machine { processes: vec![seen], cgroups: cgroups.clone(), accounts: accounts.clone() })
    }

    /// Forgets the cgroups that no process is in that is remembered: most of them are removed by then.
    fn forget_empty_cgroups(&mut self) {
        let Machine { processes, cgroups, .. } = &mut self.machine;
        let mut places: Vec<Option<usize>> = vec![None; cgroups.len()];
        for seen in processes.iter() {
            if let Some(place) = seen.cgroup.and_then(|old| places.get_mut(old)) {
                *place = Some(0);
            }
        }
        for (new, place) in places.iter_mut().flatten().enumerate() {
            *place = new;
        }
        let mut kept = places.iter();
        cgroups.retain(|_| kept.next().is_some_and(Option::is_some));
        let moved = |old: usize| places.get(old).copied().flatten();
        for seen in processes.iter_mut() {
            seen.cgroup = seen.cgroup.and_then(moved);
        }
        self.by_path.retain(|_, place| moved(*place).map(|new| *place = new).is_some());
        self.most_cgroups = self.machine.cgroups.len().saturating_mul(2).saturating_add(MOST_EMPTY);
    }

    /// What may have changed behind our back: owners of files.
    fn forget(&mut self) {
        self.forget_trust();
        let mut cgroups = std::mem::take(&mut self.machine.cgroups);
        for cgroup in &mut cgroups {
            cgroup.trusted = self.trusted(&cgroup.path);
        }
        self.machine.cgroups = cgroups;
    }

    /// Who owns what is asked anew when it matters next.
    fn forget_trust(&mut self) {
        self.trusted.clear();
        self.files.clear();
        self.forgot = Instant::now();
    }

    fn is_old(&self) -> bool {
        self.forgot.elapsed() >= BELIEVED
    }

    /// `None`: it has ended.
    fn again(&mut self, pid: Pid, old: Option<Seen>, memory: bool, its_turn: bool) -> Option<Seen> {
        let Some(old) = old else { return self.process(pid) };
        let dir = self.roots.procfs.join(pid.to_string());
        let (name, stat) = Stat::with_name(&self.roots.procfs, pid).ok()?;
        if stat.has_ended_whole() {
            return None;
        }
        if stat.start_time == old.start && name == old.comm && stat.parent == old.parent && !its_turn {
            let rss = if memory { Status::read(&dir)?.rss } else { old.rss };
            return Some(Seen { rss, ..old });
        }
        let mut new = self.process(pid)?;
        if new.start == old.start && new.exe == old.exe {
            new.kept = old.kept;
        }
        Some(new)
    }

    /// `None`: it has ended.
    fn process(&mut self, pid: Pid) -> Option<Seen> {
        self.process_titled(pid, title)
    }

    fn process_titled(&mut self, pid: Pid, title: impl FnOnce(Pid, &Path) -> Vec<u8>) -> Option<Seen> {
        let dir = self.roots.procfs.join(pid.to_string());
        let (name, stat) = Stat::with_name(&self.roots.procfs, pid).unwrap_or_default();
        if stat.has_ended_whole() {
            return None;
        }
        // What its first thread does not say any more, one that lives does.
        let dir = if stat.exits() { proc_threads::speaker(&self.roots.procfs, pid) } else { dir };
        let status = Status::read(&dir)?;
        let kernel = stat.of_the_kernel();
        let (exe, runs, exe_trusted) = if kernel { (None, None, false) } else { self.executable(&dir) };
        let serves = self.program.is_some() && runs == self.program;
        let parent = stat.parent.or(status.parent);
        let never = if serves && status.uids.iter().all(|uid| *uid == 0) {
            // Root's own: the agent, what serves it, and its clients.
            Some(Never::Agent)
        } else {
            self.never(pid, kernel, &dir, &status)
        };
        let whose = self.whose(&status, parent, runs.filter(|_| exe_trusted));
        Some(Seen {
            pid,
            parent,
            uid: status.uid(),
            whose,
            comm: if name.is_empty() { status.name } else { name },
            title: if kernel { Vec::new() } else { title(pid, &dir) },
            exe,
            exe_trusted,
            rss: status.rss,
            never,
            cgroup: self.cgroup(pid),
            start: stat.start_time,
            kept: None,
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
        let score: Option<i32> = adjusted.and_then(|text| text.trim().parse().ok());
        if score.is_some_and(|score| score <= EXCLUDED || self.is_node_critical(pid, score)) {
            return Some(Never::OomScore);
        }
        self.machine.accounts.acts_for_another(&status.uids).then_some(Never::SetUserId)
    }

    fn is_node_critical(&self, pid: Pid, score: i32) -> bool {
        let (least, classes) = NODE_CRITICAL;
        let cgroup = || self.hierarchy.as_ref()?.cgroup_of(&self.roots.procfs, pid).ok();
        score <= least
            && cgroup().is_some_and(|path| {
                let path = path.to_string();
                path.contains("kubepods") && classes.iter().any(|class| path.contains(class))
            })
    }

    /// For whom it runs. What root's or a service's process forked runs the same program, and no user can become the child
    /// of such a process otherwise: an orphan goes to process 1, or to what a service manager asked for. `runs` is a file
    /// that only root can change.
    fn whose(&self, status: &Status, parent: Option<Pid>, runs: Option<File>) -> Whose {
        let system = |status: &Status| status.uid().is_some_and(|uid| self.machine.accounts.is_system(uid));
        if system(status) {
            return Whose::System;
        }
        let procfs = &self.roots.procfs;
        let of_init = || executable::file(&procfs.join("1/exe"));
        let forked = parent.filter(|parent| parent.0 > 1).is_some_and(|parent| {
            let dir = procfs.join(parent.to_string());
            runs.is_some()
                && executable::file(&dir.join("exe")) == runs
                && of_init() != runs
                && Status::read(&dir).is_some_and(|status| system(&status))
        });
        if forked { Whose::ForkedBySystem } else { Whose::User }
    }

    /// The path of its executable, the file itself, and whether only root can change what the path names.
    fn executable(&mut self, dir: &Path) -> (Option<Vec<u8>>, Option<File>, bool) {
        let link = dir.join("exe");
        let Ok(path) = fs::read_link(&link) else { return (None, None, false) };
        let found = executable::of(&link);
        let runs = found.map(|(file, _)| file);
        // Asked once for each path; the process's own file is asked each time, since it may be another. For one that is not root's
        // no path is walked.
        let roots = found
            .filter(|(_, owner)| *owner == 0)
            .and_then(|_| *self.files.entry(path.clone()).or_insert_with(|| trust::roots(&self.base, &path)));
        (Some(path.into_os_string().into_vec()), runs, roots.is_some() && runs == roots)
    }

    fn cgroup(&mut self, pid: Pid) -> Option<usize> {
        let hierarchy = self.hierarchy.as_ref()?;
        let path = hierarchy.cgroup_of(&self.roots.procfs, pid).ok()?;
        let trusted = self.trusted(&path);
        if let Some(known) = self.by_path.get(&path) {
            if let Some(cgroup) = self.machine.cgroups.get_mut(*known) {
                cgroup.trusted = trusted;
            }
            return Some(*known);
        }
        let pod = pods::of(&path).map(String::into_boxed_str);
        self.machine.cgroups.push(SeenCgroup { path: path.clone(), trusted, pod });
        let index = self.machine.cgroups.len() - 1;
        self.by_path.insert(path, index);
        Some(index)
    }

    /// How many bytes of the path name cgroups that only root, or this program's user, makes.
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

impl Machine {
    /// Looks at all processes. `own` are the agent, what serves it, and their ancestors.
    ///
    /// # Errors
    /// PROCFS cannot be listed.
    pub fn look(roots: &Roots, own: &HashSet<Pid>) -> Result<Self, ReadError> {
        let mut looker = Looker::new(roots.clone(), own.clone());
        looker.look(false, false)?;
        Ok(looker.into_machine())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;

    #[test]
    fn a_cgroup_that_nobody_is_in_is_forgotten() {
        let tree = tree::Tree::new();
        let mut looker = Looker::new(tree.roots(), HashSet::new());
        let old: Vec<Pid> = (40..60).map(|pid| tree.process(pid, &format!("/old-{pid}"))).collect();
        tree.process(60, "/stays");
        let places = |looker: &Looker| {
            let paths =
                looker.machine.cgroups.iter().map(|cgroup| cgroup.path.to_string()).collect::<Vec<_>>();
            let at = |seen: &Seen| (seen.pid.0, paths[seen.cgroup.unwrap()].clone());
            assert_eq!(looker.by_path.len(), paths.len());
            (paths.len(), looker.machine.processes.iter().map(at).collect::<Vec<_>>())
        };
        looker.look(false, false).unwrap();
        assert_eq!(places(&looker).0, 21);
        for pid in old {
            tree.ends(pid);
        }
        tree.process(61, "/new");
        looker.look(false, false).unwrap();
        let both = vec![(60, "/stays".to_owned()), (61, "/new".to_owned())];
        assert_eq!(places(&looker), (2, both.clone()));
        assert_eq!(looker.cgroup(Pid(61)), Some(1), "it is known by its path");

        // Also where only new processes are looked at.
        let short = tree.process(70, "/short");
        let asks = looker.strangers().unwrap();
        looker.part(&asks, &Rules::none(), &Units::new(), true);
        assert_eq!(places(&looker).0, 3);
        tree.ends(short);
        assert!(looker.strangers().unwrap().is_empty());
        assert_eq!(places(&looker), (2, both));

        // And where one process moves on and on.
        for round in 0..3 * MOST_EMPTY {
            tree.process(61, &format!("/moves-{round}"));
            let ask = Ask { pid: Pid(61), name: None, around: false };
            looker.part(&[ask], &Rules::none(), &Units::new(), true);
            assert!(looker.machine.cgroups.len() <= MOST_EMPTY + 10);
        }
    }

    #[test]
    fn in_a_container_paths_begin_at_the_root_of_process_1() {
        let dir = tempfile::tempdir().unwrap();
        let procfs = dir.path();
        assert_eq!(base(procfs), Path::new("/"), "nothing is known");
        for pid in ["1", "self"] {
            fs::create_dir_all(procfs.join(pid).join("ns")).unwrap();
            fs::write(procfs.join(pid).join("ns/mnt"), "").unwrap();
        }
        assert_eq!(base(procfs), Path::new("/"), "it cannot be looked into");
        fs::create_dir(procfs.join("1/root")).unwrap();
        assert_eq!(base(procfs), procfs.join("1/root"));
        // The same namespace.
        fs::remove_file(procfs.join("self/ns/mnt")).unwrap();
        fs::hard_link(procfs.join("1/ns/mnt"), procfs.join("self/ns/mnt")).unwrap();
        assert_eq!(base(procfs), Path::new("/"));
    }
}
