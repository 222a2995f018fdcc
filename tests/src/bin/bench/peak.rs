//! The most that a cgroup was charged since a moment, as the kernel remembers it. What page cache there is counts.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result};
use monitor::memory::Version;
use monitor_tests::cgroup::Sandbox;

/// A mark that was set anew. The kernel's own counter moves in batches of up to 64 pages for each CPU (mm/memcontrol.c,
/// `MEMCG_CHARGE_BATCH`), upwards.
pub(crate) enum Peak {
    /// `memory.max_usage_in_bytes`, which any write sets to the usage.
    V1(PathBuf),
    /// `memory.peak`, which from kernel 6.12 on a write resets for the descriptor that wrote.
    V2(File),
    /// Before that it can't be set anew.
    Unknown,
}

impl Peak {
    pub(crate) fn since_now(sandbox: &Sandbox) -> Result<Self> {
        match sandbox.version() {
            Version::V1 => {
                let path = sandbox.dir().join("memory.max_usage_in_bytes");
                fs::write(&path, "0").with_context(|| path.display().to_string())?;
                Ok(Self::V1(path))
            }
            Version::V2 => {
                let file = File::options().read(true).write(true).open(sandbox.dir().join("memory.peak"));
                let Ok(mut file) = file else { return Ok(Self::Unknown) };
                Ok(if file.write_all(b"0").is_ok() { Self::V2(file) } else { Self::Unknown })
            }
        }
    }

    /// In bytes.
    pub(crate) fn bytes(&mut self) -> Result<Option<u64>> {
        let text = match self {
            Self::V1(path) => fs::read_to_string(&*path).with_context(|| path.display().to_string())?,
            Self::V2(file) => {
                let mut text = String::new();
                file.rewind().and_then(|()| file.read_to_string(&mut text)).context("memory.peak")?;
                text
            }
            Self::Unknown => return Ok(None),
        };
        text.trim().parse().map(Some).with_context(|| format!("the peak is {text:?}"))
    }
}
