//! A raylet that was found, and how far it is on its way to be attached.

use std::time::Duration;

use crate::ray::attached::Attached;
use crate::ray::raylets::Raylet;
use crate::ray::settings::Settings;
use crate::ray::status::RayletView;
use crate::units::Nanos;

/// See the module.
pub(super) struct Known {
    pub(super) raylet: Raylet,
    /// When.
    pub(super) found: Nanos,
    pub(super) state: State,
    pub(super) settings: Option<Settings>,
    /// Why it was last said not to be attached.
    said: String,
}

pub(super) enum State {
    /// The helper was asked.
    Asked { since: Nanos },
    /// The files are in place, and have not been read yet.
    Proving,
    /// It reads them.
    Attached,
    /// It does not, and why; when to try again, if ever.
    Not { why: String, again: Option<Nanos> },
}

impl Known {
    pub(super) fn new(raylet: Raylet, found: Nanos) -> Self {
        let state = State::Not { why: "it was just found".to_owned(), again: Some(Nanos(0)) };
        Self { raylet, found, state, settings: None, said: String::new() }
    }

    /// Whether this is it, and not another that got its pid.
    pub(super) fn is(&self, other: &Raylet) -> bool {
        (self.raylet.pid, self.raylet.start_time) == (other.pid, other.start_time)
    }

    /// Whether the helper has not answered for so long.
    pub(super) fn is_asked_since(&self, long: Duration, now: Nanos) -> bool {
        matches!(self.state, State::Asked { since } if since.after(long) <= now)
    }

    /// Whether it was not said before, one time after the other, that this is why it is not attached.
    pub(super) fn is_news(&mut self, why: &str) -> bool {
        let news = self.said != why;
        why.clone_into(&mut self.said);
        news
    }

    pub(super) fn is_due(&self, now: Nanos) -> bool {
        matches!(self.state, State::Not { again: Some(again), .. } if again <= now)
    }

    pub(super) fn retry(&mut self, now: Nanos, wait: Duration, why: &str) {
        if !matches!(self.state, State::Not { again: None, .. }) {
            self.state = State::Not { why: why.to_owned(), again: Some(now.after(wait)) };
        }
    }

    /// For good.
    pub(super) fn refuse(&mut self, why: &str) {
        self.state = State::Not { why: why.to_owned(), again: None };
    }

    pub(super) fn view(&self, attached: Option<&Attached>, now: Nanos) -> RayletView {
        let ago =
            |at: Option<Nanos>| at.map(|at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX));
        let Raylet { pid, uid, node, session, .. } = &self.raylet;
        let reader = attached.and_then(|one| one.readers.iter().find(|reader| reader.raylet.pid == *pid));
        RayletView {
            pid: *pid,
            uid: *uid,
            node: node.clone(),
            session: session.clone(),
            attached: matches!(self.state, State::Attached),
            why: match &self.state {
                State::Asked { .. } | State::Proving => Some("it is being attached".to_owned()),
                State::Attached => None,
                State::Not { why, .. } => Some(why.clone()),
            },
            reads: attached.map(|one| crate::ray::enter::name(one.kind()).to_owned()),
            refresh_ms: self.settings.map(|settings| settings.refresh_ms),
            threshold: self.settings.map(|settings| settings.line),
            total: self.settings.map(|settings| settings.total),
            by_group: self.settings.and_then(|settings| settings.by_group),
            asked_as: attached.map(|one| one.executor),
            last_receipt_ms: ago(reader.and_then(|reader| reader.last_read)),
            last_pulse_ms: ago(attached.and_then(|one| one.last_pulse)),
            pulses: attached.map_or(0, |one| one.pulses),
            receipts: attached.map_or(0, |one| one.receipts),
        }
    }
}
