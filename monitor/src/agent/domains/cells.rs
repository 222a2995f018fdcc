//! Which cell counts which domain's memory, and which cells lie in which. There are fewer cells than there may be
//! domains: one without a cell is read at every refresh only, and its memory counts in the domain around it.

use monitor_common::{MAX_CELLS, NO_PARENT, NODE_CELL};

use super::{Domains, Found, Guarded, NODE};
use crate::engine::DomainId;
use crate::kernel::cells::{DomainCells, Tuning};
use crate::kernel::machine;
use crate::memory::DomainReader;

/// Why the kernel does not count a domain's memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Uncounted {
    #[error("the kernel side is not loaded")]
    NoPrograms,
    #[error("the kernel side can count {} cgroups, and all places are taken", MAX_CELLS - 1)]
    NoRoom,
    #[error("its user's workers have used their share of the cgroups that the kernel side can count")]
    Share,
    #[error("the kernel refuses: {0}")]
    Refused(String),
}

/// The cells' owners.
pub(super) struct Cells {
    owners: [Option<DomainId>; MAX_CELLS],
    /// The cell that was given away last: one that becomes free rests as long as there are others.
    last: usize,
    /// Which set of cells this is. Records of another set are of cells that were given away.
    generation: u32,
    cpus: u32,
}

impl Cells {
    pub(super) fn new() -> Self {
        Self { owners: [None; MAX_CELLS], last: 0, generation: 1, cpus: machine::online_cpus() }
    }

    pub(super) fn own(&mut self, cell: u32, domain: DomainId) {
        if let Some(owner) = self.owners.get_mut(cell as usize) {
            *owner = Some(domain);
        }
    }

    /// A free cell, from now on this domain's. The node's is never free.
    fn take(&mut self, domain: DomainId) -> Option<u32> {
        let after = (self.last + 1..MAX_CELLS).chain(1..=self.last);
        let free = after.into_iter().find(|cell| self.owners[*cell].is_none())?;
        self.last = free;
        self.owners[free] = Some(domain);
        u32::try_from(free).ok()
    }

    fn left(&self) -> usize {
        self.owners[1..].iter().filter(|owner| owner.is_none()).count()
    }

    /// Makes the programs look up again which cell a cgroup belongs to.
    fn change(&mut self, shared: &mut DomainCells) {
        self.generation = self.generation.wrapping_add(1);
        shared.cells.set_generation(self.generation);
    }
}

impl Domains {
    /// Describes the node's cell, which every other one is within, whether the node is guarded or not.
    pub(super) fn prepare(&mut self) {
        let Some(shared) = &mut self.shared else { return };
        shared.cells.describe(NODE_CELL, NO_PARENT, Tuning::new(self.cells.cpus, 1));
        shared.cells.set_generation(self.cells.generation);
    }

    /// The domain reaches its threshold when its cell's counter reaches `line`.
    pub(in crate::agent) fn set_line(&mut self, domain: DomainId, line: i64, rearm: bool, brake: bool) {
        if let (Some(cell), Some(shared)) = (self.cell(domain), &mut self.shared) {
            shared.cells.set_line(cell, line, rearm, brake);
        }
    }

    /// The cell of a domain, if it has one.
    fn cell(&self, domain: DomainId) -> Option<u32> {
        self.entries.get(&domain)?.cell.as_ref().ok().copied()
    }

    /// The domain that a cell counted in this generation; `None`: the cells were reassigned since.
    pub(in crate::agent) fn counted_in(&self, cell: u32, generation: u32) -> Option<DomainId> {
        if generation != self.cells.generation {
            return None;
        }
        self.cells.owners.get(cell as usize).copied().flatten()
    }

    /// Whether the next domain would have no cell.
    pub(super) fn is_full(&self) -> bool {
        self.cells.left() == 0
    }

    /// Why a domain is not counted by the kernel; `None`: it is.
    pub(super) fn uncounted(&self, name: &str) -> Option<String> {
        let entry = self.entries.values().find(|entry| entry.name == name)?;
        entry.cell.as_ref().err().map(ToString::to_string)
    }

    /// Gives a domain a cell.
    pub(super) fn count(&mut self, id: DomainId) {
        let around = self.entries.get(&id).map_or(NODE_CELL, |entry| self.cell_around(entry));
        let domains = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let Some(asked) = self.entries.get(&id).map(|entry| entry.asked) else { return };
        let may = self.may_count(asked, self.cells.left());
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(shared) = &mut self.shared else {
            entry.cell = Err(Uncounted::NoPrograms);
            return;
        };
        let cell = match may.and_then(|()| self.cells.take(id).ok_or(Uncounted::NoRoom)) {
            Ok(cell) => cell,
            Err(why) => {
                tracing::warn!(domain = entry.name, %why, "cannot count the memory of this domain in the kernel");
                entry.cell = Err(why);
                return;
            }
        };
        shared.cells.describe(cell, around, Tuning::new(self.cells.cpus, domains));
        entry.cell = Ok(cell);
        self.find_cell_of(id);
        self.hang();
        self.change();
    }

