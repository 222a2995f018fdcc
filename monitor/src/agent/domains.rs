//! The guarded domains: their readers, and their place in the hierarchy. The numbers go to the engine; this file
//! decides nothing.

mod cells;
mod limits;
mod room;
mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use monitor_common::NODE_CELL;

use self::cells::{Cells, Uncounted};
use self::limits::LimitWatch;
use self::scope::Scope;
use crate::agent::event_loop::clock;
use crate::agent::event_loop::descriptors::Shares;
use crate::agent::turn::Turn;
use crate::engine::{DomainId, DomainView, Event, Measured};
use crate::kernel::cells::{Cells as SharedCells, DomainCells};
use crate::memory::{CgroupId, CgroupPath, DomainReader, Hierarchy, Level, ReadError, Roots};
use crate::ray::Reads;
use crate::threshold::Threshold;
use crate::units::{Bytes, Pid};

/// A reading that takes longer is slow: a thousand times what it takes.
const SLOW: Duration = Duration::from_millis(100);

/// The node's number.
const NODE: DomainId = DomainId(NODE_CELL);

/// Why a cgroup is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The configuration names it: it stays a domain, whatever becomes of the cgroup.
    ByName,
    /// It has a limit and a worker in it; the first worker was this user's.
    ByLimit(u32),
}

/// What the last reading found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A limit, or something that could not be read.
    Something,
    /// It has no limit.
    NoLimit,
    /// The cgroup was removed.
    Gone,
}

/// One domain.
struct Guarded {
    name: String,
    /// `None`: the node.
    cgroup: Option<CgroupPath>,
    parent: Option<DomainId>,
    asked: Asked,
    reader: DomainReader,
    found: Found,
    /// Huge pages that the last reading left out.
    huge_pages: Bytes,
    /// Where the kernel counts its memory.
    cell: Result<u32, Uncounted>,
}

/// See the module.
pub(super) struct Domains {
    roots: Roots,
    hierarchy: Result<Hierarchy, ReadError>,
    count_swap: bool,
    entries: BTreeMap<DomainId, Guarded>,
    last_id: DomainId,
    cells: Cells,
    /// The cells themselves; `None`: the programs are not loaded.
    shared: Option<DomainCells>,
    /// How many there may be because of limits.
    most: usize,
    /// Which cgroups around workers have limits.
    limits: LimitWatch,
    /// Which cgroups with limits become domains, and which cgroups are waited for.
    scope: Scope,
    /// Domains of which the last reading was slow.
    slow: BTreeSet<DomainId>,
}

impl Domains {
    /// As many unnamed ones as there are descriptors for. `node`: it is to be guarded. `shared` are the programs'
    /// cells, if they are loaded.
    pub(super) fn new(
        roots: Roots,
        count_swap: bool,
        node: bool,
        shares: &Shares,
        shared: Option<DomainCells>,
    ) -> Self {
        let hierarchy = Hierarchy::find(&roots.cgroupfs, &roots.procfs);
        let mut domains = Self {
            roots,
            hierarchy,
            count_swap,
            entries: BTreeMap::new(),
            last_id: NODE,
            cells: Cells::new(),
            shared,
            // With swap a domain has twice as many files.
            most: if count_swap { shares.domains / 2 } else { shares.domains },
            limits: LimitWatch::new(shares.limits),
            scope: Scope::new(node),
            slow: BTreeSet::new(),
        };
        domains.prepare();
        domains
    }

    /// The cells' memory, if the programs are loaded.
    pub(super) fn cells(&mut self) -> Option<&mut SharedCells> {
        self.shared.as_mut().map(|shared| &mut shared.cells)
    }

