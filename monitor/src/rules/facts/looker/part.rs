//! A look at some processes: those that somebody told of, and all that decides what they are to the rules. What is found of
//! them is remembered for the next look at all.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::{Looker, Machine, Seen};
use crate::memory::{CgroupId, CgroupPath, ReadError, process, users};
use crate::rules::{Judgement, Rules};
use crate::units::Pid;

/// The most parents of a process that are looked at: a chain that is longer was made to be long.
const MOST_PARENTS: usize = 64;

/// The cgroups that are workers, by their paths: one that was made there since is another.
pub type Units = HashMap<CgroupPath, CgroupId>;

/// A process to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The process.
    pub pid: Pid,
    /// It was about to be named so.
    pub name: Option<Vec<u8>>,
    /// Its descendants too, as far as they are remembered, and all that is in its cgroup, if a rule makes a worker of that.
    pub around: bool,
}

/// What a look at some processes found.
#[derive(Debug, Default)]
pub struct Part {
    /// They, their parents, and who is in a cgroup with them that was looked at whole; in the order of their pids.
    pub machine: Machine,
    /// Who was asked for and is there, as places in the list, in order.
    pub asked: Vec<usize>,
    /// The cgroups that are workers and were looked at whole.
    pub whole: HashSet<CgroupPath>,
    /// Processes that do not have the name yet that they were to have.
    pub early: Vec<Ask>,
}

/// What is being put together.
#[derive(Default)]
struct Sight {
    seen: BTreeMap<Pid, Seen>,
    asked: BTreeSet<Pid>,
}

impl Looker {
    /// Looks at these processes. `known` are the cgroups that are workers already: of one that is not, all members are
    /// looked at. `cgroups_changed`: cgroups were made or removed since the last look.
    pub fn part(&mut self, asks: &[Ask], rules: &Rules, known: &Units, cgroups_changed: bool) -> Part {
        if cgroups_changed || self.is_old() {
            self.forget_trust();
        }
        if self.machine.cgroups.len() > self.most_cgroups {
            self.forget_empty_cgroups();
        }
        let mut sight = Sight::default();
        let mut early = Vec::new();
        for ask in asks {
            self.ask(ask, &mut sight, &mut early);
        }
        self.parents(&mut sight);
        let mut whole = HashSet::new();
        let around: HashSet<Pid> = asks.iter().filter(|ask| ask.around).map(|ask| ask.pid).collect();
        for unit in self.units(&sight, rules, known, &around) {
            if self.members(&unit, &mut sight) {
                whole.insert(unit);
            }
        }
        self.parents(&mut sight);
        let machine = self.machine_of(sight.seen.values());
        let at = |pid: &Pid| machine.processes.binary_search_by_key(pid, |seen| seen.pid).ok();
        let asked = sight.asked.iter().filter_map(at).collect();
        self.remember(sight);
        Part { machine, asked, whole, early }
    }

    /// Processes that are there and are not remembered, to be asked for; who has ended is forgotten.
    ///
    /// # Errors
    /// PROCFS cannot be listed.
    pub fn strangers(&mut self) -> Result<Vec<Ask>, ReadError> {
        let pids: BTreeSet<Pid> = process::all(&self.roots.procfs)?.into_iter().collect();
        self.machine.processes.retain(|seen| pids.contains(&seen.pid));
        self.forget_empty_cgroups();
        let known = &self.machine.processes;
        let new = |pid: &Pid| known.binary_search_by_key(pid, |seen| seen.pid).is_err();
        let new = pids.iter().copied().filter(new);
        Ok(new.map(|pid| Ask { pid, name: None, around: false }).collect())
    }

    fn ask(&mut self, ask: &Ask, sight: &mut Sight, early: &mut Vec<Ask>) {
        let Some(found) = self.anew(ask.pid) else { return };
        if ask.name.as_ref().is_some_and(|name| *name != found.comm) {
            // By the next look it has it, or another one of which a record tells.
            early.push(Ask { name: None, ..ask.clone() });
        }
        sight.seen.insert(ask.pid, found);
        sight.asked.insert(ask.pid);
        if ask.around {
            for pid in self.descendants(ask.pid) {
                self.take(pid, sight);
            }
        }
    }