    /// Takes a removed domain's cell back, for one that has none.
    pub(super) fn uncount(&mut self, removed: &Guarded) {
        let Ok(cell) = &removed.cell else { return };
        self.hang();
        let Some(shared) = &mut self.shared else { return };
        if let Some(cgroup) = removed.reader.cgroup_id() {
            shared.unguard(cgroup.0);
        }
        // No line: what a processor still adds to it crosses nothing.
        shared.cells.describe(*cell, NODE_CELL, Tuning::new(self.cells.cpus, 1));
        self.change();
        if let Some(owner) = self.cells.owners.get_mut(*cell as usize) {
            *owner = None;
        }
        let left = self.cells.left();
        let waits = self.entries.iter().find(|(_, entry)| match &entry.cell {
            Err(Uncounted::NoRoom | Uncounted::Share) => self.may_count(entry.asked, left).is_ok(),
            Ok(_) | Err(Uncounted::NoPrograms | Uncounted::Refused(_)) => false,
        });
        if let Some(id) = waits.map(|(id, _)| *id) {
            self.count(id);
        }
    }

    /// Takes new readers for cgroups that were removed and made again under their old names, as a service's is when it
    /// is restarted. The domain stays the same, its memory is another.
    pub(super) fn reopen(&mut self) {
        let gone = self.entries.iter().filter(|(_, entry)| entry.found == Found::Gone);
        for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
            let (Ok(hierarchy), Some(entry)) = (&self.hierarchy, self.entries.get_mut(&id)) else { return };
            let Some(path) = &entry.cgroup else { continue };
            // Not there again yet, or not whole: the next look.
            let Ok(reader) = DomainReader::cgroup(&self.roots, hierarchy, path, self.count_swap) else {
                continue;
            };
            let old = std::mem::replace(&mut entry.reader, reader).cgroup_id();
            entry.found = Found::Something;
            if let (Some(shared), Ok(_)) = (&mut self.shared, &entry.cell) {
                if let Some(old) = old {
                    shared.unguard(old.0);
                }
                self.find_cell_of(id);
                self.change();
            }
        }
    }

    fn change(&mut self) {
        if let Some(shared) = &mut self.shared {
            self.cells.change(shared);
        }
    }

    /// Lets the programs find the cell of a domain's cgroup.
    fn find_cell_of(&mut self, id: DomainId) {
        let (Some(entry), Some(shared)) = (self.entries.get_mut(&id), &mut self.shared) else { return };
        let (Ok(cell), Some(cgroup)) = (&entry.cell, entry.reader.cgroup_id()) else { return };
        let cell = *cell;
        if let Err(error) = shared.guard(cgroup.0, cell) {
            tracing::warn!(%error, domain = entry.name, "cannot count the memory of this domain in the kernel");
            entry.cell = Err(Uncounted::Refused(error.to_string()));
            if let Some(owner) = self.cells.owners.get_mut(cell as usize) {
                *owner = None;
            }
        }
    }

    /// Tells each cell which one lies around it.
    fn hang(&mut self) {
        let around: Vec<(u32, u32)> = self
            .entries
            .iter()
            .filter(|(id, _)| **id != NODE)
            .filter_map(|(_, entry)| Some((*entry.cell.as_ref().ok()?, self.cell_around(entry))))
            .collect();
        let Some(shared) = &mut self.shared else { return };
        for (cell, parent) in around {
            shared.cells.set_parent(cell, parent);
        }
    }

    /// The cell of the nearest domain around one that has a cell; at last the node's.
    fn cell_around(&self, entry: &Guarded) -> u32 {
        let mut around = entry.parent;
        while let Some(entry) = around.and_then(|id| self.entries.get(&id)) {
            if let Ok(cell) = entry.cell {
                return cell;
            }
            around = entry.parent;
        }
        NODE_CELL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_becomes_free_rests_while_there_are_others() {
        let mut cells = Cells::new();
        let first: Vec<u32> = (1..=5).filter_map(|id| cells.take(DomainId(id))).collect();
        assert_eq!(first, [1, 2, 3, 4, 5]);
        cells.owners[2] = None;
        assert_eq!(cells.take(DomainId(6)), Some(6));
        for id in 7..MAX_CELLS {
            cells.take(DomainId(u32::try_from(id).unwrap())).unwrap();
        }
        assert_eq!(cells.left(), 1);
        assert_eq!(cells.take(DomainId(100)), Some(2), "now it is needed");
        assert_eq!(cells.left(), 0);
        assert_eq!(cells.take(DomainId(101)), None, "the node's is not given away");
    }
}
