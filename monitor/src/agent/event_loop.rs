//! What the loop waits for and with: its timer, descriptors, threads and clock.

pub(in crate::agent) mod alarm;
pub(in crate::agent) mod clock;
pub(in crate::agent) mod descriptors;
pub(in crate::agent) mod later;
pub(in crate::agent) mod patient;
pub(in crate::agent) mod readiness;
pub(in crate::agent) mod runtime;
