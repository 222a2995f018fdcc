//! What of the configuration concerns decisions.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{Gears, UnhelpfulKills};
use crate::admission::Admission;
use crate::policy::{MinVictimMemory, Options, OwnerTieBreak, Policy, PolicyName, Roster};
use crate::units::Bytes;

/// The engine's settings. Durations in milliseconds on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// docs/behavior.md#when-it-acts: an authoritative reading at least this often; 0: observe, never kill.
    pub refresh_ms: u64,
    /// See docs/behavior.md#threshold.
    pub usage_threshold: f64,
    /// See docs/behavior.md#threshold.
    pub min_memory_free: Option<Bytes>,
    /// Which worker is killed.
    pub policy: PolicyName,
    /// Which of two groups of the same size goes first.
    pub owner_tie_break: OwnerTieBreak,
    /// docs/behavior.md#policies, `by_time`.
    pub kill_buffer: Option<Bytes>,
    /// docs/behavior.md#policies, `by_time`.
    pub idle_threshold: Bytes,
    /// The least that a victim should hold (docs/behavior.md, policies).
    #[serde(default)]
    pub min_victim_memory: MinVictimMemory,
    /// docs/behavior.md#kill-and-confirmation: after this long an unconfirmed victim is stuck.
    pub kill_timeout_ms: u64,
    /// docs/behavior.md#kill-and-confirmation: after its death, how long a victim's memory is waited for.
    pub memory_wait_ms: u64,
    /// Which starts wait for room, where it is not said for one.
    #[serde(default)]
    pub admission: Admission,
    /// What to do when a kill cannot help.
    #[serde(default = "UnhelpfulKills::of_old")]
    pub unhelpful_kills: UnhelpfulKills,
    /// docs/behavior.md#kill-and-confirmation: SIGTERM first, SIGKILL this long after it; 0: SIGKILL at once.
    #[serde(default)]
    pub grace_ms: u64,
    /// Decide and report; send no signal.
    pub dry_run: bool,
    /// The kernel pauses workers that allocate past a line, and they will be resumed whatever happens.
    #[serde(default)]
    pub brake: bool,
    /// Whether there is a hot hook, and when it is attached.
    #[serde(default)]
    pub gears: Gears,
    /// How many processors can charge memory at the same time.
    #[serde(default)]
    pub cpus: u32,
    /// How long a kill that is left to a raylet waits for a death before the engine kills itself.
    #[serde(default)]
    pub ray_timeout_ms: u64,
    /// The longest that the brake holds a worker.
    #[serde(default)]
    pub brake_max_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refresh_ms: 250,
            usage_threshold: 0.95,
            min_memory_free: None,
            policy: PolicyName::default(),
            owner_tie_break: OwnerTieBreak::default(),
            kill_buffer: None,
            idle_threshold: Bytes(1 << 30),
            min_victim_memory: MinVictimMemory::default(),
            kill_timeout_ms: 10_000,
            memory_wait_ms: 1_000,
            admission: Admission::default(),
            unhelpful_kills: UnhelpfulKills::default(),
            grace_ms: 0,
            dry_run: false,
            brake: false,
            ray_timeout_ms: 2_000,
            brake_max_ms: 10_000,
            gears: Gears::None,
            cpus: 1,
        }
    }
}

impl Settings {
    /// How often the engine asks for a tick. With killing disabled it still observes, once a second.
    #[must_use]
    pub fn refresh(&self) -> Duration {
        Duration::from_millis(if self.refresh_ms == 0 { 1_000 } else { self.refresh_ms })
    }

    /// docs/behavior.md#kill-and-confirmation: how long SIGTERM has before SIGKILL follows.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    /// Whether they are the same but for what a running agent changes: what follows from which kernel hooks there are.
    #[must_use]
    pub fn same_but_for_hooks(&self, other: &Self) -> bool {
        let Self { brake, gears, .. } = *other;
        *other == Self { brake, gears, ..self.clone() }
    }

    /// Whether it may kill at all (docs/behavior.md#when-it-acts).
    #[must_use]
    pub fn kills(&self) -> bool {
        self.refresh_ms != 0
    }

    /// Whether it kills: neither only observes nor is off.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.kills() && !self.dry_run
    }

    /// Whether the watchdog may kill in the engine's place: not where the engine would not kill, or only after a
    /// measurement.
    #[must_use]
    pub fn may_be_stood_in_for(&self) -> bool {
        self.enforces() && self.unhelpful_kills != UnhelpfulKills::Skip
    }

    /// Whether workers are paused at the line: only where something is done for those that wait.
    #[must_use]
    pub fn brakes(&self) -> bool {
        self.brake && self.enforces()
    }

    /// Where the line of a domain is.
    #[must_use]
    pub fn threshold(&self) -> crate::threshold::Threshold {
        crate::threshold::Threshold {
            usage_threshold: self.usage_threshold,
            min_memory_free: self.min_memory_free,
        }
    }

    /// The policy with its options.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let options = Options {
            owner_tie_break: self.owner_tie_break,
            kill_buffer: self.kill_buffer,
            idle_threshold: self.idle_threshold,
        };
        Policy::new(self.policy, options)
    }

    /// An empty roster of a domain.
    #[must_use]
    pub fn roster(&self) -> Roster {
        Roster::passing_over(self.policy(), self.min_victim_memory)
    }
}
