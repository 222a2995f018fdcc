//! A node for a real Ray: a memory cgroup that Ray sees as the root, a folder for its sessions, and an agent beside it that
//! knows of Ray's workers by its rules alone. Kills only what it started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use monitor::memory::Version;
use monitor::units::Bytes;
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::Agent;
use crate::cgroup::Sandbox;
use crate::process::die_with_parent;

/// In a mount namespace of its own the sandbox is the root of the memory hierarchy, as in a container.
const BOXED: &str = r#"mount --make-rprivate / && mount --bind "$0" "$1" && shift && exec "$@""#;

/// As on a machine: no limit is seen, and Ray takes all memory of the machine for its own.
const ON_HOST: &str = r#"mount --make-rprivate / && shift && exec "$@""#;

/// How large the node is, and how it is guarded.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The node's memory in MiB.
    pub mib: u64,
    /// The threshold of raylet and agent, of 100.
    pub threshold: u64,
    /// How often raylets read.
    pub refresh_ms: u64,
    /// Whether Ray sees the limit.
    pub boxed: bool,
    /// Whether there is an agent.
    pub guarded: bool,
}

/// See the module.
pub struct RayNode {
    /// Its memory.
    pub sandbox: Sandbox,
    /// The agent, if it is guarded.
    pub agent: Option<Agent>,
    setting: Setting,
    dir: TempDir,
}

impl RayNode {
    /// An empty one.
    ///
    /// # Errors
    /// There is no sandbox, or no agent.
    pub fn new(setting: &Setting) -> Result<Self> {
        let sandbox = Sandbox::new(Bytes(setting.mib << 20))?;
        // Short: sockets lie in it.
        let dir = tempfile::Builder::new().prefix("ray-").tempdir()?;
        let share = format!("0.{:02}", setting.threshold);
        let flags = ["--preset", "ray", "--rules-mode", "enforce", "--usage-threshold", &share];
        let agent = setting.guarded.then(|| Agent::guard(&sandbox, flags)).transpose()?;
        Ok(Self { sandbox, agent, setting: setting.clone(), dir })
    }

    /// Starts a program with its Ray; `head`: `ray start --head` comes first, and the program joins it. What it prints is
    /// [`RayNode::printed`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, python: &Path, program: &Path, args: &[String], head: bool) -> Result<Child> {
        let mut command = self.entered()?;
        if head {
            let ray = python.with_file_name("ray");
            let start = r#""$0" start --head --num-cpus=3 --include-dashboard=false --object-store-memory=100000000 \
                --disable-usage-stats >/dev/null && sleep 4 && exec "$@""#;
            command.args(["sh", "-c", start]).arg(ray);
        }
        command.arg(python).arg(program).args(args);
        let file = fs::File::create(self.printed_file())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        die_with_parent(&mut command);
        command.spawn().with_context(|| format!("{command:?}"))
    }

    fn entered(&self) -> Result<Command> {
        let root = match self.sandbox.version() {
            Version::V1 => "/sys/fs/cgroup/memory",
            Version::V2 => "/sys/fs/cgroup",
        };
        let inside = if self.setting.boxed { BOXED } else { ON_HOST };
        let mut command = self.sandbox.command("unshare")?;
        command.args(["--mount", "sh", "-c", inside]).arg(self.sandbox.dir()).arg(root);
        command
            .env("RAY_TMPDIR", self.dir.path())
            .env("RAY_USAGE_STATS_ENABLED", "0")
            .env("RAY_AUTH_MODE", "disabled")
            .env("RAY_memory_usage_threshold", format!("0.{:02}", self.setting.threshold))
            .env("RAY_memory_monitor_refresh_ms", self.setting.refresh_ms.to_string())
            .env("RAY_worker_killing_policy_by_group", "true")
            .env("RAY_event_stats_print_interval_ms", "1000")
            // What the programs note how often they ran in.
            .env("RAY_TEST_COUNTS", self.counts()?)
            .env("TMPDIR", self.dir.path());
        Ok(command)
    }

    /// Where the programs note how often something ran.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn counts(&self) -> Result<PathBuf> {
        let counts = self.dir.path().join("counts");
        fs::create_dir_all(&counts)?;
        Ok(counts)
    }

    fn printed_file(&self) -> PathBuf {
        self.dir.path().join("printed")
    }

    /// What the program printed.
    ///
    /// # Errors
    /// None was started.
    pub fn printed(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.printed_file())?).into_owned())
    }

    /// The most that was ever charged, page cache included.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn peak(&self) -> Result<Bytes> {
        let name = match self.sandbox.version() {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        };
        let text = fs::read_to_string(self.sandbox.dir().join(name))?;
        Ok(Bytes(text.trim().parse()?))
    }

    /// How many workers the raylets of this node say that they killed for memory.
    ///
    /// # Errors
    /// Their logs cannot be read.
    pub fn raylet_kills(&self) -> Result<u64> {
        let mut sum = 0;
        for log in logs(self.dir.path())? {
            let text = fs::read(&log)?;
            let text = String::from_utf8_lossy(&text);
            sum += text.lines().filter_map(killed_in).sum::<u64>();
        }
        Ok(sum)
    }

    /// The agent's counters.
    ///
    /// # Errors
    /// It does not answer.
    pub fn counters(&self) -> Result<Option<Value>> {
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
