//! Memory that no candidate holds. Killing workers does not bring it back: `unhelpful_kills` says what is done then.
//!
//! Measurements are older than the reading, and a worker may have grown since. With `skip`, an old one never spares a
//! worker: the engine asks for a fresh one, and compares it with the reading of that moment; if none comes in time, it
//! kills anyway. With `auto` no kill waits: what was measured in the last seconds must show what holds the excess, and
//! what was taken since then may be a worker's.

use alloc::collections::VecDeque;
use core::ops::ControlFlow;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::domain::{Domain, Others};
use super::kills::COMPLAIN_EVERY;
use super::{Action, DomainId, Engine, Note, UnhelpfulKills};
use crate::prelude::*;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// How long a kill waits for a fresh measurement.
const PATIENCE: Duration = Duration::from_secs(3);

/// What shows that killing workers cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unhelpful {
    /// What all candidates together hold, as last measured.
    pub candidates_hold: Bytes,
    /// What the domain would use without them, at least.
    pub others_hold: Bytes,
    /// What others took since the domain was last below its threshold, as far as is known: they go on growing.
    #[serde(default)]
    pub took: Bytes,
}

impl Unhelpful {
    /// Whether these candidates cannot bring the domain to its threshold. `None`: they can, or one of them was not
    /// measured, so that it is not known.
    #[must_use]
    pub fn of(usage: Usage, candidates: impl IntoIterator<Item = Option<Bytes>>) -> Option<Self> {
        let held =
            candidates.into_iter().try_fold(Bytes(0), |sum, memory| Some(sum.saturating_add(memory?)))?;
        Self::counted(usage, held, Bytes(0))
    }

    /// The same for what all candidates hold together, where others took `took` since there was room.
    fn counted(usage: Usage, held: Bytes, took: Bytes) -> Option<Self> {
        let helps = held >= usage.excess().saturating_add(took);
        (!helps).then(|| Self::new(usage, held, took))
    }

    /// Where all candidates hold so much together, and others took that.
    pub(super) fn new(usage: Usage, candidates_hold: Bytes, took: Bytes) -> Self {
        Self { candidates_hold, others_hold: usage.used.saturating_sub(candidates_hold), took }
    }
}

/// Older evidence does not count.
const FRESH: Duration = Duration::from_secs(3);

/// While workers are spared, the evidence is renewed this often.
const AGAIN: Duration = Duration::from_secs(1);

/// From this share of its threshold on a domain is weighed.
const NEAR_PERCENT: u128 = 80;

impl Engine {
    /// Whether to kill nothing in this domain now, because it cannot help or because it is not known yet
    /// whether it can (`Break`), and what is to be said of that.
    pub(super) fn spares(
        &mut self,
        id: DomainId,
        usage: Usage,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) -> ControlFlow<Option<Note>> {
        if self.domains.get(&id).is_none_or(|domain| domain.roster.is_empty()) {
            return ControlFlow::Continue(());
        }
        match self.settings.unhelpful_kills {
            UnhelpfulKills::Kill => ControlFlow::Continue(()),
            UnhelpfulKills::Skip => self.spares_on_a_measurement(id, usage, now, todo),
            UnhelpfulKills::Auto => {
                self.spares_on_evidence(id, usage, now, todo)?;
                self.spares_in_a_row(id, usage, now, todo)
            }
        }
    }

    /// `auto`: a kill never waits. What is known of the last seconds must show that killing cannot help, and that
    /// processes that are no workers hold what is too much. Growth since the last measurement may be a
    /// worker's.
    fn spares_on_evidence(
        &mut self,
        id: DomainId,
        usage: Usage,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) -> ControlFlow<Option<Note>> {
        let others = self.domains.get(&id).and_then(|domain| domain.others);
        let Some(others) = others.filter(|others| others.hold >= usage.excess()) else {
            return ControlFlow::Continue(());
        };
        let Some(unhelpful) = self.cannot_help(id, usage, now) else { return ControlFlow::Continue(()) };
        // Each answer leads to a reading, which must not ask again at once.
        if now.since(others.at) >= AGAIN {
            todo.push_back(Action::Measure);
        }
        self.spare(id, usage, unhelpful, now, todo)
    }

