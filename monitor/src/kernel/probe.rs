//! The state of each hook as data: what `status`, `doctor` and the metrics show.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::hook::Hook;

/// Why a hook is denied where the kernel is locked down: for good, whatever this machine allows the agent.
pub const LOCKED_DOWN: &str = "lockdown = confidentiality lets no program read by bpf_probe_read";

/// What became of a hook on this kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", content = "why", rename_all = "snake_case")]
pub enum ProbeState {
    /// It runs.
    Attached,
    /// Loaded; not attached, because it is not needed now (the far gear).
    Detached,
    /// This kernel does not have what it needs.
    Missing(String),
    /// The kernel has it, but we may not.
    Denied(String),
    /// It should work and does not.
    Failed(String),
    /// Switched off by configuration or by the build.
    Off(String),
}

impl ProbeState {
    /// Whether the program is in the kernel, running or ready to.
    #[must_use]
    pub fn usable(&self) -> bool {
        match self {
            Self::Attached | Self::Detached => true,
            Self::Missing(_) | Self::Denied(_) | Self::Failed(_) | Self::Off(_) => false,
        }
    }
}

/// A hook and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Probe {
    /// The hook's name.
    pub name: Cow<'static, str>,
    /// `category:event`.
    pub tracepoint: String,
    /// What became of it.
    #[serde(flatten)]
    pub state: ProbeState,
    /// Whether usage comes from it; none: it is no usage hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<bool>,
    /// What works without it; none if it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Cow<'static, str>>,
}

impl Probe {
    /// Whether the kernel's lockdown denies it: nothing is to be mended.
    #[must_use]
    pub fn locked_down(&self) -> bool {
        matches!(&self.state, ProbeState::Denied(why) if why == LOCKED_DOWN)
    }

    /// The hook's row.
    #[must_use]
    pub fn new(hook: Hook, state: ProbeState) -> Self {
        let (category, event) = hook.tracepoint();
        let fallback = (!state.usable()).then(|| Cow::Borrowed(hook.fallback()));
        let counts = hook.counts_usage().then_some(false);
        Self {
            name: Cow::Borrowed(hook.program()),
            tracepoint: format!("{category}:{event}"),
            state,
            counts,
            fallback,
        }
    }
}
