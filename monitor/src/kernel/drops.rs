//! What the programs could not deliver, by CPU and kind: for the agent, which reads everything anew when a number
//! moves, and for `status`, which shows them.

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use monitor_common::Drops;
use serde::{Deserialize, Serialize};

/// `Drops` for aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Counts(Drops);

// SAFETY: six u64, no padding, every bit pattern is a value.
unsafe impl aya::Pod for Counts {}

/// The map that the programs count in.
pub struct DropMap(PerCpuArray<MapData, Counts>);

/// One CPU's losses since the programs were loaded, in records (`lineage`: processes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CpuDrops {
    /// Which CPU.
    pub cpu: usize,
    /// Deltas and crossings.
    pub usage: u64,
    /// Exits.
    pub exit: u64,
    /// Forks.
    pub fork: u64,
    /// Stops by the brake.
    pub stopped: u64,
    /// Children that found the map of worker processes full.
    pub lineage: u64,
    /// Processes that changed while rules are in force.
    #[serde(default)]
    pub changed: u64,
}

impl DropMap {
    /// The map `DROPS` of the object.
    ///
    /// # Errors
    /// If it has another form.
    pub fn new(map: Map) -> Result<Self, MapError> {
        PerCpuArray::try_from(map).map(Self)
    }

    /// The losses of each CPU.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn by_cpu(&self) -> Result<Vec<CpuDrops>, MapError> {
        let counts = self.0.get(&0, 0)?;
        let row = |(cpu, Counts(drops)): (usize, &Counts)| CpuDrops {
            cpu,
            usage: drops.usage,
            exit: drops.exit,
            fork: drops.fork,
            stopped: drops.stopped,
            lineage: drops.lineage,
            changed: drops.changed,
        };
        Ok(counts.iter().enumerate().map(row).collect())
    }

    /// The losses of all CPUs together.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn sum(&self) -> Result<Drops, MapError> {
        let mut sum = Drops::default();
        for Counts(cpu) in self.0.get(&0, 0)?.iter() {
            sum.usage += cpu.usage;
            sum.exit += cpu.exit;
            sum.fork += cpu.fork;
            sum.stopped += cpu.stopped;
            sum.lineage += cpu.lineage;
            sum.changed += cpu.changed;
        }
        Ok(sum)
    }
}
