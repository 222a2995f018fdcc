//! What becomes of a workload after its process ended (docs/behavior.md#retry): a retry and when, or none and why.
//! Pure: it never waits, starts or kills anything; its caller does, and asks again at the next end.

use core::fmt;
use core::time::Duration;

use crate::worker::{Kind, Times};

/// The longest wait before a retry.
pub const MAX_DELAY: Duration = Duration::from_secs(60);

/// An attempt that ran this long was no command that fails at once: the waits after crashes begin anew.
pub const LONG_RUN: Duration = Duration::from_secs(60);

/// The signals that end a process on purpose, and SIGPIPE, which ends it when its reader has gone away:
/// HUP, INT, PIPE, TERM. A death by one of them is no crash. systemd's `Restart=on-failure` knows the same four.
const NO_CRASH: [u8; 4] = [1, 2, 13, 15];

/// The wait before another attempt: min(`base` × 2^`attempt`, 60 s), with `attempt` counted from 0. A `base` of 0 is
/// no wait at all.
#[must_use]
pub fn delay(attempt: u32, base: Duration) -> Duration {
    // A nanosecond doubled 36 times is over a minute: beyond that, any base but 0 is at the cap.
    let base = base.min(MAX_DELAY).as_nanos();
    let nanos = (base << attempt.min(36)).min(MAX_DELAY.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How a process ended, as `wait` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this exit code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl Exit {
    /// As a shell puts it: the exit code, or 128 and the signal's number.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => number.saturating_add(128),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// Whose kill it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KilledBy {
    /// The agent, by its policy.
    #[default]
    Monitor,
    /// The kernel's own out-of-memory killer.
    Kernel,
}

impl fmt::Display for KilledBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Monitor => "monitor",
            Self::Kernel => "the kernel",
        })
    }
}

/// Why a worker is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// By itself or by whatever signal, but not for memory. Exit code 0 is success, and a death by HUP, INT, PIPE or
    /// TERM is meant; any other end is a crash.
    Ended {
        /// How.
        exit: Exit,
        /// How long it ran.
        ran: Duration,
    },
    /// It was killed for memory.
    KilledForMemory {
        /// What the verdict says.
        should_retry: bool,
    },
    /// The worker that owned it is gone, and it was ended with its owner.
    OwnerDied,
    /// Its launcher was told to stop: it is not started again, however it ended.
    Stopped(Exit),
}

/// What its launcher does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run the task again.
    Retry {
        /// After this long.
        after: Duration,
    },
    /// Create the actor again.
    Restart {
        /// After this long: after a kill for memory at once.
        after: Duration,
    },
    /// It is over, and the command's own end is the result.
    Done(Exit),
    /// It is over, and the workload failed.
    Fail(Failure),
}

/// Why a workload failed: the text for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Killed for memory, and started with `max_retries` or `max_restarts` 0.
    #[error("out of memory: not retried, because it was started as not retriable ({})", if *.actor { "max_restarts 0" } else { "max_retries 0" })]
    NotRetriable {
        /// Which of the two.
        actor: bool,
    },
    /// Killed for memory, and the verdict says not to try again: it was its owner's last task.
    #[error("out of memory: not retried, because the verdict says so")]
    VerdictSaysNo,
    /// A task killed for memory more often than `oom_retries` allows.
    #[error("out of memory: not retried, because its oom_retries ({allowed}) are used up")]
    OomRetriesUsedUp {
        /// `oom_retries`.
        allowed: Times,
    },
    /// An actor killed for memory with its `max_restarts` used up.
    #[error("out of memory: not restarted, because its max_restarts ({allowed}) are used up")]
    RestartsUsedUp {
        /// `max_restarts`.
        allowed: Times,
    },
    /// It crashed, and has no retries for crashes left.
    #[error("crashed with {exit}: no {} is {allowed})", if *.actor { "restarts are left (max_restarts" } else { "retries are left (max_retries" })]
    Crashed {
        /// How.
        exit: Exit,
        /// `max_retries` or `max_restarts`.
        allowed: Times,
        /// Which of the two.
        actor: bool,
    },
    /// The worker that owned it is gone.
    #[error("owner died: it is ended with its owner, and not retried")]
    OwnerDied,
}

