//! The guarded domains: their readers, their place in the hierarchy, their cells. The numbers go to the core; no
//! decision is taken here.

use std::path::PathBuf;

use monitor_common::{MAX_CELLS, NO_PARENT, NODE_CELL};

use super::core::{DomainId, Event, Measured};
use crate::kernel::cells::Tuning;
use crate::kernel::programs::Programs;
use crate::memory::{CgroupId, CgroupPath, DomainReader, Hierarchy, Level, ReadError, Roots};
use crate::units::Pid;

/// One domain.
struct Entry {
    id: DomainId,
    /// `None`: the node.
    cgroup: Option<CgroupPath>,
    reader: DomainReader,
    /// It was removed at the last reading.
    gone: bool,
}

/// See the module.
pub(super) struct Domains {
    roots: Roots,
    hierarchy: Result<Hierarchy, ReadError>,
    count_swap: bool,
    entries: Vec<Entry>,
    generation: u32,
    cpus: u32,
}

impl Domains {
    pub(super) fn new(procfs: PathBuf, cgroupfs: PathBuf, count_swap: bool) -> Self {
        let hierarchy = Hierarchy::find(&cgroupfs, &procfs);
        let cpus =
            std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
        Self {
            roots: Roots { procfs, cgroupfs },
            hierarchy,
            count_swap,
            entries: Vec::new(),
            generation: 1,
            cpus,
        }
    }

    pub(super) fn cpus(&self) -> u32 {
        self.cpus
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The memory hierarchy and the cgroup of a domain with this name, for looking into it; `None`: it is the node.
    pub(super) fn cgroup_named(&self, name: &str) -> Option<(Hierarchy, CgroupPath)> {
        let hierarchy = self.hierarchy.as_ref().ok()?;
        let path = CgroupPath::new(std::ffi::OsStr::new(name.strip_prefix("cgroup:")?)).ok()?;
        Some((hierarchy.clone(), path))
    }

    /// Describes the node's cell, which every other one is within, whether the node is guarded or not.
    pub(super) fn prepare(&self, programs: &mut Programs) {
        programs.cells.describe(NODE_CELL, NO_PARENT, Tuning::new(self.cpus, 1));
        programs.cells.set_generation(self.generation);
    }

    /// Guards the node.
    ///
    /// # Errors
    /// If its files can't be opened.
    pub(super) fn add_node(&mut self) -> Result<Event, ReadError> {
        let reader = DomainReader::node(&self.roots, self.hierarchy.as_ref().ok(), self.count_swap)?;
        self.entries.push(Entry { id: DomainId(NODE_CELL), cgroup: None, reader, gone: false });
        Ok(Event::DomainAdded { domain: DomainId(NODE_CELL), name: "node".to_owned(), parent: None })
    }

    /// Guards a cgroup. `None`: it is guarded already.
    ///
    /// # Errors
    /// If there is no memory hierarchy, or no such cgroup in it.
    pub(super) fn add_cgroup(
        &mut self,
        path: &CgroupPath,
        programs: Option<&mut Programs>,
    ) -> Result<Option<Event>, ReadError> {
        if self.entries.iter().any(|entry| entry.cgroup.as_ref() == Some(path)) {
            self.reopen(programs);
            return Ok(None);
        }
        let hierarchy = self.hierarchy.as_ref().map_err(Clone::clone)?;
        let cgroup_id = hierarchy.id(path)?;
        let reader = DomainReader::cgroup(&self.roots, hierarchy, path, self.count_swap)?;
        let id = self.free_id();
        let parent = self.innermost_around(path);
        self.entries.push(Entry { id, cgroup: Some(path.clone()), reader, gone: false });
        if let Some(programs) = programs
            && (id.0 as usize) < MAX_CELLS
        {
            self.generation = self.generation.wrapping_add(1);
            let around = parent.map_or(NODE_CELL, |parent| parent.0);
            let cells = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            programs.cells.describe(id.0, around, Tuning::new(self.cpus, cells));
            match programs.guard(cgroup_id.0, id.0) {
                Ok(()) => programs.cells.set_generation(self.generation),
                // It is then read at every refresh only, and its memory counts in the domain around it.
                Err(error) => {
                    tracing::warn!(%error, domain = %path.as_path().display(), "cannot count its memory in the kernel")
                }
            }
        }
        let name = format!("cgroup:{}", path.as_path().display());
        Ok(Some(Event::DomainAdded { domain: id, name, parent }))
    }

    /// Takes new readers for cgroups that were removed and made again under their old names, as a service's is when it
    /// is restarted. The domain stays the same, its memory is another.
    pub(super) fn reopen(&mut self, mut programs: Option<&mut Programs>) {
        let Ok(hierarchy) = &self.hierarchy else { return };
        for entry in self.entries.iter_mut().filter(|entry| entry.gone) {
            let Some(path) = &entry.cgroup else { continue };
            // Not there again yet, or not whole: the next look.
            let Ok(cgroup_id) = hierarchy.id(path) else { continue };
            let Ok(reader) = DomainReader::cgroup(&self.roots, hierarchy, path, self.count_swap) else {
                continue;
            };
            let old = std::mem::replace(&mut entry.reader, reader).cgroup_id();
            entry.gone = false;
            let Some(programs) = programs.as_deref_mut().filter(|_| (entry.id.0 as usize) < MAX_CELLS) else {
                continue;
            };
            if let Some(old) = old {
                programs.unguard(old.0);
            }
            if let Err(error) = programs.guard(cgroup_id.0, entry.id.0) {
                tracing::warn!(%error, domain = %path.as_path().display(), "cannot count its memory in the kernel");
            }
            self.generation = self.generation.wrapping_add(1);
            programs.cells.set_generation(self.generation);
        }
    }

    /// The cgroup that a process charges.
    ///
    /// # Errors
    /// If it can't be found.
    pub(super) fn cgroup_of(&self, pid: Pid) -> Result<CgroupPath, ReadError> {
        let hierarchy = self.hierarchy.as_ref().map_err(Clone::clone)?;
        hierarchy.charged(&hierarchy.cgroup_of(&self.roots.procfs, pid)?)
    }

    /// The cgroups with limits that a process charges, innermost first.
    ///
    /// # Errors
    /// If its cgroup can't be found.
    pub(super) fn limited_around(&self, pid: Pid) -> Result<Vec<CgroupPath>, ReadError> {
        let Ok(hierarchy) = &self.hierarchy else { return Ok(Vec::new()) };
        let cgroup = hierarchy.charged(&hierarchy.cgroup_of(&self.roots.procfs, pid)?)?;
        Ok(hierarchy.limited(&cgroup).into_iter().map(|(path, _)| path).collect())
    }

    /// The guarded domains that a process charges, innermost first.
    ///
    /// # Errors
    /// If its cgroup can't be found.
    pub(super) fn charged_by(&self, pid: Pid) -> Result<Vec<DomainId>, ReadError> {
        let mut charged: Vec<(usize, DomainId)> = Vec::new();
        if let Ok(hierarchy) = &self.hierarchy {
            let cgroup = hierarchy.charged(&hierarchy.cgroup_of(&self.roots.procfs, pid)?)?;
            for entry in &self.entries {
                if let Some(path) = entry.cgroup.as_ref().filter(|path| path.contains(&cgroup)) {
                    charged.push((path.ancestors().count(), entry.id));
                }
            }
        }
        charged.sort_unstable_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        let node = self.entries.iter().find(|entry| entry.cgroup.is_none()).map(|entry| entry.id);
        Ok(charged.into_iter().map(|(_, id)| id).chain(node).collect())
    }

    /// Takes an authoritative reading. The counter is read first: what is charged in between is counted twice and
    /// crosses early, never late.
    pub(super) fn read(&mut self, domain: DomainId, programs: Option<&Programs>) -> Option<Event> {
        let counter = match programs {
            Some(programs) if (domain.0 as usize) < MAX_CELLS => programs.cells.counter(domain.0),
            Some(_) | None => 0,
        };
        let entry = self.entries.iter_mut().find(|entry| entry.id == domain)?;
        let measured = match entry.reader.read() {
            Ok(Level::Limited(reading)) => Measured::Known { total: reading.total, used: reading.used },
            Ok(Level::NoLimit { used, .. }) => Measured::NoLimit { used },
            Err(error) if error.is_gone() => {
                entry.gone = true;
                Measured::Gone
            }
            Err(error) => Measured::Unknown { why: error.to_string() },
        };
        Some(Event::Reading { domain, measured, counter })
    }

    /// The domains, and what tells a cgroup from one that was made again under its name.
    pub(super) fn identities(&self) -> impl Iterator<Item = (DomainId, Option<CgroupId>)> + '_ {
        self.entries.iter().map(|entry| (entry.id, entry.reader.cgroup_id()))
    }

