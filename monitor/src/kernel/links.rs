//! Which hooks run: which of them counts usage, attaching and detaching, and trying again what was refused for a reason
//! that passes by itself. One component owns it; the maps that the programs share with the agent are others'.

mod program;
pub(super) mod refused;
mod skipped;

use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::ProgramError;
use monitor_common::Wanted;

use self::program::{Link, Program};
use self::refused::{chain, of_program, passes};
use super::btf::Btf;
use super::cells::Cells;
use super::hook::{Hook, Told};
use super::machine;
use super::probe::{Probe, ProbeState};
use super::wanted::WantedMap;

const HOOKS: usize = Hook::ALL.len();

/// A row for each hook, in the order of [`Hook::ALL`].
pub type Probes = [Probe; HOOKS];

/// What the programs log, on its way to the log of the process.
pub type KernelLogger = aya_log::EbpfLogger<&'static dyn log::Log>;

/// The first wait before a hook is tried again; each next one is twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST: Duration = Duration::from_secs(60);

/// When a hook is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Again {
    due: Instant,
    wait: Duration,
}

impl Again {
    /// After a failure now, which may have followed another one.
    fn after(earlier: Option<Self>, now: Instant) -> Self {
        let wait = earlier.map_or(FIRST, |earlier| (2 * earlier.wait).min(LONGEST));
        Self { due: now + wait, wait }
    }
}

/// See the module.
pub struct Links {
    ebpf: Ebpf,
    probes: Probes,
    /// Which hook counts usage.
    usage: Option<Hook>,
    /// What is taken instead of it, first to last.
    order: Vec<Hook>,
    links: [Option<Link>; HOOKS],
    /// Those that were refused for a reason that passes.
    again: [Option<Again>; HOOKS],
    /// The fork hook is loaded, and off only because the exit hook is not there.
    lineage_waits: bool,
    /// Of which processes those of rules tell.
    wanted: WantedMap,
    /// The hooks of rules are to run.
    rules: bool,
}

impl Links {
    pub(super) fn new(ebpf: Ebpf, probes: Probes, wanted: WantedMap) -> Self {
        Self {
            ebpf,
            probes,
            usage: None,
            order: Vec::new(),
            links: [const { None }; HOOKS],
            again: [None; HOOKS],
            lineage_waits: false,
            wanted,
            rules: false,
        }
    }

    /// The reader of what the programs log; once.
    ///
    /// # Errors
    /// If it was taken, or its buffer can't be mapped.
    pub fn take_logger(&mut self) -> Result<KernelLogger, aya_log::Error> {
        aya_log::EbpfLogger::init(&mut self.ebpf)
    }

    /// The hooks and their states, in the order of [`Hook::ALL`].
    #[must_use]
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Whether a hook runs.
    #[must_use]
    pub fn attached(&self, hook: Hook) -> bool {
        self.probes[hook as usize].state == ProbeState::Attached
    }

    /// What the kernel tells of processes.
    #[must_use]
    pub fn told(&self) -> Told {
        let changes = [Hook::Exec, Hook::Rename, Hook::CgroupAttach];
        Told {
            exits: self.attached(Hook::Exit),
            forks: self.attached(Hook::Lineage),
            changes: changes.into_iter().all(|hook| self.attached(hook)),
        }
    }

    /// How many runs of these hooks' programs the kernel left out; 0 where it leaves none out.
    #[must_use]
    pub fn skipped(&mut self, hooks: &[Hook]) -> u64 {
        if !machine::leaves_runs_out() {
            return 0;
        }
        hooks.iter().filter_map(|hook| self.skipped_runs(*hook)).sum()
    }

    /// The same of one that is attached, by the kernel's count. `None`: it counts none (before 5.12).
    #[must_use]
    pub fn skipped_runs(&mut self, hook: Hook) -> Option<u64> {
        if !self.attached(hook) {
            return None;
        }
        skipped::runs(Program::of(&mut self.ebpf, hook).ok()?.fd().ok()?)
    }

