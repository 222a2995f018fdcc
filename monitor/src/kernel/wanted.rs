//! Which processes that are no worker's the programs tell of when they change. Only stores; what rules could match is
//! decided elsewhere.

use aya::maps::{Array, Map, MapData, MapError};
use monitor_common::Wanted;

/// `Wanted` for aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(Wanted);

// SAFETY: two u32 and then u64, no padding, every bit pattern is a value.
unsafe impl aya::Pod for Value {}

/// `WANTED` of the object.
pub struct WantedMap(Array<MapData, Value>);

impl WantedMap {
    /// # Errors
    /// If the map has another form.
    pub fn new(map: Map) -> Result<Self, MapError> {
        map.try_into().map(Self)
    }

    /// From now on they tell of these.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set(&mut self, wanted: &Wanted) -> Result<(), MapError> {
        self.0.set(0, Value(*wanted), 0)
    }
}
