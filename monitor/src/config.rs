//! The configuration (docs/behavior.md#configuration): what may be set, where a value comes from, and what is in
//! effect. [`resolve`] is pure; [`load`] reads the environment and the file for it. Nothing here acts on a setting.
//!
//! Precedence: flag, environment (our variable before Ray's), file, default. *Every* value that is given is
//! checked, also one that a stronger source overrides: a mistake is not kept until the override is removed.

mod error;
mod file;
mod flags;
mod form;
mod load;
mod resolve;
mod rules_from;
mod setting;
mod source;
mod table;
pub mod values;
mod warning;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::error::{ConfigError, ConfigErrors, Refusal};
pub use self::file::ConfigFile;
pub use self::flags::ConfigFlags;
pub use self::load::{load, read_file};
pub use self::resolve::{Effective, Resolved, Shown, check, resolve};
pub use self::setting::{RayMeaning, RayName, Setting};
pub use self::source::Source;
pub use self::table::SETTINGS;
use self::values::{
    Admission, AgentMode, BrakeMode, GearChoice, LogForm, OwnerTieBreak, PolicyName, ProbeChoice,
    UnhelpfulKills,
};
pub use self::values::{DEFAULT_FILE, FILE_ENV};
pub use self::warning::{LOG_ENV, Warning};
use crate::policy::MinVictimMemory;
use crate::rules::Mode;
use crate::units::Bytes;
use crate::worker::Times;

/// Where root's agent listens.
pub const SYSTEM_SOCKET: &str = "/run/monitor/monitor.sock";

/// Where root's agent keeps its journal.
pub const SYSTEM_JOURNAL: &str = "/var/lib/monitor/journal.jsonl";

/// Every effective value. [`SETTINGS`] says what each means; here are its type and the meaning of `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `refresh_ms`; `None`: killing is disabled (docs/behavior.md#when-it-acts).
    pub refresh: Option<Duration>,
    /// A share from 0 to 1.
    pub usage_threshold: f64,
    /// `None`: only `usage_threshold` counts (docs/behavior.md#threshold).
    pub min_memory_free: Option<Bytes>,
    /// Retries after kills for memory (docs/behavior.md#retry).
    pub oom_retries: Times,
    /// `oom_retry_base_ms`, at most 60 s.
    pub oom_retry_base: Duration,
    /// `crash_retry_base_ms`, at most 60 s.
    pub crash_retry_base: Duration,
    /// `summary_interval_ms`; `None`: no summaries.
    pub summary_interval: Option<Duration>,
    /// Which worker is killed (docs/behavior.md#policies).
    pub policy: PolicyName,
    /// Swap counts as memory (docs/behavior.md#accounting).
    pub count_swap: bool,
    /// Option of `group_by_owner` (docs/behavior.md#differences-from-ray).
    pub owner_tie_break: OwnerTieBreak,
    /// Which starts wait for room.
    pub admission: Admission,
    /// What to do when a kill cannot help.
    pub unhelpful_kills: UnhelpfulKills,
    /// Option of `by_time`; `None`: the rule of docs/behavior.md#policies.
    pub kill_buffer: Option<Bytes>,
    /// Option of `by_time` (docs/behavior.md#interfaces).
    pub idle_threshold: Bytes,
    /// The least that a victim should hold.
    pub min_victim_memory: MinVictimMemory,
    /// `kill_timeout_ms` (docs/behavior.md#kill-and-confirmation).
    pub kill_timeout: Duration,
    /// `watchdog_ms`; `None`: off.
    pub watchdog: Option<Duration>,
    /// `memory_wait_ms` (docs/behavior.md#kill-and-confirmation).
    pub memory_wait: Duration,
    /// `grace_ms`; zero: no SIGTERM (docs/behavior.md#kill-and-confirmation).
    pub grace: Duration,
    /// Whether workers are paused at the line.
    pub brake: BrakeMode,
    /// `brake_max_ms`.
    pub brake_max: Duration,
    /// When the hot hooks are attached.
    pub gear: GearChoice,
    /// Where deltas come from.
    pub probe: ProbeChoice,
    /// The node is guarded as a domain.
    pub node: bool,
    /// Cgroups guarded as domains, each beginning with `/`, the root of the memory controller's hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// `ray_brake`.
    pub ray_brake: BrakeMode,
    /// `ray_timeout_ms`.
    pub ray_timeout: Duration,
    /// Names of presets of rules; `system` is in force without being named.
    pub presets: Vec<String>,
    /// What is set for all rules; `None`: each says for itself, else observe.
    pub rules_mode: Option<Mode>,
    /// Directory of rules; `None`: `rules.d` beside the configuration file.
    pub rules: Option<PathBuf>,
    /// What `dry_run` and `refresh` come to: they and it agree.
    pub mode: AgentMode,
    /// No signal is sent.
    pub dry_run: bool,
    /// The kernel programs log what they push.
    pub kernel_log: bool,
    /// What is run after each kill: a program and its arguments.
    pub on_kill: Option<Vec<String>>,
    /// What is run when a domain comes near its threshold.
    pub on_approach: Option<Vec<String>>,
    /// Near is this share of the threshold.
    pub approach: f64,
    /// How the log is written.
    pub log_format: LogForm,
    /// Control socket.
    pub socket: PathBuf,
    /// Name or number of the group that may connect; `None`: everyone.
    pub socket_group: Option<String>,
    /// Where HTTP is served; `None`: nowhere.
    pub http_listen: Option<SocketAddr>,
    /// What is private on the socket is shown over HTTP too.
    pub http_details: bool,
    /// Host names that HTTP requests may name, in small letters.
    pub http_hosts: Vec<String>,
    /// Decision journal; `None`: not kept.
    pub journal: Option<PathBuf>,
    /// `journal_max_bytes`.
    pub journal_max: Bytes,
    /// Mount point of procfs.
    pub procfs: PathBuf,
    /// Mount point of the cgroup hierarchy.
    pub cgroupfs: PathBuf,
}

