//! Readings of one domain (docs/behavior.md#accounting): the rules by which the kernel's files become total and used.
//! Reads only; what a level means for workers is decided elsewhere.

use super::error::ReadError;
use super::file::{Buffer, Dir};
use super::hierarchy::{CgroupId, Hierarchy, Version};
use super::meminfo::{HostMemory, Meminfo};
use super::parse::SwapLimit;
use super::path::CgroupPath;
use super::{Level, Limit, Reading, Roots, Source, v1, v2};
use crate::units::Bytes;

/// Reads one domain again and again, its limit each time too, so that a resize takes effect. Holds its files
/// open and its buffer (8 KiB) allocated: a reading allocates nothing.
#[derive(Debug)]
pub struct DomainReader {
    scope: Scope,
    buffer: Buffer,
}

#[derive(Debug)]
enum Scope {
    Node {
        meminfo: Meminfo,
        count_swap: bool,
        /// The root cgroup, if there is a memory hierarchy.
        root: Option<Cgroup>,
    },
    Cgroup {
        cgroup: Cgroup,
        /// `None`: swap is not counted. Where it cannot be opened, only a reading that needs it fails.
        host_swap: Option<Result<Meminfo, ReadError>>,
    },
}

#[derive(Debug)]
struct Cgroup {
    files: Files,
    id: CgroupId,
}

/// The files of one cgroup, of whichever version.
#[derive(Debug)]
enum Files {
    V1(v1::Files),
    V2(v2::Files),
}

/// Whether swap counts in this reading's used bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swap {
    NotCounted,
    /// All of it.
    Counted,
    /// Up to the cgroup's limit on it.
    AtMost(Bytes),
}

impl DomainReader {
    /// The node: total is the least of the host's MemTotal and the limit of the root cgroup in `hierarchy`
    /// (`None`: no memory controller), and used comes from whichever gave the minimum.
    ///
    /// # Errors
    /// PROCFS or the hierarchy's root cannot be opened. Files in them that cannot be are the readings' errors.
    pub fn node(roots: &Roots, hierarchy: Option<&Hierarchy>, count_swap: bool) -> Result<Self, ReadError> {
        let meminfo = Meminfo::new(&Dir::open(&roots.procfs)?);
        let root = hierarchy.map(|hierarchy| Cgroup::open(hierarchy, &CgroupPath::root())).transpose()?;
        Ok(Self { scope: Scope::Node { meminfo, count_swap, root }, buffer: Buffer::new() })
    }

    /// The cgroup `path` of `hierarchy`, with or without a limit.
    ///
    /// # Errors
    /// It does not exist or cannot be opened. Files in it that cannot be are the readings' errors.
    pub fn cgroup(
        roots: &Roots,
        hierarchy: &Hierarchy,
        path: &CgroupPath,
        count_swap: bool,
    ) -> Result<Self, ReadError> {
        let cgroup = Cgroup::open(hierarchy, path)?;
        let host_swap = count_swap.then(|| Dir::open(&roots.procfs).map(|dir| Meminfo::new(&dir)));
        Ok(Self { scope: Scope::Cgroup { cgroup, host_swap }, buffer: Buffer::new() })
    }

    /// The kernel's id of the cgroup, as its tracepoints carry it; for the node that of the root cgroup, if
    /// there is a memory hierarchy.
    #[must_use]
    pub fn cgroup_id(&self) -> Option<CgroupId> {
        match &self.scope {
            Scope::Node { root, .. } => root.as_ref().map(|root| root.id),
            Scope::Cgroup { cgroup, .. } => Some(cgroup.id),
        }
    }

    /// What the files say now.
    ///
    /// # Errors
    /// The domain is unknown, and why; never to be taken for a number. [`ReadError::Gone`] once its cgroup was
    /// removed, for good: a new cgroup of the same name takes a new reader.
    pub fn read(&mut self) -> Result<Level, ReadError> {
        let Self { scope, buffer } = self;
        match scope {
            Scope::Node { meminfo, count_swap, root } => {
                let host = meminfo.read(buffer, *count_swap)?;
                match root {
                    Some(root) => root.files.read_node(&host, buffer).map(Level::Limited),
                    None => Ok(Level::Limited(host.reading())),
                }
            }
            Scope::Cgroup { cgroup, host_swap } => {
                // Kept as it is: an unknown SwapTotal matters only where the cgroup's own limit allows swap.
                let swap = host_swap.as_mut().map(|meminfo| match meminfo {
                    Ok(meminfo) => meminfo.read_swap(buffer).map(|swap| swap.total),
                    Err(error) => Err(error.clone()),
                });
                cgroup.files.read_cgroup(swap.as_ref(), buffer)
            }
        }
    }
}

impl Cgroup {
    fn open(hierarchy: &Hierarchy, path: &CgroupPath) -> Result<Self, ReadError> {
        let dir = hierarchy.open(path)?;
        let files = match hierarchy.version() {
            Version::V1 => Files::V1(v1::Files::new(&dir)),
            Version::V2 => Files::V2(v2::Files::new(&dir)),
        };
        Ok(Self { files, id: CgroupId(dir.inode()?) })
    }
}

impl Files {
    fn source(&self) -> Source {
        match self {
            Self::V1(_) => Source::CgroupV1,
            Self::V2(_) => Source::CgroupV2,
        }
    }