    /// Who descends from a process, as far as that is remembered.
    fn descendants(&self, root: Pid) -> Vec<Pid> {
        let (mut family, mut found) = (HashSet::from([root]), Vec::new());
        // A parent has the lower number, as a rule: then the first round finds all.
        loop {
            let before = found.len();
            for seen in &self.machine.processes {
                if seen.parent.is_some_and(|parent| family.contains(&parent)) && family.insert(seen.pid) {
                    found.push(seen.pid);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// Everybody in a cgroup. False: it is gone.
    fn members(&mut self, unit: &CgroupPath, sight: &mut Sight) -> bool {
        let Some(dir) = self.hierarchy.as_ref().map(|hierarchy| hierarchy.dir(unit)) else { return false };
        let Ok(pids) = users::members(&dir) else { return false };
        for pid in pids {
            self.take(pid, sight);
        }
        true
    }

    /// Adds a process to those that were asked for, and reads its facts if that has not been done.
    fn take(&mut self, pid: Pid, sight: &mut Sight) {
        if let Entry::Vacant(place) = sight.seen.entry(pid) {
            let Some(found) = self.known(pid) else { return };
            place.insert(found);
        }
        sight.asked.insert(pid);
    }

    /// Looks at the parents of all of them, up to process 1, from which nobody descends to the rules.
    fn parents(&mut self, sight: &mut Sight) {
        let all: Vec<Option<Pid>> = sight.seen.values().map(|seen| seen.parent).collect();
        for parent in all {
            let mut next = parent;
            for _ in 0..MOST_PARENTS {
                let Some(pid) = next.filter(|pid| pid.0 > 1 && !sight.seen.contains_key(pid)) else { break };
                let Some(found) = self.known(pid) else { break };
                next = found.parent;
                sight.seen.insert(pid, found);
            }
        }
    }

    /// The cgroups that are to be looked at whole: those that are new workers by somebody who was asked for, those that are to
    /// be looked `around` in, and those in which somebody is protected now.
    fn units(
        &self,
        sight: &Sight,
        rules: &Rules,
        known: &Units,
        around: &HashSet<Pid>,
    ) -> HashSet<CgroupPath> {
        let machine = self.machine_of(sight.seen.values());
        let profiles = machine.profiles(rules);
        let at = |pid: Pid| machine.processes.binary_search_by_key(&pid, |seen| seen.pid).ok();
        let is_known = |unit: &CgroupPath| self.known_unit(known, unit).is_some();
        let mut units = HashSet::new();
        for (pid, index) in sight.asked.iter().filter_map(|pid| Some((pid, at(*pid)?))) {
            let (seen, profile) = (&machine.processes[index], &profiles[index]);
            let parent = seen.parent.and_then(at).map(|parent| &profiles[parent]);
            match rules.judge(profile, parent) {
                Judgement::Worker(matched) => {
                    let path = matched.cgroup.and_then(|length| profile.place().path().get(..length));
                    let unit = path.and_then(|path| CgroupPath::new(OsStr::from_bytes(path)).ok());
                    units.extend(unit.filter(|unit| around.contains(pid) || !is_known(unit)));
                }
                Judgement::Never(_) | Judgement::Protected { .. } => {
                    let cgroup = seen.cgroup.and_then(|cgroup| machine.cgroups.get(cgroup));
                    let held = cgroup.into_iter().flat_map(|cgroup| cgroup.path.ancestors());
                    units.extend(held.filter(|path| known.contains_key(path)));
                }
                Judgement::Refused(..) | Judgement::Unmatched => {}
            }
        }
        units
    }

    /// Looked at whole now. `None`: it has ended.
    fn anew(&mut self, pid: Pid) -> Option<Seen> {
        let mut new = self.process(pid)?;
        let old = self.place(pid).and_then(|place| self.machine.processes.get(place));
        if let Some(old) = old.filter(|old| new.start == old.start && new.exe == old.exe) {
            new.kept.clone_from(&old.kept);
        }
        Some(new)
    }

    /// As it is remembered, if it is the same still.
    fn known(&mut self, pid: Pid) -> Option<Seen> {
        let Some(old) = self.place(pid).and_then(|place| self.machine.processes.get(place)).cloned() else {
            return self.process(pid);
        };
        self.again(pid, Some(old), false, false)
    }

    fn place(&self, pid: Pid) -> Option<usize> {
        self.machine.processes.binary_search_by_key(&pid, |seen| seen.pid).ok()
    }

    /// These processes alone, with the cgroups that they are in.
    fn machine_of<'s>(&self, all: impl Iterator<Item = &'s Seen>) -> Machine {
        let mut machine = Machine { accounts: self.machine.accounts.clone(), ..Machine::default() };
        let mut places = BTreeMap::new();
        for seen in all {
            let cgroup = seen.cgroup.and_then(|old| {
                let cgroup = self.machine.cgroups.get(old)?;
                Some(*places.entry(old).or_insert_with(|| {
                    machine.cgroups.push(cgroup.clone());
                    machine.cgroups.len() - 1
                }))
            });
            machine.processes.push(Seen { cgroup, ..seen.clone() });
        }
        machine
    }

    fn remember(&mut self, sight: Sight) {
        let mut new = Vec::new();
        for (pid, seen) in sight.seen {
            match self.place(pid) {
                Some(place) => self.machine.processes[place] = seen,
                None => new.push(seen),
            }
        }
        if !new.is_empty() {
            self.machine.processes.extend(new);
            self.machine.processes.sort_by_key(|seen| seen.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use std::sync::Arc;

    use super::super::tree::Tree;
    use super::*;
    use crate::memory::Roots;
    use crate::rules::facts::own;
    use crate::rules::parse;

    fn ask(pid: u32) -> Ask {
        Ask { pid: Pid(pid), name: None, around: false }
    }

    /// As a container's that is started again.
    #[test]
    fn a_cgroup_that_was_made_again_is_not_the_worker_that_was_known() {
        let text = "[[rule]]\nname = \"box\"\nunit = \"cgroup\"\nmatch.cgroup = \"/boxes/*\"\n";
        let specs = parse::rules(&Arc::from("test"), text).unwrap();
        let rules = Rules::compile(&specs, None).unwrap();
        let tree = Tree::new();
        let (first, second) = (tree.process(40, "/boxes/a"), tree.process(41, "/boxes/a"));
        tree.cgroup("/boxes/a", &[40, 41]);
        let mut looker = Looker::new(tree.roots(), HashSet::new());
        let path: CgroupPath = "/boxes/a".parse().unwrap();
        let id = looker.cgroup_id(&path).unwrap();
        let known = Units::from([(path.clone(), id)]);
        let part = looker.part(&[ask(40)], &rules, &known, false);
        assert_eq!((part.whole.len(), part.asked.len()), (0, 1), "one more in a worker that is known");
        tree.ends(first);
        tree.ends(second);
        let third = tree.process(42, "/boxes/a");
        tree.make_again("/boxes/a", &[42]);
        assert_ne!(looker.cgroup_id(&path), Some(id));
        let part = looker.part(&[ask(42)], &rules, &known, true);
        assert!(part.whole.contains(&path), "it was looked at whole");
        let asked: Vec<Pid> = part.asked.iter().map(|index| part.machine.processes[*index].pid).collect();
        assert_eq!(asked, [third]);
    }

    #[test]
    fn who_is_asked_for_comes_with_all_that_decides_what_it_is() {
        let roots = Roots::default();
        let mut looker = Looker::new(roots.clone(), own(&roots.procfs));
        looker.look(false, false).unwrap();
        let mut shell = Command::new("sh");
        let mut shell = shell.args(["-c", "sleep 100 & read go"]).stdin(Stdio::piped()).spawn().unwrap();
        let (pid, this) = (shell.id(), std::process::id());
        let strangers = looker.strangers().unwrap();
        assert!(strangers.contains(&ask(pid)) && !strangers.contains(&ask(this)));
        let rules = Rules::none();
        let asks = [ask(pid), Ask { name: Some(b"soon".to_vec()), ..ask(this) }, ask(u32::MAX)];
        let part = looker.part(&asks, &rules, &Units::new(), false);
        let of = |index: &usize| part.machine.processes[*index].pid;
        let mut asked = [Pid(pid), Pid(this)];
        asked.sort_unstable();
        assert_eq!(part.asked.iter().map(of).collect::<Vec<_>>(), asked, "who is gone is not there");
        assert_eq!(part.early, [ask(this)], "it has another name still");
        let seen = |pid: u32| part.machine.processes.iter().find(|seen| seen.pid == Pid(pid)).unwrap();
        assert_eq!(seen(pid).parent, Some(Pid(this)));
        let parent = seen(this).parent.filter(|parent| parent.0 > 1);
        assert!(parent.is_none_or(|parent| part.machine.processes.iter().any(|seen| seen.pid == parent)));
        assert!(!looker.strangers().unwrap().contains(&ask(pid)), "it is remembered");

        // With what descends from it, once that is there.
        let sleeps = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let mut around = looker.strangers().unwrap();
            looker.part(&around, &rules, &Units::new(), false);
            around = vec![Ask { around: true, ..ask(pid) }];
            let part = looker.part(&around, &rules, &Units::new(), false);
            let all = part.asked.iter().map(|index| part.machine.processes[*index].clone());
            all.into_iter().find(|seen| seen.parent == Some(Pid(pid)) && seen.comm == b"sleep")
        });
        let sleeps = sleeps.unwrap().pid;
        drop(shell.stdin.take());
        shell.wait().unwrap();
        let orphan = crate::kill::Process::open_unchecked(sleeps).unwrap();
        orphan.signal(rustix::process::Signal::KILL).unwrap();
    }
}
