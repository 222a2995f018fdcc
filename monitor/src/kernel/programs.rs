//! Loads the kernel programs: the one loader. It hands over what is loaded in parts, each to its owner. What can't be
//! loaded is a row in the table of probes, not an error; only when nothing at all can be loaded is there no
//! [`Programs`].

use std::error::Error;

use aya::maps::{HashMap, RingBuf};
use aya::{Ebpf, EbpfLoader};
use monitor_common::MEMORIES;

use super::btf::Btf;
use super::cells::DomainCells;
use super::drops::DropMap;
use super::events::Events;
use super::hook::{Hook, Place};
use super::links::refused::{chain, classify, of_btf};
use super::links::{Links, Probes};
use super::machine;
use super::offsets::NUMBERS;
use super::probe::{Probe, ProbeState};
use super::unfollowed::UnfollowedMap;
use super::wanted::WantedMap;
use super::workers::WorkerMap;

/// The object of package `monitor-ebpf`, if this build has it.
#[cfg(ebpf_object)]
fn object() -> Option<&'static [u8]> {
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/monitor")))
}

#[cfg(not(ebpf_object))]
fn object() -> Option<&'static [u8]> {
    None
}

/// How many address spaces are remembered for each CPU, where all together are not fewer than [`MEMORIES`].
const MEMORIES_OF_A_CPU: u32 = 512;

/// Whether the programs log what they push: for debugging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelLog {
    /// They do not; the branch is not even in the loaded programs.
    Off,
    /// A line for each record.
    On,
}

impl KernelLog {
    fn level(self) -> &'static u8 {
        match self {
            Self::Off => &0,
            Self::On => &(aya_log::Level::Debug as u8),
        }
    }
}

/// The loaded programs in parts, each of which goes to its owner.
pub struct Programs {
    /// Which hooks run.
    pub links: Links,
    /// The domains' shared state.
    pub cells: DomainCells,
    /// Which worker a process belongs to, which are paused, and which workers' forks are not followed.
    pub workers: WorkerMap,
    /// What they push, and what they could not.
    pub events: Events,
}

impl Programs {
    /// Loads everything that this kernel takes, but for what has to be asked for, and attaches the hooks that are always on
    /// (exit, lineage); one that counts usage is chosen by [`Links::choose`] and attached by [`Links::attach_usage`]. With
    /// `log` they log each record that they push.
    ///
    /// # Errors
    /// The rows to show, each with the reason why there is no such hook, if nothing can be loaded.
    pub fn load(log: KernelLog) -> Result<Self, Box<Probes>> {
        let all = |state: ProbeState| Box::new(Hook::ALL.map(|hook| Probe::new(hook, state.clone())));
        let Some(object) = object() else {
            return Err(all(ProbeState::Off("built without the kernel side (MONITOR_SKIP_EBPF)".into())));
        };
        if let Some(why) = machine::forbids_programs() {
            return Err(all(ProbeState::Off(why)));
        }
        let btf = Btf::of_the_kernel().map_err(|error| all(of_btf(&error)))?;
        let types = btf.places().map_err(|error| all(ProbeState::Failed(chain(&error))))?;
        raise_memlock();

        let mut missing: Vec<(Hook, String)> = Vec::new();
        let mut values = [0u32; NUMBERS.len()];
        for (value, (_, hooks, number)) in values.iter_mut().zip(NUMBERS) {
            match number.resolve(&btf) {
                Ok(found) => *value = found,
                Err(error) => missing.extend(hooks.iter().map(|hook| (*hook, error.to_string()))),
            }
        }
        for hook in Hook::ALL {
            if !btf.has(hook.place()) {
                let (category, name) = hook.tracepoint();
                let why = match hook.place() {
                    Place::Tracepoint(_) => format!("this kernel has no tracepoint {category}:{name}"),
                    Place::Function(_) => format!("this kernel has no function {name}"),
                };
                missing.push((hook, why));
            }
        }
        if let Some(why) = machine::forbids_counting() {
            missing.extend(Hook::USAGE.map(|hook| (hook, why.clone())));
        }
        drop(btf);
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&types));
        // With few entries for each CPU one that takes many at a time throws out those of others.
        loader.map_max_entries("MAPPED", MEMORIES.max(MEMORIES_OF_A_CPU * machine::online_cpus()));
        for (value, (name, _, _)) in values.iter().zip(NUMBERS) {
            loader.override_global(name, value, true);
        }
        loader.override_global(aya_log::LEVEL, log.level(), true);
        let ebpf = loader.load(object).map_err(|error| all(classify(&error)))?;

        let probes = Hook::ALL.map(|hook| {
            let why = missing.iter().find(|(of, _)| *of == hook).map(|(_, why)| why.clone());
            let there = if hook.on_request() {
                ProbeState::Off("not asked for: probe is not charge".into())
            } else {
                ProbeState::Detached
            };
            Probe::new(hook, why.map_or(there, ProbeState::Missing))
        });
        let mut programs =
            Self::with_maps(ebpf, probes).map_err(|error| all(ProbeState::Failed(chain(&*error))))?;
        for hook in Hook::ALL {
            if programs.links.usable(hook) {
                programs.links.load_hook(hook, Some(&types));
            }
        }
        programs.links.attach_those_always_on();
        Ok(programs)
    }

    fn with_maps(mut ebpf: Ebpf, probes: Probes) -> Result<Self, Box<dyn Error>> {
        let mut take =
            |name: &str| ebpf.take_map(name).ok_or_else(|| format!("the object has no map {name}"));
        let events = RingBuf::try_from(take("EVENTS")?)?;
        let guarded = HashMap::try_from(take("GUARDED")?)?;
        let workers = WorkerMap::new(take("WORKERS")?, take("LET_GO")?)?;
        let workers = workers.with_unfollowed(UnfollowedMap::new(take("UNFOLLOWED")?)?);
        let drops = DropMap::new(take("DROPS")?)?;
        let cells = match take("CELLS")? {
            aya::maps::Map::Array(data) => DomainCells::new(data, guarded)?,
            _ => return Err("CELLS is no array".into()),
        };
        let wanted = WantedMap::new(take("WANTED")?)?;
        let links = Links::new(ebpf, probes, wanted);
        Ok(Self { links, cells, workers, events: Events { ring: events, drops } })
    }

    /// The rows of hooks that are not used.
    #[must_use]
    pub fn off(why: &str) -> Box<Probes> {
        Box::new(Hook::ALL.map(|hook| Probe::new(hook, ProbeState::Off(why.to_owned()))))
    }
}

/// Before kernel 5.11 maps and programs count against RLIMIT_MEMLOCK. Refused: the load says what it lacks.
fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let old = getrlimit(Resource::Memlock);
    let _ = setrlimit(Resource::Memlock, Rlimit { current: old.maximum, maximum: old.maximum });
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}