    /// Whether a hook runs, or can be made to.
    #[must_use]
    pub fn usable(&self, hook: Hook) -> bool {
        self.probes[hook as usize].state.usable()
    }

    /// The hooks that are on all the time: deaths; forks, which need to hear of deaths; and the kernel's own victims.
    pub(super) fn attach_those_always_on(&mut self) {
        self.attach(Hook::Exit);
        self.attach_lineage();
        self.attach(Hook::MarkVictim);
    }

    /// From now on the hooks of rules tell of these processes; `None`: there are no rules, and they run no more.
    ///
    /// # Errors
    /// If the kernel does not take it: then they tell of those of before, or of nobody.
    pub fn follow_rules(&mut self, wanted: Option<&Wanted>) -> Result<(), aya::maps::MapError> {
        self.rules = wanted.is_some();
        let Some(wanted) = wanted else {
            Hook::OF_RULES.into_iter().for_each(|hook| self.detach(hook));
            return Ok(());
        };
        self.wanted.set(wanted)?;
        Hook::OF_RULES.into_iter().for_each(|hook| self.attach(hook));
        Ok(())
    }

    /// Attaches the fork hook, if the exit hook runs. To be called again when that runs at last, after processes that
    /// ended before were taken off the map.
    pub fn attach_lineage(&mut self) {
        let waits = std::mem::take(&mut self.lineage_waits);
        if self.attached(Hook::Exit) {
            if waits {
                self.set_state(Hook::Lineage, ProbeState::Detached);
            }
            self.attach(Hook::Lineage);
        } else if waits || self.usable(Hook::Lineage) {
            // Nothing would take dead processes off the map, and the next process with such a pid would be taken for a
            // worker's.
            let why = "switched off: it needs the exit hook, which is not there".to_owned();
            self.set_state(Hook::Lineage, ProbeState::Off(why));
            self.lineage_waits = true;
        }
    }

    /// Loads a hook's program, if it is not in the kernel yet. Without the kernel's types they are read for it.
    pub(super) fn load_hook(&mut self, hook: Hook, types: Option<&aya::Btf>) {
        let loaded = Program::of(&mut self.ebpf, hook).and_then(|mut program| {
            let name = hook.place().name();
            match (program.fd(), types) {
                (Ok(_), _) => Ok(()),
                (Err(_), Some(types)) => program.load(name, types),
                (Err(_), None) => program.load(name, &aya::Btf::from_sys_fs()?),
            }
        });
        let state = match loaded {
            Ok(()) => ProbeState::Detached,
            Err(error) => self.refused(hook, &error),
        };
        self.set_state(hook, state);
    }

    /// What a refusal makes of a hook. One that passes by itself is tried again.
    fn refused(&mut self, hook: Hook, error: &ProgramError) -> ProbeState {
        let earlier = self.again[hook as usize].take();
        if !passes(error) {
            return of_program(error);
        }
        self.again[hook as usize] = Some(Again::after(earlier, Instant::now()));
        ProbeState::Failed(format!("{}; the agent retries", chain(error)))
    }

    /// Tries the hooks again that were refused for a reason that passes, if it is time. Those that can be had now: exit
    /// and fork hook run, one that counts usage is what is attached when it is needed.
    pub fn try_again(&mut self) -> Vec<Hook> {
        if self.again.iter().all(Option::is_none) {
            return Vec::new();
        }
        let now = Instant::now();
        let is_due = |hook: &Hook| {
            !self.usable(*hook) && self.again[*hook as usize].is_some_and(|again| again.due <= now)
        };
        let mut back: Vec<Hook> = Hook::ALL.into_iter().filter(is_due).collect();
        let deaths_are_heard = self.attached(Hook::Exit);
        let mut unloaded =
            |hook: &Hook| Program::of(&mut self.ebpf, *hook).is_ok_and(|found| found.fd().is_err());
        // Once for all: that takes 10 ms and more.
        let types = || Btf::of_the_kernel().ok()?.places().ok();
        let types = if back.iter().any(&mut unloaded) { types() } else { None };
        for hook in &back {
            self.load_hook(*hook, types.as_ref());
        }
        if self.usage.is_none() {
            self.choose_anew();
        }
        if back.contains(&Hook::Exit) {
            self.attach(Hook::Exit);
        }
        if back.contains(&Hook::MarkVictim) {
            self.attach(Hook::MarkVictim);
        }
        if self.rules {
            back.iter().filter(|hook| Hook::OF_RULES.contains(hook)).for_each(|hook| self.attach(*hook));
        }
        // With an exit hook of this moment it is the caller's turn, see there.
        if back.contains(&Hook::Lineage) && deaths_are_heard == self.attached(Hook::Exit) {
            self.attach_lineage();
        }
        back.retain(|hook| self.attached(*hook) || self.usage == Some(*hook));
        back
    }