    /// What shows that no kill can help here, by what was measured in the last seconds. `None`: one can, or that is not
    /// known: growth since the last measurement may be a worker's. Allocates nothing.
    pub(super) fn cannot_help(&self, id: DomainId, usage: Usage, now: Nanos) -> Option<Unhelpful> {
        let domain = self.domains.get(&id)?;
        let held = domain.roster.held();
        let others = domain.others.filter(|others| now.since(others.at) < FRESH)?;
        let since = usage.used.saturating_sub(others.used);
        let took = domain.before.others.map_or(Bytes(0), |before| others.hold.saturating_sub(before));
        let helps = held.saturating_add(since) >= usage.excess().saturating_add(took);
        (!helps && self.all_measured(domain, others.at)).then(|| Unhelpful::new(usage, held, took))
    }

    /// Whether each candidate was measured in the seconds before then.
    pub(super) fn all_measured(&self, domain: &Domain, then: Nanos) -> bool {
        let measured = |id: WorkerId| self.workers.get(&id).and_then(|worker| worker.measured_at);
        let of_late = |id| measured(id).is_some_and(|at| then.since(at) < FRESH);
        domain.roster.iter().all(|candidate| of_late(candidate.id))
    }

    /// `skip`: no worker is spared on an old measurement: a fresh one is waited for, but not for ever.
    fn spares_on_a_measurement(
        &mut self,
        id: DomainId,
        usage: Usage,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) -> ControlFlow<Option<Note>> {
        let Some(domain) = self.domains.get_mut(&id) else { return ControlFlow::Continue(()) };
        // What was not measured counts as nothing here, and as stale below.
        let unhelpful = |usage: Usage, domain: &Domain| {
            Unhelpful::counted(usage, domain.roster.held(), domain.taken_by_others(usage.used))
        };
        if unhelpful(usage, &*domain).is_none() {
            return ControlFlow::Continue(());
        }
        let (asked, used) = *domain.asked.get_or_insert((now, usage.used));
        let stale = domain.roster.iter().any(|candidate| {
            let measured = self.workers.get(&candidate.id).and_then(|worker| worker.measured_at);
            measured.is_none_or(|at| at < asked)
        });
        if stale {
            let waits = now.since(asked) < PATIENCE;
            if waits {
                todo.push_back(Action::Measure);
            }
            return if waits { ControlFlow::Break(None) } else { ControlFlow::Continue(()) };
        }
        // What workers took after the question shows in their measurements, and must not count as held by others.
        let usage = Usage { used: used.min(usage.used), ..usage };
        let Some(unhelpful) = unhelpful(usage, &*domain) else { return ControlFlow::Continue(()) };
        self.spare(id, usage, unhelpful, now, todo)
    }

    /// Nothing is killed: says so, now and then.
    pub(super) fn spare(
        &mut self,
        id: DomainId,
        usage: Usage,
        unhelpful: Unhelpful,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) -> ControlFlow<Option<Note>> {
        self.counters.spared += 1;
        // Holding workers would bring nothing back either.
        self.let_go(id, todo);
        let Some(domain) = self.domains.get_mut(&id) else { return ControlFlow::Break(None) };
        if domain.complained.is_some_and(|last| now.since(last) < COMPLAIN_EVERY) {
            return ControlFlow::Break(None);
        }
        domain.complained = Some(now);
        let Unhelpful { candidates_hold, others_hold, took } = unhelpful;
        ControlFlow::Break(Some(Note::Unhelpful {
            at: now,
            domain: domain.name.clone(),
            used: usage.used,
            threshold: usage.threshold,
            candidates_hold,
            others_hold,
            others_took: took,
            processes_hold: domain.others.map(|others| others.hold),
        }))
    }

    /// The domains in which it matters what processes that are not workers hold.
    #[must_use]
    pub fn weighs(&self) -> Vec<DomainId> {
        // With `skip` a kill that waits to be measured would be read again at each answer.
        if self.settings.unhelpful_kills == UnhelpfulKills::Skip {
            return Vec::new();
        }
        self.near()
    }

