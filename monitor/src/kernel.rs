//! The agent's side of the kernel programs: load and attach them, share cells with them, decode what they push.
//! Nothing here decides anything; the engine is told facts.

pub mod btf;
pub mod cells;
pub mod drops;
#[cfg(feature = "bench")]
pub mod empty;
pub mod events;
pub mod hook;
pub mod links;
pub(crate) mod machine;
pub mod offsets;
pub mod probe;
pub mod programs;
pub mod record;
pub mod unfollowed;
pub mod wanted;
pub mod workers;
