//! As what this program runs, by its first argument: what others tell its processes by.

/// The agent.
pub(crate) const AGENT: &str = "agent";

/// What lets paused workers go when the agent is gone: hidden.
pub(crate) const RELEASER: &str = "__releaser";
