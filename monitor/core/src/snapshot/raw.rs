//! A snapshot as it is written: the keys of docs/behavior.md#interfaces and their types, nothing compared or computed.

use core::fmt;
use core::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::policy::{MinVictimMemory, OwnerTieBreak, PolicyName};
use crate::prelude::*;
use crate::units::{Bytes, Nanos};
use crate::worker::{LastTask, MemoryFacts, Times};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSnapshot {
    #[serde(default)]
    pub(super) policy: PolicyName,
    #[serde(default)]
    pub(super) owner_tie_break: OwnerTieBreak,
    pub(super) kill_buffer: Option<Bytes>,
    pub(super) idle_threshold: Option<Bytes>,
    #[serde(default)]
    pub(super) min_victim_memory: MinVictimMemory,
    pub(super) domain: Object<RawDomain>,
    pub(super) workers: Vec<Object<RawWorker>>,
    #[serde(default)]
    pub(super) being_killed: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDomain {
    #[serde(deserialize_with = "required")]
    pub(super) total: Option<Bytes>,
    #[serde(deserialize_with = "required")]
    pub(super) used: Option<Bytes>,
    pub(super) usage_threshold: Option<f64>,
    pub(super) min_memory_free: Option<Bytes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorker {
    pub(super) id: String,
    #[serde(default)]
    pub(super) kind: RawKind,
    pub(super) owner: Option<String>,
    pub(super) max_retries: Option<Times>,
    pub(super) max_restarts: Option<Times>,
    pub(super) started: Nanos,
    pub(super) memory: Option<Bytes>,
    #[serde(default)]
    pub(super) idle: bool,
    #[serde(default)]
    pub(super) ever_leased: bool,
    #[serde(default)]
    pub(super) priority: i32,
    pub(super) memory_declared: Option<Bytes>,
    #[serde(default)]
    pub(super) last_task: LastTask,
    pub(super) memory_learned: Option<Bytes>,
    pub(super) memory_peak: Option<Bytes>,
    pub(super) growth: Option<i64>,
    pub(super) growth_minute: Option<i64>,
}

impl RawWorker {
    /// What it says of its memory, besides what it holds.
    pub(super) fn facts(&self) -> MemoryFacts {
        let Self { memory_declared, memory_learned, memory_peak, growth, growth_minute, .. } = *self;
        MemoryFacts { memory_declared, memory_learned, memory_peak, growth, growth_minute }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawKind {
    #[default]
    Task,
    Actor,
}

/// A value that may be null, for unknown, but must be there: left out, it was forgotten.
fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    Option::deserialize(deserializer)
}

/// A value that is written as an object. What serde derives would take an array of the bare values too, and
/// silently give them to the fields in their order.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
