//! A node for Ray: a memory cgroup that Ray sees as the root, a folder for its sessions, and an agent beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use monitor::memory::Version;
use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::process::die_with_parent;
use serde_json::Value;
use tempfile::TempDir;

use crate::cases::Case;

/// A case takes no longer.
const LONGEST: Duration = Duration::from_secs(240);

/// In a mount namespace of its own the sandbox is the root of the memory hierarchy, as in a container.
const INSIDE: &str = r#"mount --make-rprivate / && mount --bind "$0" "$1" && shift && exec "$@""#;

/// See the module.
pub(crate) struct Node {
    pub(crate) sandbox: Sandbox,
    pub(crate) agent: Option<Agent>,
    dir: TempDir,
}

/// What a program left.
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) printed: String,
    pub(crate) took: Duration,
}

impl Node {
    pub(crate) fn new(case: &Case, plain: bool) -> Result<Self> {
        let sandbox = Sandbox::new(Bytes(case.mib << 20))?;
        // Short: sockets lie in it.
        let dir = tempfile::Builder::new().prefix("ray-").tempdir()?;
        let share = format!("0.{:02}", case.threshold);
        let flags =
            ["--preset", "ray", "--brake", "on", "--rules-mode", "enforce", "--usage-threshold", &share];
        let agent = (!plain).then(|| Agent::guard(&sandbox, flags)).transpose()?;
        Ok(Self { sandbox, agent, dir })
    }

    /// Runs a case's program with its Ray.
    pub(crate) fn run(&self, case: &Case, python: &Path, stop: &AtomicBool) -> Result<Outcome> {
        let log = self.dir.path().join("printed");
        let mut command = self.command(case, python)?;
        let file = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        die_with_parent(&mut command);
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if began.elapsed() > LONGEST || stop.load(Ordering::Relaxed) {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let printed = fs::read_to_string(&log)?;
        let succeeded = status.is_some_and(|status| status.success());
        Ok(Outcome { succeeded, printed, took: began.elapsed() })
    }

    fn command(&self, case: &Case, python: &Path) -> Result<Command> {
        let root = match self.sandbox.version() {
            Version::V1 => "/sys/fs/cgroup/memory",
            Version::V2 => "/sys/fs/cgroup",
        };
        let mut command = self.sandbox.command("unshare")?;
        command.args(["--mount", "sh", "-c", INSIDE]).arg(self.sandbox.dir()).arg(root);
        if case.head {
            let ray = python.with_file_name("ray");
            let start = r#""$0" start --head --num-cpus=3 --include-dashboard=false --object-store-memory=100000000 \
                --disable-usage-stats >/dev/null && sleep 4 && exec "$1" "$2""#;
            command.args(["sh", "-c", start]).arg(ray);
        }
        command.arg(python).arg(&case.program);
        command
            .env("RAY_TMPDIR", self.dir.path())
            .env("RAY_USAGE_STATS_ENABLED", "0")
            .env("RAY_AUTH_MODE", "disabled")
            .env("RAY_memory_usage_threshold", format!("0.{:02}", case.threshold))
            .env("RAY_memory_monitor_refresh_ms", "100")
            .env("RAY_worker_killing_policy_by_group", "true")
            .env("RAY_event_stats_print_interval_ms", "1000")
            .env("TMPDIR", self.dir.path());
        Ok(command)
    }

    /// The most that was ever charged, page cache included.
    pub(crate) fn peak(&self) -> Result<Bytes> {
        let name = match self.sandbox.version() {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        };
        let text = fs::read_to_string(self.sandbox.dir().join(name))?;
        Ok(Bytes(text.trim().parse()?))
    }

    /// How many workers the raylets of this node say that they killed for memory.
    pub(crate) fn raylet_kills(&self) -> Result<u64> {
        let mut sum = 0;
        for log in logs(self.dir.path())? {
            let text = fs::read(&log)?;
            let text = String::from_utf8_lossy(&text);
            sum += text.lines().filter_map(killed_in).sum::<u64>();
        }
        Ok(sum)
    }

    /// The agent's counters.
    pub(crate) fn counters(&self) -> Result<Option<Value>> {
        let Some(agent) = &self.agent else { return Ok(None) };
        let status: Value = agent.ask("status")?;
        Ok(Some(status["counters"].clone()))
    }
}

/// `N Workers (tasks / actors) killed due to memory pressure (OOM)` of the raylet's summary, whose counters begin anew.
fn killed_in(line: &str) -> Option<u64> {
    let before = line.split(" Workers (tasks / actors) killed due to memory pressure").next()?;
    if before.len() == line.len() {
        return None;
    }
    before.rsplit(' ').next()?.parse().ok()
}

fn logs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        if folders.len() > 10_000 {
            bail!("too many folders in {}", dir.display());
        }
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && path.file_name().is_some_and(|name| {
                    name.to_string_lossy().starts_with("raylet") && name.to_string_lossy().ends_with(".out")
                })
            {
                found.push(path);
            }
        }
    }
    Ok(found)
}
