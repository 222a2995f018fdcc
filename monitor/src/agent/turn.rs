//! What a component is given for one step: what time it is, what the engine knows, and where what happens goes.

use std::collections::VecDeque;

use crate::agent::event_loop::clock;
use crate::control::answers::Faults;
use crate::engine::{Engine, Event};
use crate::units::Nanos;

/// See the module. What a step tells, the engine hears when the step is over, in the same order.
pub(super) struct Turn<'a> {
    /// When the step began.
    pub(super) now: Nanos,
    /// As it was then.
    pub(super) engine: &'a Engine,
    /// What goes wrong.
    pub(super) faults: &'a mut Faults,
    events: &'a mut VecDeque<Event>,
}

impl<'a> Turn<'a> {
    /// A step that begins now.
    pub(super) fn begin(engine: &'a Engine, faults: &'a mut Faults, events: &'a mut VecDeque<Event>) -> Self {
        Self { now: clock::now(), engine, faults, events }
    }

    /// For the engine.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