    /// The cells with the maps behind them.
    pub(super) fn shared(&self) -> Option<&DomainCells> {
        self.shared.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The memory hierarchy, if there is one.
    pub(super) fn hierarchy(&self) -> Option<&Hierarchy> {
        self.hierarchy.as_ref().ok()
    }

    /// The memory hierarchy and the cgroup of a domain with this name, for looking into it; `None`: it is the node.
    pub(super) fn cgroup_named(&self, name: &str) -> Option<(Hierarchy, CgroupPath)> {
        let path = CgroupPath::new(std::ffi::OsStr::new(name.strip_prefix("cgroup:")?)).ok()?;
        Some((self.hierarchy()?.clone(), path))
    }

    /// Guards the node.
    ///
    /// # Errors
    /// If its files can't be opened.
    pub(super) fn guard_node(&mut self, turn: &mut Turn<'_>) -> Result<(), ReadError> {
        let reader = DomainReader::node(&self.roots, self.hierarchy.as_ref().ok(), self.count_swap)?;
        let name = "node".to_owned();
        self.entries.insert(
            NODE,
            Guarded {
                name: name.clone(),
                cgroup: None,
                parent: None,
                asked: Asked::ByName,
                reader,
                found: Found::Something,
                huge_pages: Bytes(0),
                cell: Ok(NODE_CELL),
            },
        );
        self.cells.own(NODE_CELL, NODE);
        turn.tell(Event::DomainAdded { domain: NODE, name, parent: None });
        Ok(())
    }

    /// Guards a cgroup: what the engine is to be told, all of it before it orders a reading. Nothing if it is guarded
    /// already.
    ///
    /// # Errors
    /// If there is no memory hierarchy, or no such cgroup in it.
    fn add_cgroup(&mut self, path: &CgroupPath, asked: Asked) -> Result<Vec<Event>, ReadError> {
        if self.is_guarded(path) {
            self.reopen();
            return Ok(Vec::new());
        }
        let hierarchy = self.hierarchy.as_ref().map_err(Clone::clone)?;
        let reader = DomainReader::cgroup(&self.roots, hierarchy, path, self.count_swap)?;
        let id = DomainId(self.last_id.0.wrapping_add(1));
        self.last_id = id;
        let parent = self.innermost_around(path);
        let name = format!("cgroup:{}", path.as_path().display());
        let mut events = vec![Event::DomainAdded { domain: id, name: name.clone(), parent }];
        for (inner, entry) in &mut self.entries {
            if entry.parent == parent && entry.cgroup.as_ref().is_some_and(|inner| path.contains(inner)) {
                entry.parent = Some(id);
                events.push(Event::Reparented { domain: *inner, parent: Some(id) });
            }
        }
        let cgroup = Some(path.clone());
        let cell = Err(Uncounted::NoRoom);
        let (found, huge_pages) = (Found::Something, Bytes(0));
        self.entries.insert(id, Guarded { name, cgroup, parent, asked, reader, found, huge_pages, cell });
        self.count(id);
        Ok(events)
    }

    /// Stops guarding a domain. `None`: there is none with this number.
    fn remove(&mut self, id: DomainId) -> Option<Event> {
        let removed = self.entries.remove(&id)?;
        for entry in self.entries.values_mut().filter(|entry| entry.parent == Some(id)) {
            entry.parent = removed.parent;
        }
        self.uncount(&removed);
        Some(Event::DomainRemoved { domain: id })
    }

    /// The cgroup of a domain; `None`: it is the node.
    pub(super) fn path(&self, id: DomainId) -> Option<CgroupPath> {
        self.entries.get(&id).and_then(|entry| entry.cgroup.clone())
    }

    /// Whether a cgroup is a domain.
    pub(super) fn is_guarded(&self, path: &CgroupPath) -> bool {
        self.entries.values().any(|entry| entry.cgroup.as_ref() == Some(path))
    }

    /// Unnamed ones that have lost their limit, or their cgroup.
    pub(super) fn without_limit(&self) -> Vec<DomainId> {
        let all = self.entries.iter().filter(|(_, entry)| entry.asked != Asked::ByName);
        all.filter(|(_, entry)| entry.found != Found::Something).map(|(id, _)| *id).collect()
    }

    /// Those that nobody named.
    pub(super) fn unnamed(&self) -> Vec<DomainId> {
        let all = self.entries.iter().filter(|(_, entry)| entry.asked != Asked::ByName);
        all.map(|(id, _)| *id).collect()
    }

    /// The domain that a raylet reads the usage of; `None`: it is not guarded.
    pub(super) fn of_which(&self, reads: Reads) -> Option<DomainId> {
        let (file, hierarchy) = match reads {
            Reads::Node => return self.entries.contains_key(&NODE).then_some(NODE),
            Reads::Cgroup { dev, ino } => ((dev, ino), self.hierarchy()?),
        };
        let is_it = |path: &CgroupPath| {
            let found = std::fs::metadata(hierarchy.usage_file(path));
            found.is_ok_and(|found| (found.dev(), found.ino()) == file)
        };
        let mut cgroups = self.entries.iter().filter_map(|(id, entry)| Some((*id, entry.cgroup.as_ref()?)));
        cgroups.find(|(_, path)| is_it(path)).map(|(id, _)| id)
    }

    /// The cgroup that a process charges; `None`: there is no memory hierarchy.
    ///
    /// # Errors
    /// If it can't be found.
    pub(super) fn cgroup_of(&self, pid: Pid) -> Result<Option<CgroupPath>, ReadError> {
        let Some(hierarchy) = self.hierarchy() else { return Ok(None) };
        hierarchy.charged(&hierarchy.cgroup_of(&self.roots.procfs, pid)?).map(Some)
    }

    /// The cgroups with limits from this one up, innermost first.
    pub(super) fn limited_around(&self, cgroup: &CgroupPath) -> Vec<CgroupPath> {
        let limited = self.hierarchy().map(|hierarchy| hierarchy.limited(cgroup)).unwrap_or_default();
        limited.into_iter().map(|(path, _)| path).collect()
    }

    /// The guarded domains that a process in this cgroup charges, innermost first.
    pub(super) fn charged_by(&self, cgroup: Option<&CgroupPath>) -> Vec<DomainId> {
        self.charged_by_all(cgroup)
    }

    /// The same of processes in these cgroups together.
    fn charged_by_all<'c>(&self, cgroups: impl IntoIterator<Item = &'c CgroupPath> + Clone) -> Vec<DomainId> {
        let around = |entry: &Guarded| match &entry.cgroup {
            None => Some(0),
            Some(path) => {
                let mut cgroups = cgroups.clone().into_iter();
                cgroups.any(|cgroup| path.contains(cgroup)).then(|| path.ancestors().count())
            }
        };
        let mut charged: Vec<(usize, DomainId)> =
            self.entries.iter().filter_map(|(id, entry)| Some((around(entry)?, *id))).collect();
        charged.sort_unstable_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        charged.into_iter().map(|(_, id)| id).collect()
    }

