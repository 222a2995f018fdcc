//! Looks at what the box uses while tasks run in it; and, for those who guard a machine by its `/proc/meminfo`, writes one in
//! which the box is the machine.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use monitor_tests::cgroup::Sandbox;

use super::BOX;

/// How often it looks, and how many looks are a sample.
const EVERY: Duration = Duration::from_millis(10);
const A_SAMPLE: u32 = 10;

/// A thread that looks. It ends with this.
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(u64, u64)>>>,
    meminfo: PathBuf,
    _dir: tempfile::TempDir,
}

impl Watcher {
    pub(super) fn start(sandbox: Arc<Sandbox>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let meminfo = dir.path().join("meminfo");
        let file = File::create(&meminfo).context("the box's meminfo")?;
        write(&file, sandbox.used()?.0);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (began, mut usage, mut looks) = (Instant::now(), Vec::new(), 0);
            while !seen.load(Ordering::Relaxed) {
                if let Ok(used) = sandbox.used() {
                    write(&file, used.0);
                    if looks % A_SAMPLE == 0 {
                        usage.push((u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), used.0));
                    }
                }
                looks += 1;
                std::thread::sleep(EVERY);
            }
            usage
        });
        Ok(Self { stop, thread: Some(thread), meminfo, _dir: dir })
    }

    /// The file in which the box is the machine.
    pub(super) fn meminfo(&self) -> &Path {
        &self.meminfo
    }

    /// What was used over time.
    pub(super) fn end(mut self) -> Vec<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// In one write of always the same length, so that whoever reads it at this moment reads a whole one.
fn write(file: &File, used: u64) {
    let free = BOX.saturating_sub(used) >> 10;
    let line = |name: &str, kib: u64| format!("{:<16}{kib:>8} kB\n", format!("{name}:"));
    let text: String = [
        ("MemTotal", BOX >> 10),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("AnonPages", (BOX >> 10) - free),
        ("SwapTotal", 0),
        ("SwapFree", 0),
    ]
    .into_iter()
    .map(|(name, kib)| line(name, kib))
    .collect();
    // A look that failed is followed by another.
    let _ = file.write_all_at(text.as_bytes(), 0);
}