impl Failure {
    /// Whether it failed for memory, so that its owner gets the out-of-memory report.
    #[must_use]
    pub fn out_of_memory(self) -> bool {
        match self {
            Self::NotRetriable { .. }
            | Self::VerdictSaysNo
            | Self::OomRetriesUsedUp { .. }
            | Self::RestartsUsedUp { .. } => true,
            Self::Crashed { .. } | Self::OwnerDied => false,
        }
    }
}

/// How often something may be done, and how often it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Budget {
    allowed: Times,
    spent: u32,
}

impl Budget {
    fn new(allowed: Times) -> Self {
        Self { allowed, spent: 0 }
    }

    /// Takes one and says how many were taken before it; `None`: used up.
    fn take(&mut self) -> Option<u32> {
        let before = self.spent;
        let left = match self.allowed {
            Times::Unlimited => true,
            Times::AtMost(allowed) => before < allowed,
        };
        left.then(|| {
            self.spent = before.saturating_add(1);
            before
        })
    }
}

/// One workload through all its processes.
///
/// Two budgets that never touch each other: `oom_retries` for kills for memory, `max_retries` for crashes. An
/// actor has one, `max_restarts`, for both. Two back-offs likewise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    kind: Kind,
    /// Of `max_retries` or `max_restarts`.
    own: Budget,
    /// Of `oom_retries`: tasks only.
    oom: Budget,
    waits: Waits,
    /// Crashes since the last attempt that ran for [`LONG_RUN`].
    crashes: u32,
}

/// The first waits of the two back-offs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// After a kill for memory: `oom_retry_base_ms`.
    pub oom: Duration,
    /// After a crash: `crash_retry_base_ms`.
    pub crash: Duration,
}

impl Retry {
    /// A workload before its first process.
    #[must_use]
    pub fn new(kind: Kind, oom_retries: Times, waits: Waits) -> Self {
        let own = match kind {
            Kind::Task { max_retries: allowed } | Kind::Actor { max_restarts: allowed } => {
                Budget::new(allowed)
            }
        };
        Self { kind, own, oom: Budget::new(oom_retries), waits, crashes: 0 }
    }

    /// How often a crash leads to another attempt.
    #[must_use]
    pub fn allowed(&self) -> Times {
        self.own.allowed
    }

