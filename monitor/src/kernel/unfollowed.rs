//! Workers with forks that the programs do not follow: their users' processes would fill the map of all workers'
//! processes. Only stores; which workers they are is decided elsewhere.

use aya::maps::{HashMap, Map, MapData, MapError};

use crate::worker::WorkerId;

/// `UNFOLLOWED` of the object: workers with children that are not entered.
pub struct UnfollowedMap(HashMap<MapData, u64, u32>);

impl UnfollowedMap {
    /// # Errors
    /// If the map has another form.
    pub fn new(map: Map) -> Result<Self, MapError> {
        map.try_into().map(Self)
    }

    /// Its processes' children are not entered into the map, and no record tells of them.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses.
    pub fn stop_following(&mut self, worker: WorkerId) -> Result<(), MapError> {
        self.0.insert(worker.0, 1, 0)
    }

    /// They are again.
    pub fn follow_again(&mut self, worker: WorkerId) {
        // Fails only if it was followed.
        let _ = self.0.remove(&worker.0);
    }
}
