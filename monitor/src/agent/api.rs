//! What others ask of the agent and are told by it: calls on the socket, who sees what, pushes, metrics.

pub(in crate::agent) mod calls;
pub(in crate::agent) mod exporter;
pub(in crate::agent) mod metrics;
pub(in crate::agent) mod visible;
pub(in crate::agent) mod watchers;
