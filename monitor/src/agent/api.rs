//! What clients ask of the agent and are told by it: changes to workers, what each user sees, pushes, metrics.

pub(in crate::agent) mod changes;
pub(in crate::agent) mod latencies;
pub(in crate::agent) mod launchers;
pub(in crate::agent) mod metrics;
pub(in crate::agent) mod register;
pub(in crate::agent) mod status;
pub(in crate::agent) mod watchers;
pub(in crate::agent) mod why;

use std::sync::Arc;
use std::time::Duration;

use self::latencies::Latencies;
use self::watchers::Watchers;
use crate::agent::http::Serving;
use crate::config::{self, ConfigFlags};
use crate::control::listener::{ListenerHandle, ListenerView};
use crate::units::Nanos;

/// How often the agent checks whether the socket's file is there, at most.
const SOCKET_LOOKS: Duration = Duration::from_secs(2);

/// The component's state.
pub(in crate::agent) struct Api {
    pub(in crate::agent) watchers: Watchers,
    /// How long kills took.
    pub(in crate::agent) latencies: Latencies,
    /// What became of the address that HTTP is served at.
    pub(in crate::agent) http: Serving,
    /// Has the server look after the socket's file.
    listener: Arc<ListenerHandle>,
    /// When it was last told to.
    looked: Nanos,
    /// The settings that the agent works with, as `monitor config --running` shows them.
    in_force: Vec<config::Shown>,
    /// The flags that this agent was started with.
    flags: ConfigFlags,
}

impl Api {
    pub(in crate::agent) fn new(
        listener: Arc<ListenerHandle>,
        (in_force, flags): (Vec<config::Shown>, ConfigFlags),
        now: Nanos,
    ) -> Self {
        let (watchers, latencies, http) = (Watchers::default(), Latencies::default(), Serving::default());
        Self { watchers, latencies, http, listener, looked: now, in_force, flags }
    }

    /// Done on a tick that comes anyway.
    pub(in crate::agent) fn look_after_the_socket(&mut self, now: Nanos) {
        if now.since(self.looked) >= SOCKET_LOOKS {
            self.looked = now;
            self.listener.look();
        }
    }

    /// The flags that this agent was started with.
    pub(in crate::agent) fn flags(&self) -> ConfigFlags {
        self.flags.clone()
    }

    /// From now on the agent works with these.
    pub(in crate::agent) fn set_settings(&mut self, in_force: Vec<config::Shown>) {
        self.in_force = in_force;
    }

    pub(in crate::agent) fn settings(&self) -> Vec<config::Shown> {
        self.in_force.clone()
    }

    pub(in crate::agent) fn socket(&self) -> ListenerView {
        self.listener.view()
    }
}