    /// Takes the first of these hooks that loaded for counting usage. One that is loaded on request is loaded now.
    pub fn choose(&mut self, order: &[Hook]) {
        for hook in order.iter().copied().filter(|hook| hook.on_request()) {
            if matches!(self.probes[hook as usize].state, ProbeState::Off(_)) {
                let types = Btf::of_the_kernel().ok().and_then(|btf| btf.places().ok());
                self.load_hook(hook, types.as_ref());
            }
        }
        order.clone_into(&mut self.order);
        self.choose_anew();
    }

    fn choose_anew(&mut self) {
        self.detach_usage();
        let order = self.order.iter();
        self.usage = order.copied().find(|hook| hook.counts_usage() && self.usable(*hook));
        for hook in Hook::ALL.into_iter().filter(|hook| hook.counts_usage()) {
            self.probes[hook as usize].counts = Some(self.usage == Some(hook));
        }
    }

    /// The hook that counts usage, if this kernel took one.
    #[must_use]
    pub fn usage(&self) -> Option<Hook> {
        self.usage
    }

    /// Attaches the hook that counts usage into these cells; refused, the next one.
    pub fn attach_usage(&mut self, cells: &mut Cells) {
        while let Some(hook) = self.usage {
            self.attach_counting(hook, cells);
            if self.attached(hook) {
                return;
            }
            self.choose_anew();
        }
    }

    /// Detaches it.
    pub fn detach_usage(&mut self) {
        if let Some(hook) = self.usage {
            self.detach(hook);
        }
    }

    /// Attaches a hook that counts into these cells, as [`Self::attach`] does.
    pub fn attach_counting(&mut self, hook: Hook, cells: &mut Cells) {
        if self.probes[hook as usize].state == ProbeState::Detached {
            cells.new_attachment();
        }
        self.attach(hook);
    }

    /// Attaches a loaded hook; what is attached or not loaded stays as it is. The state says what came of it.
    pub fn attach(&mut self, hook: Hook) {
        if self.probes[hook as usize].state != ProbeState::Detached {
            return;
        }
        let state = match Program::of(&mut self.ebpf, hook).and_then(|mut program| program.attach()) {
            Ok(link) => {
                self.links[hook as usize] = Some(link);
                self.again[hook as usize] = None;
                ProbeState::Attached
            }
            Err(error) => self.refused(hook, &error),
        };
        self.set_state(hook, state);
    }

    /// Detaches a hook; it stays loaded.
    pub fn detach(&mut self, hook: Hook) {
        let Some(link) = self.links[hook as usize].take() else { return };
        let state = match Program::of(&mut self.ebpf, hook).and_then(|mut program| program.detach(link)) {
            Ok(()) => ProbeState::Detached,
            Err(error) => of_program(&error),
        };
        self.set_state(hook, state);
    }

    fn set_state(&mut self, hook: Hook, state: ProbeState) {
        let counts = self.probes[hook as usize].counts;
        self.probes[hook as usize] = Probe { counts, ..Probe::new(hook, state) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_grow_to_a_minute_and_no_further() {
        let now = Instant::now();
        let mut again = None;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = Again::after(again, now);
            assert_eq!(next.due, now + next.wait);
            waits.push(next.wait.as_secs());
            again = Some(next);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
