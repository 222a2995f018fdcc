//! The memory files of a cgroup v1 directory (Documentation/admin-guide/cgroup-v1/memory.rst): one method per
//! file. No domain logic.

use std::sync::Arc;

use super::error::{Flaw, ReadError};
use super::file::{Buffer, Dir, KernelFile};
use super::{Limit, parse, parse::required};
use crate::units::Bytes;

/// The memory files of one cgroup.
#[derive(Debug)]
pub(super) struct Files {
    limit: KernelFile,
    usage: KernelFile,
    stat: KernelFile,
    memsw_limit: KernelFile,
    memsw_usage: KernelFile,
}

/// What is wanted of `memory.stat`, in bytes. The `total_` keys include the subtree, as the usage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) total_inactive_file: Bytes,
    pub(super) total_active_file: Bytes,
}

impl Files {
    /// None of them need exist yet; those a reading always needs are opened now.
    pub(super) fn new(dir: &Arc<Dir>) -> Self {
        let file = |name| KernelFile::new(dir, name);
        let mut files = Self {
            limit: file("memory.limit_in_bytes"),
            usage: file("memory.usage_in_bytes"),
            stat: file("memory.stat"),
            memsw_limit: file("memory.memsw.limit_in_bytes"),
            memsw_usage: file("memory.memsw.usage_in_bytes"),
        };
        for file in [&mut files.limit, &mut files.usage, &mut files.stat] {
            // A failure shows at the first read.
            let _ = file.open();
        }
        files
    }

    /// `memory.limit_in_bytes`.
    pub(super) fn limit_in_bytes(&mut self, buffer: &mut Buffer) -> Result<Limit, ReadError> {
        self.limit.read_as(buffer, parse::limit)
    }

    /// `memory.usage_in_bytes`: bytes charged to the cgroup and its descendants.
    pub(super) fn usage_in_bytes(&mut self, buffer: &mut Buffer) -> Result<Bytes, ReadError> {
        self.usage.read_as(buffer, parse::bytes)
    }

    /// `memory.stat`.
    pub(super) fn memory_stat(&mut self, buffer: &mut Buffer) -> Result<Stat, ReadError> {
        self.stat.read_as(buffer, Stat::parse)
    }

    /// Whether the kernel accounts memory and swap together: both `memory.memsw` files are there.
    pub(super) fn has_memsw(&mut self) -> Result<bool, ReadError> {
        for file in [&mut self.memsw_limit, &mut self.memsw_usage] {
            match file.open() {
                Ok(_) => {}
                Err(error) if error.is_missing_file() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// `memory.memsw.limit_in_bytes`: of memory and swap together.
    pub(super) fn memsw_limit_in_bytes(&mut self, buffer: &mut Buffer) -> Result<Limit, ReadError> {
        self.memsw_limit.read_as(buffer, parse::limit)
    }

    /// `memory.memsw.usage_in_bytes`: of memory and swap together.
    pub(super) fn memsw_usage_in_bytes(&mut self, buffer: &mut Buffer) -> Result<Bytes, ReadError> {
        self.memsw_usage.read_as(buffer, parse::bytes)
    }
}

impl Stat {
    fn parse(text: &[u8]) -> Result<Self, Flaw> {
        let keys = ["total_inactive_file", "total_active_file"];
        let [inactive, active] = parse::values(text, b' ', keys)?;
        Ok(Self {
            total_inactive_file: required("total_inactive_file", inactive)?,
            total_active_file: required("total_active_file", active)?,
        })
    }
}