    /// The domains near their threshold in which there are candidates.
    #[must_use]
    pub fn near(&self) -> Vec<DomainId> {
        let near =
            |usage: Usage| u128::from(usage.used.0) * 100 >= u128::from(usage.threshold.0) * NEAR_PERCENT;
        let is = |domain: &Domain| !domain.roster.is_empty() && domain.usage().is_some_and(near);
        self.domains.iter().filter(|(_, domain)| is(domain)).map(|(id, _)| *id).collect()
    }

    /// The workers of a domain that can be killed.
    pub fn candidates(&self, id: DomainId) -> impl Iterator<Item = WorkerId> + '_ {
        self.domains
            .get(&id)
            .into_iter()
            .flat_map(|domain| domain.roster.iter().map(|candidate| candidate.id))
    }

    /// What processes that are not workers hold was measured.
    pub(super) fn weighed(
        &mut self,
        id: DomainId,
        memory: Option<Bytes>,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let used = domain.usage().map(|usage| usage.used);
        domain.others = memory.zip(used).map(|(hold, used)| Others { hold, used, at: now });
        if domain.above() {
            todo.push_back(Action::Read(id));
        } else {
            domain.note_room();
            domain.mark(now);
            todo.extend(self.foresee(id, now).map(Action::Note));
        }
    }
}

impl Domain {
    /// What others than candidates took since there was room, by what was read and measured.
    fn taken_by_others(&self, used: Bytes) -> Bytes {
        let Some(before) = self.before.used else { return Bytes(0) };
        let candidates = self.roster.held().saturating_sub(self.before.candidates);
        used.saturating_sub(before).saturating_sub(candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Event, Measured, Settings};
    use crate::units::Pid;
    use crate::worker::{Kind, Times};

    const SECOND: u64 = 1_000_000_000;
    const NOTHING: [&str; 0] = [];

    /// A core with one worker in one domain, and the names of what it orders.
    struct Stage(Engine);

    impl Stage {
        fn new(unhelpful_kills: UnhelpfulKills) -> Self {
            let mut stage = Self(Engine::new(Settings { unhelpful_kills, ..Settings::default() }));
            let domain = DomainId(1);
            stage.tell(Event::DomainAdded { domain, name: "cgroup:/box".to_owned(), parent: None }, 0);
            stage.tell(
                Event::Registered {
                    worker: WorkerId(1),
                    pid: Pid(2),
                    uid: 0,
                    kind: Kind::Task { max_retries: Times::Unlimited },
                    owner: None,
                    name: None,
                    attempt: 0,
                    domains: vec![domain],
                    priority: 0,
                    memory_declared: None,
                },
                0,
            );
            stage
        }

        fn tell(&mut self, event: Event, at: u64) -> Vec<&'static str> {
            let mut todo = VecDeque::new();
            self.0.handle(event, Nanos(at), &mut todo);
            let name = |action| match action {
                Action::Kill { .. } => Some("kill"),
                Action::Measure => Some("measure"),
                Action::Note(Note::Unhelpful { .. }) => Some("unhelpful"),
                _ => None,
            };
            todo.into_iter().filter_map(name).collect()
        }

        fn uses(&mut self, used: u64, at: u64) -> Vec<&'static str> {
            let measured = Measured::Known { total: Bytes(1000), used: Bytes(used) };
            self.tell(Event::Reading { domain: DomainId(1), measured, counter: 0 }, at)
        }

