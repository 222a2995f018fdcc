//! What the kernel says of a [`Sandbox`]. Own code, so that the library's readers can be held against it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use monitor::memory::Version;
use monitor::units::Bytes;

use super::{Sandbox, tree};

impl Sandbox {
    /// What is charged to it and all below it, page cache included.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn charged(&self) -> Result<Bytes> {
        number(&self.dir().join(match self.version() {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        }))
        .map(Bytes)
    }

    /// docs/behavior.md#accounting: what is charged without the page cache that can be dropped.
    ///
    /// # Errors
    /// A file cannot be read, or lacks a key.
    pub fn used(&self) -> Result<Bytes> {
        let stat = self.dir().join("memory.stat");
        let keys = match self.version() {
            Version::V1 => ["total_inactive_file", "total_active_file"],
            Version::V2 => ["inactive_file", "active_file"],
        };
        let mut used = self.charged()?;
        for key in keys {
            used = used.saturating_sub(Bytes(keyed(&stat, key)?));
        }
        Ok(used)
    }

    /// How many processes in it or below it the kernel's own out-of-memory killer has killed.
    ///
    /// # Errors
    /// A file cannot be read, or lacks the key.
    pub fn oom_kills(&self) -> Result<u64> {
        match self.version() {
            // Each cgroup counts its own members only.
            Version::V1 => {
                tree(self.dir())?.iter().map(|dir| keyed(&dir.join("memory.oom_control"), "oom_kill")).sum()
            }
            Version::V2 => keyed(&self.dir().join("memory.events"), "oom_kill"),
        }
    }
}

fn number(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    text.trim().parse().with_context(|| format!("{}: {text:?}", file.display()))
}

/// The value in the line `KEY VALUE`.
fn keyed(file: &Path, key: &str) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value
        .with_context(|| format!("{} has no {key}", file.display()))?
        .parse()
        .with_context(|| format!("{}: {key}", file.display()))
}
