//! What a worker is (docs/glossary.md#for-users): its identity and the facts its launcher gave. No policy, no I/O.

use core::fmt;
use core::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::prelude::*;
use crate::units::{Bytes, Nanos};

/// The agent's name for a worker: a number given at registration, never used again. Written `w17`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("w{}", self.0))
    }
}

/// What was given is not a worker id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a worker id: expected w and a number, as in w17")]
pub struct ParseWorkerIdError(String);

impl FromStr for WorkerId {
    type Err = ParseWorkerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('w')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| ParseWorkerIdError(text.chars().take(40).collect()))
    }
}

impl Serialize for WorkerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for WorkerId {
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        "WorkerId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"description": "The agent's name for a worker.", "type": "string", "pattern": "^w[0-9]+$"})
    }
}

/// How often something may be done again. On the wire and on the command line a number, -1 for [`Times::Unlimited`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Times {
    /// Without end (-1).
    Unlimited,
    /// This often; 0 is never.
    AtMost(u32),
}

impl Times {
    /// Whether it may be done at all: what docs/glossary.md#for-users calls retriable.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::AtMost(0)
    }
}

/// What was given is not a count of retries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is out of range: -1 (unlimited) or 0 to 4294967295")]
pub struct TimesError(String);

impl TryFrom<i64> for Times {
    type Error = TimesError;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match number {
            -1 => Ok(Self::Unlimited),
            n => u32::try_from(n).map(Self::AtMost).map_err(|_| TimesError(n.to_string())),
        }
    }
}

impl From<Times> for i64 {
    fn from(times: Times) -> Self {
        match times {
            Times::Unlimited => -1,
            Times::AtMost(n) => Self::from(n),
        }
    }
}

impl FromStr for Times {
    type Err = TimesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: i64 = text.parse().map_err(|_| TimesError(format!("{text:?}")))?;
        Self::try_from(number)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        i64::from(*self).fmt(f)
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64((*self).into())
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Times;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("-1 (unlimited) or a number from 0 to 4294967295")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Times, E> {
                Times::try_from(number).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Times, E> {
                u32::try_from(number)
                    .map(Times::AtMost)
                    .map_err(|_| E::custom(TimesError(number.to_string())))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Times {
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"description": "How often; -1 is unlimited.", "type": "integer", "minimum": -1, "maximum": u32::MAX})
    }
}

/// The two kinds of worker (docs/glossary.md#for-users), each with the budget that makes it retriable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Runs to its end and may be retried.
    Task {
        /// How often its launcher would start it again after a crash.
        max_retries: Times,
    },
    /// Long-lived and may be restarted.
    Actor {
        /// How often its launcher would start it again, kills for memory included.
        max_restarts: Times,
    },
}

impl Kind {
    /// docs/glossary.md#for-users: a task with `max_retries != 0`, or an actor with `max_restarts != 0`.
    #[must_use]
    pub fn retriable(self) -> bool {
        match self {
            Self::Task { max_retries: budget } | Self::Actor { max_restarts: budget } => budget.any(),
        }
    }

    /// `task` or `actor`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Task { .. } => "task",
            Self::Actor { .. } => "actor",
        }
    }
}

/// Whether a worker runs something now. Launchers that keep processes in a pool register idle ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    /// It runs its task or actor.
    Busy,
    /// It waits for work.
    Idle {
        /// Whether it ever ran anything (Ray: was leased).
        ever_leased: bool,
    },
}

/// The facts about a worker that a policy ranks by (docs/behavior.md#policies). All of them are recorded with each
/// decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Registration order too: smaller is earlier, which breaks ties.
    pub id: WorkerId,
    /// Task or actor, with its budget.
    pub kind: Kind,
    /// Its user. Owners' names are separate for each user: no worker joins another user's group by its name.
    pub uid: u32,
    /// The caller that created it; same user and same string, same group. `None`: it is a group of its own.
    pub owner: Option<alloc::sync::Arc<str>>,
    /// When it started to run its task, for an actor its creation.
    pub started: Nanos,
    /// Running or idle.
    pub activity: Activity,
    /// What it holds in bytes as last measured, descendants included; `None`: not measured.
    pub memory: Option<Bytes>,
    /// Lower is killed first. 0 unless set otherwise.
    pub priority: i32,
    /// What it said that it needs, or what workers of its name needed before; `None`: not known.
    pub declared: Option<Bytes>,
    /// What becomes of it as the last task of its owner.
    pub last_task: LastTask,
}

/// What is said to the owner of a victim that was its last running task (`group_by_owner`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LastTask {
    /// It is not retried.
    #[default]
    Fail,
    /// It is retried once there is more room than when it died; not if it was alone in its domain.
    Wait,
}

/// What is known of a worker's memory beside what it holds now: what it is expected to need, and how it developed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemoryFacts {
    /// What it said that one attempt needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_declared: Option<Bytes>,
    /// What workloads of its user and name needed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_learned: Option<Bytes>,
    /// The most that it held at once, as far as it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<Bytes>,
    /// How it grows, in bytes a second: between its last two measurements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<i64>,
    /// By how many bytes it grew within the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth_minute: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_ids_are_read_as_they_are_written() {
        assert_eq!("w17".parse(), Ok(WorkerId(17)));
        assert_eq!(WorkerId(17).to_string(), "w17");
        for bad in ["", "w", "17", "w-1", "w+1", "w1x", "w99999999999999999999"] {
            assert!(bad.parse::<WorkerId>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn minus_one_is_unlimited_and_only_zero_is_not_retriable() {
        assert_eq!(Times::try_from(-1), Ok(Times::Unlimited));
        assert!(Times::try_from(-2).is_err());
        assert!(Times::Unlimited.any() && Times::AtMost(1).any() && !Times::AtMost(0).any());
        assert_eq!(serde_json::from_str::<Times>("-1").unwrap(), Times::Unlimited);
        assert!(serde_json::from_str::<Times>("4294967296").is_err());
        assert!(serde_json::from_str::<Times>("\"3\"").is_err());
    }
}