    /// A reader of the same domain for another thread. `None`: it cannot be opened now.
    pub(super) fn another_reader(&self, domain: DomainId) -> Option<DomainReader> {
        let entry = self.entries.iter().find(|entry| entry.id == domain)?;
        let hierarchy = self.hierarchy.as_ref();
        let reader = match &entry.cgroup {
            None => DomainReader::node(&self.roots, hierarchy.ok(), self.count_swap),
            Some(path) => DomainReader::cgroup(&self.roots, hierarchy.ok()?, path, self.count_swap),
        };
        reader.ok().filter(|reader| reader.cgroup_id() == entry.reader.cgroup_id())
    }

    /// Whether the cells' generation is the present one: records of another are of cells that were given away.
    pub(super) fn current(&self, generation: u32) -> bool {
        self.generation == generation
    }

    fn free_id(&self) -> DomainId {
        let taken = |id: u32| self.entries.iter().any(|entry| entry.id.0 == id);
        DomainId((1..).find(|id| !taken(*id)).unwrap_or(u32::MAX))
    }

    fn innermost_around(&self, path: &CgroupPath) -> Option<DomainId> {
        let around = self.entries.iter().filter_map(|entry| {
            let cgroup = entry.cgroup.as_ref().filter(|cgroup| cgroup.contains(path))?;
            Some((cgroup.ancestors().count(), entry.id))
        });
        let node = self.entries.iter().find(|entry| entry.cgroup.is_none()).map(|entry| entry.id);
        around.max_by_key(|(depth, _)| *depth).map(|(_, id)| id).or(node)
    }
}