    /// Takes an authoritative reading and tells of it. The loop waits for it: a reading is a few microseconds, unless a
    /// file takes its time.
    pub(super) fn read(&mut self, turn: &mut Turn<'_>, domain: DomainId) {
        let began = clock::now();
        let reading = self.reading(domain);
        let took = clock::now().since(began);
        if took <= SLOW {
            self.slow.remove(&domain);
        } else {
            turn.faults.slow_readings += 1;
            if self.slow.insert(domain) {
                let took_ms = took.as_millis();
                tracing::warn!(
                    domain = domain.0,
                    took_ms,
                    "reading a domain was slow, and blocked the agent meanwhile"
                );
            }
        }
        if let Some(reading) = reading {
            turn.tell(reading);
        }
    }

    /// The counter is read first: what is charged in between is counted twice and crosses early, never late.
    fn reading(&mut self, domain: DomainId) -> Option<Event> {
        let entry = self.entries.get_mut(&domain)?;
        let counter = match (&mut self.shared, &entry.cell) {
            (Some(shared), Ok(cell)) => shared.cells.begin_reading(*cell),
            (None, _) | (_, Err(_)) => 0,
        };
        entry.found = Found::Something;
        let measured = match entry.reader.read() {
            Ok(Level::Limited(reading)) => {
                entry.huge_pages = reading.huge_pages;
                Measured::Known { total: reading.total, used: reading.used }
            }
            Ok(Level::NoLimit { used, .. }) => {
                entry.found = Found::NoLimit;
                Measured::NoLimit { used }
            }
            Err(error) if error.is_gone() => {
                entry.found = Found::Gone;
                Measured::Gone
            }
            Err(error) => Measured::Unknown { why: error.to_string() },
        };
        Some(Event::Reading { domain, measured, counter })
    }

    /// The domains as `status` shows them: as the engine does, with what it does not know of them, and with those that are
    /// waited for.
    pub(super) fn views(&self, mut views: Vec<DomainView>, threshold: Threshold) -> Vec<DomainView> {
        for view in &mut views {
            if self.shared.is_some() {
                view.uncounted = self.uncounted(&view.domain);
            }
            view.huge_pages = self.huge_pages(&view.domain);
            if view.total.is_some_and(|total| threshold.is_too_small(total)) {
                view.note = Some(
                    "min_memory_free is not less than its total: usage_threshold alone counts here"
                        .to_owned(),
                );
            }
        }
        views.extend(self.scope.awaited_views());
        views
    }

    /// The node's total, if it is guarded and can be read.
    pub(super) fn node_total(&mut self) -> Option<Bytes> {
        match self.entries.get_mut(&NODE)?.reader.read() {
            Ok(Level::Limited(reading)) => Some(reading.total),
            Ok(Level::NoLimit { .. }) | Err(_) => None,
        }
    }

    /// Huge pages that are reserved, which a domain's total leaves out; `None`: there are none.
    fn huge_pages(&self, name: &str) -> Option<Bytes> {
        let entry = self.entries.values().find(|entry| entry.name == name)?;
        Some(entry.huge_pages).filter(|huge| *huge > Bytes(0))
    }

    /// The domains, and what tells a cgroup from one that was made again under its name.
    pub(super) fn identities(&self) -> impl Iterator<Item = (DomainId, Option<CgroupId>)> + '_ {
        self.entries.iter().map(|(id, entry)| (*id, entry.reader.cgroup_id()))
    }

    /// A reader of the same domain for another thread. `None`: it cannot be opened now.
    pub(super) fn another_reader(&self, domain: DomainId) -> Option<DomainReader> {
        let entry = self.entries.get(&domain)?;
        let hierarchy = self.hierarchy.as_ref();
        let reader = match &entry.cgroup {
            None => DomainReader::node(&self.roots, hierarchy.ok(), self.count_swap),
            Some(path) => DomainReader::cgroup(&self.roots, hierarchy.ok()?, path, self.count_swap),
        };
        reader.ok().filter(|reader| reader.cgroup_id() == entry.reader.cgroup_id())
    }

    fn innermost_around(&self, path: &CgroupPath) -> Option<DomainId> {
        let around = self.entries.iter().filter_map(|(id, entry)| match &entry.cgroup {
            None => Some((0, *id)),
            Some(cgroup) if cgroup.contains(path) => Some((cgroup.ancestors().count(), *id)),
            Some(_) => None,
        });
        around.max_by_key(|(depth, _)| *depth).map(|(_, id)| id)
    }
}