        fn holds(&mut self, bytes: u64, at: u64) {
            let (worker, memory) = (WorkerId(1), Some(Bytes(bytes)));
            assert!(self.tell(Event::Memory { worker, memory, measured: None }, at).is_empty());
        }
    }

    #[test]
    fn skip_kills_nobody_for_the_memory_of_others_and_says_so_every_5_s() {
        let mut stage = Stage::new(UnhelpfulKills::Skip);
        stage.holds(10, 1);
        assert_eq!(stage.uses(990, 2), ["measure"], "a measurement from before may be too old");
        stage.holds(10, 3);
        assert_eq!(stage.uses(990, 4), ["unhelpful"]);
        assert!(stage.uses(991, 5).is_empty());
        assert_eq!(stage.uses(992, 6 * SECOND), ["unhelpful"]);
        stage.holds(100, 7 * SECOND);
        assert_eq!(stage.uses(993, 8 * SECOND), ["kill"], "now it would help");
    }

    #[test]
    fn skip_kills_when_nobody_knows() {
        let mut stage = Stage::new(UnhelpfulKills::Skip);
        assert_eq!(stage.uses(990, 2), ["measure"], "it was not measured");
        assert_eq!(stage.uses(990, 2 + 3 * SECOND), ["kill"], "and is not");
        let mut stage = Stage::new(UnhelpfulKills::Skip);
        stage.holds(10, 1);
        assert_eq!(stage.uses(990, 2), ["measure"]);
        assert_eq!(stage.uses(990, 2 + 3 * SECOND), ["kill"], "no fresh measurement came");
    }

    #[test]
    fn what_a_worker_took_after_the_crossing_is_not_counted_as_held_by_others() {
        let mut stage = Stage::new(UnhelpfulKills::Skip);
        stage.holds(10, 1);
        assert_eq!(stage.uses(965, 2), ["measure"]);
        stage.holds(15, 3);
        assert_eq!(stage.uses(999, 4), ["kill"], "965 - 15 is not above 950");
    }

    /// What processes hold that are no workers.
    fn others(memory: u64) -> Event {
        Event::Others { domain: DomainId(1), memory: Some(Bytes(memory)) }
    }

    #[test]
    fn auto_kills_at_once_where_nobody_knows_who_holds_the_memory() {
        let mut stage = Stage::new(UnhelpfulKills::Auto);
        stage.holds(10, 1);
        assert_eq!(stage.uses(990, 2), ["kill"], "nothing is known of others");
        let mut stage = Stage::new(UnhelpfulKills::Auto);
        stage.uses(940, 1);
        assert_eq!(stage.0.weighs(), [DomainId(1)], "near its threshold others are measured too");
        stage.holds(3, 2);
        stage.tell(others(900), 3);
        assert_eq!(stage.uses(955, 4), ["kill"], "what took 15 since is not known: it may be a worker");
        let mut stage = Stage::new(UnhelpfulKills::Auto);
        stage.tell(Event::Settle { until: Nanos(4) }, 1);
        stage.uses(990, 1);
        stage.holds(10, 2);
        stage.tell(others(30), 3);
        assert_eq!(stage.uses(990, 4), ["kill"], "files, or a shared object store");
    }

    #[test]
    fn auto_spares_workers_where_others_hold_what_is_too_much_and_asks_who_grows() {
        let mut stage = Stage::new(UnhelpfulKills::Auto);
        stage.holds(20, 1);
        stage.uses(949, 2);
        stage.tell(others(900), 3);
        stage.tell(Event::Settle { until: Nanos(6) }, 3);
        assert_eq!(stage.uses(960, 4), NOTHING, "nobody is killed yet");
        stage.holds(20, 5);
        stage.tell(others(925), 5);
        // All candidates hold more than is too much, but others took more than that, and would go on.
        assert_eq!(stage.uses(960, 8), ["unhelpful"]);
        assert_eq!(stage.uses(960, 9), NOTHING, "said once in 5 s");
        assert_eq!(stage.uses(960, 9 + SECOND), ["measure"], "the evidence is renewed");
        assert_eq!(stage.0.counters().spared, 3);
        stage.holds(60, 10 + SECOND);
        assert_eq!(stage.uses(960, 11 + SECOND), ["kill"], "now it would help");
    }

    #[test]
    fn skip_counts_what_others_took_since_there_was_room() {
        let mut stage = Stage::new(UnhelpfulKills::Skip);
        stage.holds(20, 1);
        stage.uses(900, 2);
        assert_eq!(stage.uses(955, 3), ["measure"], "5 are too much, but 55 were taken");
        stage.holds(20, 4);
        assert_eq!(stage.uses(955, 5), ["unhelpful"]);
        let mut stage = Stage::new(UnhelpfulKills::Skip);
        stage.holds(20, 1);
        stage.uses(900, 2);
        assert_eq!(stage.uses(955, 3), ["measure"]);
        stage.holds(75, 4);
        assert_eq!(stage.uses(955, 5), ["kill"], "by the worker");
    }

    #[test]
    fn kill_kills_all_the_same() {
        let mut stage = Stage::new(UnhelpfulKills::Kill);
        stage.holds(10, 1);
        assert_eq!(stage.uses(990, 2), ["kill"]);
    }
}