impl Config {
    /// Whether raylets are looked for and asked to kill: with the preset `ray`.
    #[must_use]
    pub fn follows_raylets(&self) -> bool {
        self.presets.iter().any(|preset| preset == "ray")
    }

    /// Whether workers are paused at the threshold: if that is said, or because a raylet takes its time to kill.
    #[must_use]
    pub fn brake_in_force(&self) -> BrakeMode {
        match (self.brake, self.ray_brake) {
            (BrakeMode::Off, BrakeMode::On) if self.follows_raylets() => BrakeMode::On,
            (brake, _) => brake,
        }
    }

    /// The defaults for a user. `runtime_dir` is the value of `XDG_RUNTIME_DIR`; root does not use it.
    #[must_use]
    pub fn defaults(uid: u32, runtime_dir: Option<&OsStr>) -> Self {
        let root = uid == 0;
        Self {
            refresh: Some(Duration::from_millis(250)),
            usage_threshold: 0.95,
            min_memory_free: None,
            oom_retries: Times::Unlimited,
            oom_retry_base: Duration::from_secs(1),
            crash_retry_base: Duration::from_secs(1),
            summary_interval: Some(Duration::from_secs(60)),
            policy: PolicyName::GroupByOwner,
            count_swap: false,
            owner_tie_break: OwnerTieBreak::Newest,
            admission: Admission::Retries,
            unhelpful_kills: UnhelpfulKills::Auto,
            kill_buffer: None,
            idle_threshold: Bytes(1 << 30),
            min_victim_memory: MinVictimMemory::default(),
            kill_timeout: Duration::from_secs(10),
            watchdog: Some(Duration::from_secs(2)),
            memory_wait: Duration::from_secs(1),
            grace: Duration::ZERO,
            brake: BrakeMode::Off,
            brake_max: Duration::from_secs(10),
            gear: GearChoice::Auto,
            probe: ProbeChoice::Auto,
            node: true,
            cgroups: Vec::new(),
            ray_brake: BrakeMode::On,
            ray_timeout: Duration::from_secs(2),
            presets: Vec::new(),
            rules_mode: None,
            rules: None,
            mode: AgentMode::Enforce,
            dry_run: false,
            kernel_log: false,
            on_kill: None,
            on_approach: None,
            approach: 0.9,
            log_format: LogForm::Human,
            socket: if root { PathBuf::from(SYSTEM_SOCKET) } else { user_socket(uid, runtime_dir) },
            socket_group: None,
            http_listen: None,
            http_details: false,
            http_hosts: Vec::new(),
            journal: root.then(|| PathBuf::from(SYSTEM_JOURNAL)),
            journal_max: Bytes(64 << 20),
            procfs: PathBuf::from("/proc"),
            cgroupfs: PathBuf::from("/sys/fs/cgroup"),
        }
    }
}

fn user_socket(uid: u32, runtime_dir: Option<&OsStr>) -> PathBuf {
    // The XDG base directory specification has relative paths ignored.
    let runtime_dir = runtime_dir.map(PathBuf::from).filter(|path| path.is_absolute());
    let runtime_dir = runtime_dir.unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}")));
    runtime_dir.join("monitor/monitor.sock")
}

#[cfg(test)]
mod tests;
