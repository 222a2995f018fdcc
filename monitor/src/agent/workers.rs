//! Who is a worker: its processes, its numbers, its memory, and how all of these are kept current.

pub(in crate::agent) mod fork_limit;
pub(in crate::agent) mod measure;
pub(in crate::agent) mod members;
pub(in crate::agent) mod numbering;
pub(in crate::agent) mod recheck;
pub(in crate::agent) mod registry;
pub(in crate::agent) mod without_pidfd;
