//! earlyoom(1), to compare with: Debian's package, guarding the node as it always does, by MemAvailable. It picks its
//! victim among all processes that it sees, so it gets a pid namespace with only the victim in it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use monitor_tests::clock::{PATIENCE, now_ns};
use monitor_tests::pid_namespace::PidNamespace;
use monitor_tests::process::die_with_parent;

/// How long it takes until it looks: it begins with a trial, and sleeps for a second because there is nothing yet that
/// it could kill.
const TRIAL: Duration = Duration::from_millis(1_200);

/// How often MemAvailable is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// A running one. It ends when this is dropped.
pub(crate) struct Earlyoom {
    // Dropped first, while there is a namespace to end in.
    process: Child,
    pub(crate) namespace: PidNamespace,
    /// It kills when less is available, in bytes.
    pub(crate) least: u64,
    /// When it said that it sends SIGKILL.
    signals: Receiver<u64>,
}

impl Earlyoom {
    /// Whether there is one.
    pub(crate) fn installed() -> bool {
        let version = Command::new("earlyoom").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    }

    /// Lets one kill when `room` bytes less than now are available. None: this kernel lets nobody have pids of its own.
    pub(crate) fn start(room: u64) -> Result<Option<Self>> {
        let Some(namespace) = PidNamespace::new()? else { return Ok(None) };
        let least = available()?.saturating_sub(room);
        let mut command = Command::new("earlyoom");
        // At once SIGKILL, and no reports. Swap counts only where there is some: then it is to be no hindrance.
        command.args(["-r", "0", "-p", "-s", "100,100", "-M"]).arg(format!("{0},{0}", least >> 10));
        namespace.enter(&mut command);
        die_with_parent(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stderr = process.stderr.take().context("no stderr")?;
        let (ready, is_ready) = channel();
        let (said, signals) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("sending SIGKILL to process") {
                    // Nobody may want to know any more.
                    let _ = said.send(now_ns());
                } else if line.contains("SIGKILL when mem") {
                    let _ = ready.send(());
                }
            }
        });
        let earlyoom = Self { process, namespace, least, signals };
        is_ready.recv_timeout(PATIENCE).context("earlyoom does not say what it guards")?;
        thread::sleep(TRIAL);
        Ok(Some(earlyoom))
    }

    /// When it killed, in nanoseconds of the monotonic clock.
    pub(crate) fn signalled(&self) -> Result<u64> {
        self.signals.recv_timeout(PATIENCE).context("earlyoom said nothing of a kill")
    }
}

impl Drop for Earlyoom {
    fn drop(&mut self) {
        // This is nsenter(1); what it started ends with the namespace.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks at what it goes by until `stop`: when that was below its line, `least`, first, and by how much it was below at most, in
/// bytes. Everything else on the node, its host included, moves it as well: it is not what the
/// victim has touched.
pub(crate) fn look(least: u64, stop: &AtomicBool) -> Result<(Option<u64>, u64)> {
    let (mut crossed, mut below) = (None, 0);
    while !stop.load(Ordering::Relaxed) {
        let missing = least.saturating_sub(available()?);
        if missing > 0 {
            crossed.get_or_insert_with(now_ns);
        }
        below = below.max(missing);
        thread::sleep(LOOK);
    }
    Ok((crossed, below))
}

fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().with_context(|| line.to_owned())?;
    Ok(kib << 10)
}
