//! The memory files of a cgroup v2 directory (Documentation/admin-guide/cgroup-v2.rst): one method per file.
//! No domain logic.

use std::sync::Arc;

use super::error::{Flaw, ReadError};
use super::file::{Buffer, Dir, KernelFile};
use super::parse::{self, SwapLimit};
use super::{Limit, parse::required};
use crate::units::Bytes;

/// The memory files of one cgroup.
#[derive(Debug)]
pub(super) struct Files {
    max: KernelFile,
    current: KernelFile,
    stat: KernelFile,
    swap_max: KernelFile,
    swap_current: KernelFile,
}

/// What is wanted of `memory.stat`, in bytes, the whole subtree included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) inactive_file: Bytes,
    pub(super) active_file: Bytes,
    /// Since Linux 5.12.
    pub(super) swapcached: Option<Bytes>,
}

impl Files {
    /// None of them need exist yet; those a reading always needs are opened now.
    pub(super) fn new(dir: &Arc<Dir>) -> Self {
        let file = |name| KernelFile::new(dir, name);
        let mut files = Self {
            max: file("memory.max"),
            current: file("memory.current"),
            stat: file("memory.stat"),
            swap_max: file("memory.swap.max"),
            swap_current: file("memory.swap.current"),
        };
        for file in [&mut files.max, &mut files.current, &mut files.stat] {
            // A failure shows at the first read.
            let _ = file.open();
        }
        files
    }

    /// `memory.max`. The root of the hierarchy has none.
    pub(super) fn memory_max(&mut self, buffer: &mut Buffer) -> Result<Limit, ReadError> {
        self.max.read_as(buffer, parse::limit)
    }

    /// `memory.current`: bytes charged to the cgroup and its descendants.
    pub(super) fn memory_current(&mut self, buffer: &mut Buffer) -> Result<Bytes, ReadError> {
        self.current.read_as(buffer, parse::bytes)
    }

    /// `memory.stat`.
    pub(super) fn memory_stat(&mut self, buffer: &mut Buffer) -> Result<Stat, ReadError> {
        self.stat.read_as(buffer, Stat::parse)
    }

    /// `swapcached` of `memory.stat`, which must be there.
    pub(super) fn swapcached(&self, stat: Stat) -> Result<Bytes, ReadError> {
        stat.swapcached.ok_or_else(|| self.stat.flawed(Flaw::Missing("swapcached")))
    }

    /// `memory.swap.max`.
    pub(super) fn memory_swap_max(&mut self, buffer: &mut Buffer) -> Result<SwapLimit, ReadError> {
        self.swap_max.read_as(buffer, parse::swap_limit)
    }

    /// `memory.swap.current`: bytes of swap, not of memory and swap.
    pub(super) fn memory_swap_current(&mut self, buffer: &mut Buffer) -> Result<Bytes, ReadError> {
        self.swap_current.read_as(buffer, parse::bytes)
    }
}

impl Stat {
    fn parse(text: &[u8]) -> Result<Self, Flaw> {
        let keys = ["inactive_file", "active_file", "swapcached"];
        let [inactive, active, swapcached] = parse::values(text, b' ', keys)?;
        Ok(Self {
            inactive_file: required("inactive_file", inactive)?,
            active_file: required("active_file", active)?,
            swapcached: parse::optional("swapcached", swapcached)?,
        })
    }
}
