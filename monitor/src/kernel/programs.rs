//! Loads the kernel programs and attaches them: the one loader. What can't be loaded is a row in the table of
//! probes, not an error; only when nothing at all can be loaded is there no [`Programs`].

mod attach;
mod refused;

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{HashMap, MapData, MapError, RingBuf};
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::{Ebpf, EbpfLoader};

use self::attach::Again;
use self::refused::{chain, classify, of_btf};
use super::barred::BarMap;
use super::btf::Btf;
use super::cells::Cells;
use super::drops::DropMap;
use super::numbers::{Hook, NUMBERS};
use super::probe::{Probe, ProbeState};
use super::workers::WorkerMap;

const HOOKS: usize = Hook::ALL.len();

/// A row for each hook, in the order of [`Hook::ALL`].
pub type Probes = [Probe; HOOKS];

/// The object of package `monitor-ebpf`, if this build has it.
#[cfg(ebpf_object)]
fn object() -> Option<&'static [u8]> {
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/monitor")))
}

#[cfg(not(ebpf_object))]
fn object() -> Option<&'static [u8]> {
    None
}

/// The object with programs that do nothing, for measuring; not part of the agent, which does not call this.
#[cfg(ebpf_object)]
#[must_use]
pub fn empty_object() -> Option<&'static [u8]> {
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty")))
}

/// None: this build has no kernel side.
#[cfg(not(ebpf_object))]
#[must_use]
pub fn empty_object() -> Option<&'static [u8]> {
    None
}

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

/// What the programs log, on its way to the log of the process.
pub type KernelLogger = aya_log::EbpfLogger<&'static dyn log::Log>;

/// The loaded programs and their maps.
pub struct Programs {
    ebpf: Ebpf,
    probes: Probes,
    /// Which hook counts usage.
    usage: Option<Hook>,
    /// What is taken instead of it, first to last.
    order: Vec<Hook>,
    /// What the programs push.
    pub events: RingBuf<MapData>,
    /// The domains' shared state.
    pub cells: Cells,
    guarded: HashMap<MapData, u64, u32>,
    /// Which worker a process belongs to, and whom the brake holds.
    pub workers: WorkerMap,
    /// Whose forks are not followed.
    pub barred: BarMap,
    /// Programs that are loaded later name it by its descriptor, as they do the others.
    cells_map: MapData,
    links: [Option<BtfTracePointLinkId>; HOOKS],
    /// Those that were refused for a reason that passes.
    again: [Option<Again>; HOOKS],
    /// The fork hook is loaded, and off only because the exit hook is not there.
    lineage_waits: bool,
    /// What could not be pushed.
    pub drops: DropMap,
}

impl Programs {
    /// Loads everything that this kernel takes and attaches the hooks that are always on (exit, lineage); one
    /// that counts usage is chosen by [`Programs::choose`] and attached by [`Programs::attach_usage`]. With `log` they log
    /// each record that they push.
    ///
    /// # Errors
    /// The rows to show, each with the reason why there is no such hook, if nothing can be loaded.
    pub fn load(log: KernelLog) -> Result<Self, Box<Probes>> {
        let all = |state: ProbeState| Box::new(Hook::ALL.map(|hook| Probe::new(hook, state.clone())));
        let Some(object) = object() else {
            return Err(all(ProbeState::Off("built without the kernel side (MONITOR_SKIP_EBPF)".into())));
        };
        let btf = Btf::of_the_kernel().map_err(|error| all(of_btf(&error)))?;
        let types = aya::Btf::from_sys_fs().map_err(|error| all(ProbeState::Failed(chain(&error))))?;
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
            let (category, event) = hook.tracepoint();
            if !btf.has_tracepoint(event) {
                missing.push((hook, format!("this kernel has no tracepoint {category}:{event}")));
            }
        }
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&types));
        for (value, (name, _, _)) in values.iter().zip(NUMBERS) {
            loader.override_global(name, value, true);
        }
        loader.override_global(aya_log::LEVEL, log.level(), true);
        let ebpf = loader.load(object).map_err(|error| all(classify(&error)))?;

        let probes = Hook::ALL.map(|hook| {
            let why = missing.iter().find(|(of, _)| *of == hook).map(|(_, why)| why.clone());
            Probe::new(hook, why.map_or(ProbeState::Detached, ProbeState::Missing))
        });
        let mut programs =
            Self::with_maps(ebpf, probes).map_err(|error| all(ProbeState::Failed(chain(&*error))))?;
        for hook in Hook::ALL {
            if programs.usable(hook) {
                programs.load_hook(hook, Some(&types));
            }
        }
        programs.attach_those_always_on();
        Ok(programs)
    }

    fn with_maps(mut ebpf: Ebpf, probes: Probes) -> Result<Self, Box<dyn Error>> {
        let mut take =
            |name: &str| ebpf.take_map(name).ok_or_else(|| format!("the object has no map {name}"));
        let events = RingBuf::try_from(take("EVENTS")?)?;
        let guarded = HashMap::try_from(take("GUARDED")?)?;
        let workers = WorkerMap::new(take("WORKERS")?, take("LET_GO")?)?;
        let barred = BarMap::new(take("BARRED")?)?;
        let drops = DropMap::new(take("DROPS")?)?;
        let (cells, cells_map) = match take("CELLS")? {
            aya::maps::Map::Array(data) => (Cells::map(data.fd())?, data),
            _ => return Err("CELLS is no array".into()),
        };
        Ok(Self {
            ebpf,
            probes,
            usage: None,
            order: Vec::new(),
            events,
            cells,
            guarded,
            workers,
            barred,
            cells_map,
            links: [const { None }; HOOKS],
            again: [None; HOOKS],
            lineage_waits: false,
            drops,
        })
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

    /// Whether a hook runs, or can be made to.
    #[must_use]
    pub fn usable(&self, hook: Hook) -> bool {
        self.probes[hook as usize].state.usable()
    }

    /// Counts a cgroup's memory in a cell from now on. `cgroup` is the inode of its directory in the memory
    /// hierarchy.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses.
    pub fn guard(&mut self, cgroup: u64, cell: u32) -> Result<(), MapError> {
        self.guarded.insert(cgroup, cell, 0)
    }

    /// Counts a cgroup's memory in its guarded ancestor again. What is not guarded is left alone.
    pub fn unguard(&mut self, cgroup: u64) {
        // Fails only if it is not there.
        let _ = self.guarded.remove(&cgroup);
    }

    /// A descriptor of the ring buffer, readable when there are records.
    ///
    /// # Errors
    /// If it can't be duplicated.
    pub fn events_fd(&self) -> io::Result<std::sync::Arc<std::os::fd::OwnedFd>> {
        self.events.as_fd().try_clone_to_owned().map(std::sync::Arc::new)
    }

    /// The map behind the cells, for the releaser.
    #[must_use]
    pub fn cells_fd(&self) -> BorrowedFd<'_> {
        self.cells_map.fd().as_fd()
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
