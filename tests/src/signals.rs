//! Which signals a process sends, by the kernel's own trace: an instance of tracefs with `signal:signal_generate` of
//! the threads of that process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

const TRACEFS: &str = "/sys/kernel/tracing";

/// A trace that runs. Dropped, it is removed.
#[derive(Debug)]
pub struct Signals {
    dir: PathBuf,
}

/// A signal that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub signal: u32,
    /// The process that gets it.
    pub pid: u32,
}

impl Signals {
    /// Traces what the threads of a process send from now on, those it starts later too. `None`: no tracefs here.
    ///
    /// # Errors
    /// The kernel refuses an instance.
    pub fn sent_by(pid: u32) -> Result<Option<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new(TRACEFS).join("instances");
        if !root.is_dir() {
            return Ok(None);
        }
        let name = format!("monitor-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = root.join(name);
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        let made = Self { dir };
        made.write("options/event-fork", "1")?;
        let threads: Result<Vec<String>> = fs::read_dir(format!("/proc/{pid}/task"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect();
        made.write("set_event_pid", &threads?.join(" "))?;
        made.write("events/signal/signal_generate/enable", "1")?;
        Ok(Some(made))
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
    }

    /// All so far.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn all(&self) -> Result<Vec<Sent>> {
        let text = fs::read_to_string(self.dir.join("trace"))?;
        Ok(text.lines().filter_map(parse).collect())
    }
}

/// `... signal_generate: sig=9 errno=0 code=0 comm=sleep pid=77 grp=1 res=0`. The command may hold anything but is
/// before the last ` pid=`.
fn parse(line: &str) -> Option<Sent> {
    let (_, event) = line.split_once("signal_generate: sig=")?;
    let signal = event.split(' ').next()?.parse().ok()?;
    let pid = event.rsplit_once(" pid=")?.1.split(' ').next()?.parse().ok()?;
    Some(Sent { signal, pid })
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.dir) {
            eprintln!("left over: {}: {error}", self.dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_trace_is_read() {
        let line = "  monitor-7 [001] d..1. 9.5: signal_generate: sig=9 errno=0 code=0 comm=a pid=1 b pid=77 grp=1 res=0";
        assert_eq!(parse(line), Some(Sent { signal: 9, pid: 77 }));
        assert_eq!(parse("# tracer: nop"), None);
    }
}
