//! The options that say where memory is read and which cgroups are meant, shared by the subcommands that
//! read it. No reading here.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::memory::{self, CgroupPath};

/// Where the kernel's files are, and the cgroups to look at (docs/behavior.md#interfaces).
#[derive(Debug, Clone, Args)]
pub struct Roots {
    /// Where procfs is mounted (in a container, the host's)
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub procfs: PathBuf,
    /// Where cgroups are mounted: a v2 mount, or the directory with v1's `memory`
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup")]
    pub cgroupfs: PathBuf,
    /// Show this cgroup too, by its path in the memory controller's hierarchy; may be repeated
    #[arg(long = "cgroup", value_name = "PATH", value_parser = cgroup_path())]
    pub cgroups: Vec<CgroupPath>,
}

impl Roots {
    /// The two directories.
    #[must_use]
    pub fn roots(&self) -> memory::Roots {
        memory::Roots { procfs: self.procfs.clone(), cgroupfs: self.cgroupfs.clone() }
    }
}

/// Names of cgroups need not be UTF-8.
fn cgroup_path() -> impl TypedValueParser<Value = CgroupPath> {
    OsStringValueParser::new().try_map(|text: OsString| CgroupPath::new(&text))
}
