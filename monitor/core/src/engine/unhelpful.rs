//! SPEC 10.5: memory that no candidate holds. Killing workers does not bring it back; with `unhelpful_kills = "skip"`
//! nobody is killed for it.
//!
//! Measurements are older than the reading, and a worker may have grown since. So nobody is spared on an old one: a
//! fresh one is asked for and held against the reading of that moment. If none comes in time, the kill goes on.

use alloc::collections::VecDeque;
use core::ops::ControlFlow;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::kills::COMPLAIN_EVERY;
use super::{Action, DomainId, Engine, Note, UnhelpfulKills};
use crate::policy::Roster;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};

/// How long a kill waits for a fresh measurement.
const PATIENCE: Duration = Duration::from_secs(3);

/// What shows that killing workers cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unhelpful {
    /// What all candidates together hold, as last measured.
    pub candidates_hold: Bytes,
    /// What the domain would use without them, at least.
    pub others_hold: Bytes,
}

impl Unhelpful {
    /// Whether these candidates cannot bring the domain to its threshold. `None`: they can, or one of them was not
    /// measured, so that nobody knows.
    #[must_use]
    pub fn of(usage: Usage, candidates: impl IntoIterator<Item = Option<Bytes>>) -> Option<Self> {
        let held =
            candidates.into_iter().try_fold(Bytes(0), |sum, memory| Some(sum.saturating_add(memory?)))?;
        let others_hold = usage.used.saturating_sub(held);
        (others_hold > usage.threshold).then_some(Self { candidates_hold: held, others_hold })
    }
}

impl Engine {
    /// Whether nobody is to be killed in this domain now, because it cannot help or because it is not known yet
    /// whether it can (`Break`), and what is to be said of that.
    pub(super) fn spares(
        &mut self,
        id: DomainId,
        usage: Usage,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) -> ControlFlow<Option<Note>> {
        if self.settings.unhelpful_kills == UnhelpfulKills::Kill {
            return ControlFlow::Continue(());
        }
        let Some(domain) = self.domains.get_mut(&id) else { return ControlFlow::Continue(()) };
        if domain.roster.is_empty() {
            return ControlFlow::Continue(());
        }
        // What was not measured counts as nothing here, and as stale below.
        let unhelpful = |usage: Usage, roster: &Roster| {
            Unhelpful::of(usage, roster.iter().map(|candidate| Some(candidate.memory.unwrap_or_default())))
        };
        if unhelpful(usage, &domain.roster).is_none() {
            return ControlFlow::Continue(());
        }
        let (asked, used) = *domain.asked.get_or_insert((now, usage.used));
        let stale = domain.roster.iter().any(|candidate| {
            let sample = self.workers.get(&candidate.id).and_then(|worker| worker.sample);
            sample.is_none_or(|sample| sample.at < asked)
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
        let Some(Unhelpful { candidates_hold, others_hold }) = unhelpful(usage, &domain.roster) else {
            return ControlFlow::Continue(());
        };
        // Holding workers would bring nothing back either.
        self.let_go(id, todo);
        let Some(domain) = self.domains.get_mut(&id) else { return ControlFlow::Break(None) };
        if domain.complained.is_some_and(|last| now.since(last) < COMPLAIN_EVERY) {
            return ControlFlow::Break(None);
        }
        domain.complained = Some(now);
        ControlFlow::Break(Some(Note::Unhelpful {
            at: now,
            domain: domain.name.clone(),
            used: usage.used,
            threshold: usage.threshold,
            candidates_hold,
            others_hold,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Event, Measured, Settings};
    use crate::units::Pid;
    use crate::worker::{Kind, Times, WorkerId};

    const SECOND: u64 = 1_000_000_000;

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

    #[test]
    fn kill_kills_all_the_same() {
        let mut stage = Stage::new(UnhelpfulKills::Kill);
        stage.holds(10, 1);
        assert_eq!(stage.uses(990, 2), ["kill"]);
    }
}