    /// What to do now that its process is gone; what that uses up is booked.
    pub fn on_exit(&mut self, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Stopped(exit) | Outcome::Ended { exit: exit @ Exit::Code(0), .. } => Next::Done(exit),
            Outcome::Ended { exit: exit @ Exit::Signal(number), .. } if NO_CRASH.contains(&number) => {
                Next::Done(exit)
            }
            Outcome::Ended { exit, ran } => self.on_crash(exit, ran),
            Outcome::OwnerDied => Next::Fail(Failure::OwnerDied),
            Outcome::KilledForMemory { .. } if !self.kind.retriable() => {
                Next::Fail(Failure::NotRetriable { actor: matches!(self.kind, Kind::Actor { .. }) })
            }
            Outcome::KilledForMemory { should_retry } => match self.kind {
                Kind::Task { .. } => self.on_task_killed(should_retry),
                // The verdict guards tasks against endless retries; an actor's are bounded by max_restarts
                // (docs/behavior.md#policies).
                Kind::Actor { .. } => match self.own.take() {
                    Some(_) => Next::Restart { after: Duration::ZERO },
                    None => Next::Fail(Failure::RestartsUsedUp { allowed: self.own.allowed }),
                },
            },
        }
    }

    fn on_task_killed(&mut self, should_retry: bool) -> Next {
        if !should_retry {
            return Next::Fail(Failure::VerdictSaysNo);
        }
        match self.oom.take() {
            Some(attempt) => Next::Retry { after: delay(attempt, self.waits.oom) },
            None => Next::Fail(Failure::OomRetriesUsedUp { allowed: self.oom.allowed }),
        }
    }

    fn on_crash(&mut self, exit: Exit, ran: Duration) -> Next {
        if ran >= LONG_RUN {
            self.crashes = 0;
        }
        let after = delay(self.crashes, self.waits.crash);
        self.crashes = self.crashes.saturating_add(1);
        let left = self.own.take().is_some();
        let allowed = self.own.allowed;
        match self.kind {
            Kind::Task { .. } if left => Next::Retry { after },
            Kind::Actor { .. } if left => Next::Restart { after },
            Kind::Task { .. } => Next::Fail(Failure::Crashed { exit, allowed, actor: false }),
            Kind::Actor { .. } => Next::Fail(Failure::Crashed { exit, allowed, actor: true }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KILLED: Outcome = Outcome::KilledForMemory { should_retry: true };
    const KILLED_AS_LAST: Outcome = Outcome::KilledForMemory { should_retry: false };
    const SECOND: Duration = Duration::from_secs(1);
    const CRASHED: Outcome = ended(Exit::Signal(11), SECOND);
    const CRASH_BASE: Duration = Duration::from_secs(2);
    const WAITS: Waits = Waits { oom: SECOND, crash: CRASH_BASE };

    const fn ended(exit: Exit, ran: Duration) -> Outcome {
        Outcome::Ended { exit, ran }
    }

    fn task(max_retries: Times, oom_retries: Times) -> Retry {
        Retry::new(Kind::Task { max_retries }, oom_retries, WAITS)
    }

    fn actor(max_restarts: Times) -> Retry {
        Retry::new(Kind::Actor { max_restarts }, Times::Unlimited, WAITS)
    }

    #[test]
    fn the_delays_of_the_specification() {
        let seconds: Vec<_> = (0..8).map(|attempt| delay(attempt, SECOND).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX, Duration::ZERO), Duration::ZERO);
        assert_eq!(delay(u32::MAX, Duration::from_nanos(1)), MAX_DELAY);
        assert_eq!(delay(35, Duration::from_nanos(1)), Duration::from_nanos(1 << 35));
        assert_eq!(delay(0, Duration::MAX), MAX_DELAY);
    }

    #[test]
    fn a_task_is_retried_after_kills_with_a_growing_delay() {
        let mut retry = task(Times::AtMost(1), Times::AtMost(2));
        assert_eq!(retry.on_exit(KILLED), Next::Retry { after: SECOND });
        assert_eq!(retry.on_exit(KILLED), Next::Retry { after: 2 * SECOND });
        let failure = Failure::OomRetriesUsedUp { allowed: Times::AtMost(2) };
        assert_eq!(retry.on_exit(KILLED), Next::Fail(failure));
        assert_eq!(
            failure.to_string(),
            "out of memory: not retried, because its oom_retries (2) are used up"
        );
    }

    #[test]
    fn kills_and_crashes_of_a_task_have_budgets_of_their_own() {
        let mut retry = task(Times::AtMost(1), Times::AtMost(1));
        assert_eq!(retry.on_exit(CRASHED), Next::Retry { after: CRASH_BASE });
        assert_eq!(
            retry.on_exit(KILLED),
            Next::Retry { after: SECOND },
            "a crash does not lengthen the delay"
        );
        let failure = Failure::Crashed { exit: Exit::Signal(11), allowed: Times::AtMost(1), actor: false };
        assert_eq!(retry.on_exit(CRASHED), Next::Fail(failure));
        assert_eq!(failure.to_string(), "crashed with signal 11: no retries are left (max_retries is 1)");
        assert!(!failure.out_of_memory());
    }

    #[test]
    fn the_last_task_of_its_owner_fails_at_once_even_if_unlimited() {
        let mut retry = task(Times::Unlimited, Times::Unlimited);
        assert_eq!(retry.on_exit(KILLED_AS_LAST), Next::Fail(Failure::VerdictSaysNo));
    }

    #[test]
    fn a_task_that_is_not_retriable_fails_at_once() {
        assert_eq!(
            task(Times::AtMost(0), Times::Unlimited).on_exit(KILLED),
            Next::Fail(Failure::NotRetriable { actor: false })
        );
        assert!(matches!(
            task(Times::AtMost(0), Times::Unlimited).on_exit(CRASHED),
            Next::Fail(Failure::Crashed { .. })
        ));
    }

    #[test]
    fn an_actor_has_one_budget_and_no_delay_after_kills() {
        let mut retry = actor(Times::AtMost(2));
        assert_eq!(retry.on_exit(KILLED_AS_LAST), Next::Restart { after: Duration::ZERO });
        assert_eq!(retry.on_exit(CRASHED), Next::Restart { after: CRASH_BASE });
        let failure = Failure::RestartsUsedUp { allowed: Times::AtMost(2) };
        assert_eq!(retry.on_exit(KILLED), Next::Fail(failure));
        assert!(failure.out_of_memory());
        assert_eq!(
            actor(Times::AtMost(0)).on_exit(KILLED),
            Next::Fail(Failure::NotRetriable { actor: true })
        );
    }

    #[test]
    fn what_ended_well_or_was_told_to_stop_is_not_started_again() {
        for mut retry in [task(Times::Unlimited, Times::Unlimited), actor(Times::Unlimited)] {
            assert_eq!(retry.on_exit(ended(Exit::Code(0), SECOND)), Next::Done(Exit::Code(0)));
            let term = Exit::Signal(15);
            assert_eq!(retry.on_exit(Outcome::Stopped(term)), Next::Done(term));
            assert_eq!(term.status(), 143);
        }
    }

    #[test]
    fn crashes_wait_longer_and_longer_until_an_attempt_ran_for_a_minute() {
        let mut retry = task(Times::Unlimited, Times::Unlimited);
        let mut after = |ran| match retry.on_exit(ended(Exit::Code(1), ran)) {
            Next::Retry { after } => after.as_secs(),
            other => panic!("{other:?}"),
        };
        let at_once: Vec<u64> = (0..7).map(|_| after(Duration::ZERO)).collect();
        assert_eq!(at_once, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after(LONG_RUN - Duration::from_nanos(1)), 60);
        assert_eq!([after(LONG_RUN), after(SECOND)], [2, 4], "counted anew");
    }

    #[test]
    fn a_death_that_somebody_meant_is_no_crash() {
        for number in 1..=64 {
            let next = task(Times::Unlimited, Times::Unlimited).on_exit(ended(Exit::Signal(number), SECOND));
            let meant = [1, 2, 13, 15].contains(&number);
            assert_eq!(next == Next::Done(Exit::Signal(number)), meant, "signal {number}");
        }
    }

    #[test]
    fn who_ends_with_the_owner_is_not_started_again() {
        for mut retry in [task(Times::Unlimited, Times::Unlimited), actor(Times::Unlimited)] {
            assert_eq!(retry.on_exit(Outcome::OwnerDied), Next::Fail(Failure::OwnerDied));
        }
    }

    fn times() -> impl Strategy<Value = Times> {
        prop_oneof![Just(Times::Unlimited), (0u32..6).prop_map(Times::AtMost)]
    }

    fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
        proptest::collection::vec(
            proptest::sample::select(vec![KILLED, CRASHED, ended(Exit::Code(1), SECOND)]),
            0..20,
        )
    }

    proptest! {
        #[test]
        fn a_delay_never_falls_nor_passes_the_cap(attempt in 0u32..100, millis in 0u64..100_000) {
            let base = Duration::from_millis(millis);
            let (this, next) = (delay(attempt, base), delay(attempt + 1, base));
            prop_assert!(this <= next && next <= MAX_DELAY);
            prop_assert!(next == MAX_DELAY || next == 2 * this);
        }

        #[test]
        fn nothing_is_started_more_often_than_its_budgets_allow(
            own in times(), oom in times(), task in any::<bool>(), outcomes in outcomes(),
        ) {
            let kind = if task { Kind::Task { max_retries: own } } else { Kind::Actor { max_restarts: own } };
            let mut retry = Retry::new(kind, oom, WAITS);
            let (mut crashes, mut kills) = (0, 0);
            for outcome in outcomes {
                let next = retry.on_exit(outcome);
                if outcome == KILLED { kills += 1 } else { crashes += 1 }
                let within = |times, count| times == Times::Unlimited || matches!(times, Times::AtMost(n) if count <= n);
                let again = match (task, outcome == KILLED) {
                    (true, true) => own.any() && within(oom, kills),
                    (true, false) => within(own, crashes),
                    (false, _) => within(own, kills + crashes),
                };
                let expected = match (again, task, outcome == KILLED) {
                    (false, ..) => None,
                    (true, false, true) => Some(Next::Restart { after: Duration::ZERO }),
                    (true, false, false) => Some(Next::Restart { after: delay(crashes - 1, CRASH_BASE) }),
                    (true, true, false) => Some(Next::Retry { after: delay(crashes - 1, CRASH_BASE) }),
                    (true, true, true) => Some(Next::Retry { after: delay(kills - 1, SECOND) }),
                };
                match expected {
                    Some(expected) => prop_assert_eq!(next, expected),
                    None => {
                        prop_assert!(matches!(next, Next::Fail(_)));
                        break;
                    }
                }
            }
        }
    }
}
