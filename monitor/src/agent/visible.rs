//! What each user sees: every answer and push passes through a [`Viewer`]. Root, and the user that the agent runs as,
//! see everything; others the details of their own workers, and of other users' only counts, totals and ranks. It must
//! not decide what a user may change: that is `calls`.
//!
//! A new kind of answer does not compile until this file says what other users may see of it: only this file makes
//! [`Shown`].

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::agent::workers::registry::Registry;
use crate::config;
use crate::control::answers::{Reloaded, Status, Why};
use crate::control::protocol::{Admitted, Refusal, RefusalCode, Registered};
use crate::engine::{Explanation, KillRecord, Note, Release, WorkerView};
use crate::learn::LearnedView;
use crate::memory::users::User;
use crate::ray::RayletView;
use crate::report::Report;
use crate::series::Series;
use crate::snapshot::{Ranked, in_flight_reason};
use crate::worker::{MemoryFacts, WorkerId};

/// Stands for the id of a worker that the viewer may not see.
const ANOTHER: &str = "(another user's)";

/// The user that is answered or told.
#[derive(Clone, Copy)]
pub(in crate::agent) struct Viewer<'a> {
    uid: u32,
    registry: &'a Registry,
}

/// An answer as its caller may see it. As text: a tree of values takes ten times as much memory.
#[derive(Debug)]
pub(in crate::agent) struct Shown(Box<RawValue>);

impl Shown {
    /// For the wire.
    pub(in crate::agent) fn into_text(self) -> Box<RawValue> {
        self.0
    }

    fn of(answer: &impl Serialize) -> Result<Self, Refusal> {
        let text = to_raw_value(answer);
        text.map(Self).map_err(|error| Refusal::new(RefusalCode::Failed, None, error.to_string()))
    }
}

/// A list that is made while it is written, so that it is never there as a whole.
struct Each<F>(F);

impl<T: Serialize, I: Iterator<Item = T>, F: Fn() -> I> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// What is answered or told, and what of it each user may see.
pub(in crate::agent) trait Visible: Serialize + Sized {
    /// What is left of it for a viewer that may not see everything; `None`: nothing.
    fn seen_by(self, viewer: &Viewer<'_>) -> Option<Self>;
}

impl<'a> Viewer<'a> {
    /// The user of a connection. `registry` knows the users of the workers.
    pub(in crate::agent) fn new(uid: u32, registry: &'a Registry) -> Self {
        Self { uid, registry }
    }

    /// Whether what is of this user is theirs to see.
    pub(in crate::agent) fn sees_user(&self, uid: Option<u32>) -> bool {
        self.sees_all() || uid == Some(self.uid)
    }

    /// Root, or the user that started this agent and could read its memory.
    pub(in crate::agent) fn sees_all(&self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }

    /// What of it this viewer may see.
    pub(in crate::agent) fn see<T: Visible>(&self, what: T) -> Option<T> {
        if self.sees_all() { Some(what) } else { what.seen_by(self) }
    }

    /// The answer to a call.
    pub(in crate::agent) fn show(&self, answer: impl Visible) -> Result<Shown, Refusal> {
        let Some(seen) = self.see(answer) else {
            let message = "it is about workers of other users only: root may see it".to_owned();
            return Err(Refusal::new(RefusalCode::Denied, None, message));
        };
        Shown::of(&seen)
    }

    /// The answer to a call that lists what there may be thousands of: what of each this viewer may see.
    pub(in crate::agent) fn show_each<T: Visible, I: Iterator<Item = T>>(
        &self,
        all: impl Fn() -> I,
    ) -> Result<Shown, Refusal> {
        Shown::of(&Each(|| all().filter_map(|one| self.see(one))))
    }

    /// A worker that is forgotten is only root's.
    fn owns(&self, worker: WorkerId) -> bool {
        self.registry.get(worker).is_some_and(|entry| entry.uid == self.uid)
    }