    /// The node, with this as its root cgroup: the cgroup's level if its limit is the lesser one.
    fn read_node(&mut self, host: &HostMemory, buffer: &mut Buffer) -> Result<Reading, ReadError> {
        let ram = match self.ram_limit(buffer) {
            // The true root of v2 has no memory.max: there is no limit at the root we see.
            Err(error) if error.is_missing_file() => return Ok(host.reading()),
            other => other?,
        };
        match ram {
            Limit::At(limit) if limit <= host.ram_total => {}
            // Nothing else of the root is read then: it cannot make a known node unknown.
            Limit::At(_) | Limit::Unlimited => return Ok(host.reading()),
        }
        let swap = host.swap.map(|swap| Ok(swap.total));
        Ok(match self.level(ram, swap.as_ref(), buffer)? {
            Level::Limited(reading) => reading,
            Level::NoLimit { .. } => host.reading(),
        })
    }

    fn read_cgroup(
        &mut self,
        host_swap: Option<&Result<Bytes, ReadError>>,
        buffer: &mut Buffer,
    ) -> Result<Level, ReadError> {
        let ram = self.ram_limit(buffer)?;
        self.level(ram, host_swap, buffer)
    }

    fn ram_limit(&mut self, buffer: &mut Buffer) -> Result<Limit, ReadError> {
        match self {
            Self::V1(files) => files.limit_in_bytes(buffer),
            Self::V2(files) => files.memory_max(buffer),
        }
    }

    /// `host_swap`: SwapTotal of the host if swap is counted.
    fn level(
        &mut self,
        ram: Limit,
        host_swap: Option<&Result<Bytes, ReadError>>,
        buffer: &mut Buffer,
    ) -> Result<Level, ReadError> {
        let (total, swap) = match (host_swap, &mut *self) {
            (None, Self::V1(_) | Self::V2(_)) => (ram, Swap::NotCounted),
            (Some(host_swap), Self::V1(files)) => v1_total(files, ram, host_swap, buffer)?,
            (Some(host_swap), Self::V2(files)) => v2_total(files, ram, host_swap, buffer)?,
        };
        let used = self.used(swap, buffer)?;
        let source = self.source();
        Ok(match total {
            Limit::At(total) => Level::Limited(Reading::new(total, used, source)),
            Limit::Unlimited => Level::NoLimit { used, source },
        })
    }

    /// Memory in use without file cache; swap in use too where it counts.
    fn used(&mut self, swap: Swap, buffer: &mut Buffer) -> Result<Bytes, ReadError> {
        match self {
            Self::V1(files) => {
                let usage = match swap {
                    Swap::NotCounted => files.usage_in_bytes(buffer)?,
                    Swap::Counted | Swap::AtMost(_) => files.memsw_usage_in_bytes(buffer)?,
                };
                let stat = files.memory_stat(buffer)?;
                Ok(usage.saturating_sub(stat.total_inactive_file.saturating_add(stat.total_active_file)))
            }
            Self::V2(files) => {
                let current = files.memory_current(buffer)?;
                let stat = files.memory_stat(buffer)?;
                let used = current.saturating_sub(stat.inactive_file.saturating_add(stat.active_file));
                let most = match swap {
                    Swap::NotCounted => return Ok(used),
                    Swap::Counted => Bytes(u64::MAX),
                    Swap::AtMost(most) => most,
                };
                let swapped = files.memory_swap_current(buffer)?.saturating_sub(files.swapcached(stat)?);
                // Swap above a limit set later must not eat up room for memory that is really there.
                Ok(used.saturating_add(swapped.min(most)))
            }
        }
    }
}

/// v1 counts memory and swap together, if both `memory.memsw` files exist; else memory alone.
fn v1_total(
    files: &mut v1::Files,
    ram: Limit,
    host_swap: &Result<Bytes, ReadError>,
    buffer: &mut Buffer,
) -> Result<(Limit, Swap), ReadError> {
    if !files.has_memsw()? {
        return Ok((ram, Swap::NotCounted));
    }
    Ok(match (files.memsw_limit_in_bytes(buffer)?, ram) {
        // All of it may be memory.
        (Limit::At(both), Limit::Unlimited) => (Limit::At(both), Swap::Counted),
        // The limit on both, less that on memory, is what may be swapped out.
        (Limit::At(both), Limit::At(most)) if both > most => {
            let swap = allowed(both.saturating_sub(most), host_swap)?;
            (Limit::At(most.saturating_add(swap)), Swap::Counted)
        }
        (Limit::At(both), Limit::At(_)) => (Limit::At(both), Swap::Counted),
        // Memory limited, swap not: all of the host's swap may be used, as with v2's "max".
        (Limit::Unlimited, Limit::At(most)) => {
            (Limit::At(most.saturating_add(host_swap.clone()?)), Swap::Counted)
        }
        (Limit::Unlimited, Limit::Unlimited) => (ram, Swap::Counted),
    })
}

/// What a limit on swap leaves to a cgroup: swap that the host does not have is no memory.
fn allowed(limit: Bytes, host_swap: &Result<Bytes, ReadError>) -> Result<Bytes, ReadError> {
    // Without any, whatever the host has.
    if limit == Bytes(0) { Ok(limit) } else { Ok(limit.min(host_swap.clone()?)) }
}

/// v2 counts swap apart from memory.
fn v2_total(
    files: &mut v2::Files,
    ram: Limit,
    host_swap: &Result<Bytes, ReadError>,
    buffer: &mut Buffer,
) -> Result<(Limit, Swap), ReadError> {
    let Limit::At(most) = ram else { return Ok((ram, Swap::Counted)) };
    let swap = match files.memory_swap_max(buffer)? {
        SwapLimit::At(swap) => allowed(swap, host_swap)?,
        SwapLimit::Unlimited => host_swap.clone()?,
    };
    Ok((Limit::At(most.saturating_add(swap)), Swap::AtMost(swap)))
}

#[cfg(test)]
#[path = "domain/tests.rs"]
mod tests;