    fn owns_named(&self, id: &str) -> bool {
        id.parse().is_ok_and(|worker| self.owns(worker))
    }

    /// The id, or what stands for it.
    fn named(&self, id: &str) -> String {
        if self.owns_named(id) { id.to_owned() } else { ANOTHER.to_owned() }
    }

    /// A place in a ranking: rank, kind and chances are what its neighbors need to be understood.
    fn ranked(&self, ranked: Ranked) -> Ranked {
        if self.owns_named(&ranked.id) {
            return ranked;
        }
        let why = "another user's worker".to_owned();
        let facts = MemoryFacts::default();
        Ranked { id: ANOTHER.to_owned(), owner: None, memory: None, facts, why, ..ranked }
    }
}

impl Visible for () {
    fn seen_by(self, _: &Viewer<'_>) -> Option<Self> {
        Some(self)
    }
}

/// The caller's own.
impl Visible for Registered {
    fn seen_by(self, _: &Viewer<'_>) -> Option<Self> {
        Some(self)
    }
}

/// The caller's own.
impl Visible for Admitted {
    fn seen_by(self, _: &Viewer<'_>) -> Option<Self> {
        Some(self)
    }
}

/// A count of what was the caller's.
impl Visible for usize {
    fn seen_by(self, _: &Viewer<'_>) -> Option<Self> {
        Some(self)
    }
}

/// Names say what others run.
impl Visible for LearnedView {
    fn seen_by(self, viewer: &Viewer<'_>) -> Option<Self> {
        (self.uid == viewer.uid).then_some(self)
    }
}

/// What the agent's file, flags and environment say: no setting is a secret.
impl Visible for config::Shown {
    fn seen_by(self, _: &Viewer<'_>) -> Option<Self> {
        Some(self)
    }
}

/// It was made of what its caller may see.
impl Visible for Why {
    fn seen_by(self, _: &Viewer<'_>) -> Option<Self> {
        Some(self)
    }
}

/// Names of settings.
impl Visible for Reloaded {
    fn seen_by(self, _: &Viewer<'_>) -> Option<Self> {
        Some(self)
    }
}

/// The text of the metrics.
#[derive(Debug, Serialize)]
pub(in crate::agent) struct Metrics(pub(in crate::agent) String);

/// Sums: what is of single workers is not in it for everybody.
impl Visible for Metrics {
    fn seen_by(self, _: &Viewer<'_>) -> Option<Self> {
        Some(self)
    }
}

impl<T: Visible> Visible for Vec<T> {
    fn seen_by(self, viewer: &Viewer<'_>) -> Option<Self> {
        Some(self.into_iter().filter_map(|one| one.seen_by(viewer)).collect())
    }
}

/// Counts and totals of all; of the paused processes only the viewer's own.
impl Visible for Status {
    fn seen_by(mut self, viewer: &Viewer<'_>) -> Option<Self> {
        self.brake.held.retain(|held| viewer.owns(held.worker));
        Some(self)
    }
}

/// The raylets; `None`: they are not looked for.
#[derive(Serialize)]
#[serde(transparent)]
pub(in crate::agent) struct Raylets(pub(in crate::agent) Option<Vec<RayletView>>);

impl Visible for Raylets {
    fn seen_by(self, viewer: &Viewer<'_>) -> Option<Self> {
        Some(Self(self.0.map(|views| views.into_iter().filter(|view| view.uid == viewer.uid).collect())))
    }
}

impl Visible for WorkerView {
    fn seen_by(self, viewer: &Viewer<'_>) -> Option<Self> {
        (self.uid == viewer.uid).then_some(self)
    }
}

impl Visible for Explanation {
    fn seen_by(mut self, viewer: &Viewer<'_>) -> Option<Self> {
        let answer = &mut self.answer;
        answer.would_have.iter_mut().for_each(|victim| victim.id = viewer.named(&victim.id));
        answer.victims.iter_mut().for_each(|victim| victim.id = viewer.named(&victim.id));
        answer.ranking = answer.ranking.drain(..).map(|ranked| viewer.ranked(ranked)).collect();
        let in_flight: Vec<String> = answer.in_flight.iter().map(|id| viewer.named(id)).collect();
        // The only one of all reasons that names a worker.
        if answer.reason.as_ref() == Some(&in_flight_reason(&answer.in_flight)) {
            answer.reason = Some(in_flight_reason(&in_flight));
        }
        answer.in_flight = in_flight;
        answer.passed_over.iter_mut().for_each(|passed| passed.id = viewer.named(&passed.id));
        Some(self)
    }
}

/// Every user sees that there was a kill, and where; the victims only their own users.
impl Visible for KillRecord {
    fn seen_by(mut self, viewer: &Viewer<'_>) -> Option<Self> {
        let all = self.victims.len();
        if let Some(left_to) = &mut self.left_to {
            left_to.ours.take_if(|ours| !viewer.owns(ours.worker));
        }
        self.victims.retain(|victim| victim.uid == Some(viewer.uid));
        let hidden = all - self.victims.len();
        if hidden > 0 {
            self.others += hidden;
            // They name processes, without recording their users.
            self.stuck.clear();
            self.cgroup_kill = None;
            self.refused = self.refused.map(|_| "a process could not be signaled".to_owned());
        }
        Some(self)
    }
}

impl Visible for Report {
    fn seen_by(self, viewer: &Viewer<'_>) -> Option<Self> {
        let kill = self.kill.seen_by(viewer)?;
        if kill.victims.is_empty() {
            return None;
        }
        let mut users = self.users;
        if let Some(users) = &mut users {
            users.top.iter_mut().filter(|user| user.uid != Some(viewer.uid)).for_each(User::hide);
        }
        let runners_up = self.runners_up.into_iter().map(|next| viewer.ranked(next)).collect();
        Some(Self { kill, users, runners_up, ..self })
    }
}

/// Every user sees domains, as in `status`; workers only their own users.
impl Visible for Series {
    fn seen_by(mut self, viewer: &Viewer<'_>) -> Option<Self> {
        self.workers.retain(|worker| worker.uid == Some(viewer.uid));
        self.pauses.retain(|pause| viewer.owns(pause.worker));
        Some(self)
    }
}

impl Visible for Note {
    fn seen_by(self, viewer: &Viewer<'_>) -> Option<Self> {
        match self {
            Self::Registered { worker, .. }
            | Self::Ended { worker, .. }
            | Self::Stuck { worker, .. }
            | Self::DiedLate { worker, .. }
            | Self::Stray { worker, .. }
            | Self::Refused { worker, .. }
            | Self::Stopped { worker, .. }
            | Self::Continued(Release { worker, .. }) => viewer.owns(worker).then_some(self),
            Self::Waits { uid, .. } | Self::Begins { uid, .. } => (uid == viewer.uid).then_some(self),
            Self::Decided { at, kill, domain, victims, others, dry_run, cannot_help } => {
                let all = victims.len();
                let victims: Vec<_> =
                    victims.into_iter().filter(|chosen| viewer.owns(chosen.worker)).collect();
                let others = others + all - victims.len();
                Some(Self::Decided { at, kill, domain, victims, others, dry_run, cannot_help })
            }
            Self::Left { at, kill, domain, executor, ours, used, threshold, total } => {
                let ours = ours.filter(|ours| viewer.owns(ours.worker));
                Some(Self::Left { at, kill, domain, executor, ours, used, threshold, total })
            }
            Self::Killed(record) => record.seen_by(viewer).map(|record| Self::Killed(Box::new(record))),
            Self::Above { .. }
            | Self::Below { .. }
            | Self::NoCandidates { .. }
            | Self::Unhelpful { .. }
            | Self::Unknown { .. }
            | Self::Known { .. }
            | Self::Gear { .. }
            | Self::Lost { .. } => Some(self),
        }
    }
}
