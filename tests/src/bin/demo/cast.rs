//! The cast: the workers of Ray's figure, scaled to the cgroup. Pure.

use std::time::Duration;

use monitor_tests::hog::Hog;

/// A worker as its caller launches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Role {
    /// `A1`, or `actor-A`.
    pub(crate) name: String,
    /// The caller.
    pub(crate) owner: &'static str,
    /// Task or actor.
    pub(crate) kind: Kind,
    /// What it does.
    pub(crate) hog: Hog,
}

/// The two kinds of worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May be retried.
    Task,
    /// May not be restarted.
    Actor,
}

pub(crate) const OWNERS: [&str; 2] = ["A", "B"];
const TASKS: u64 = 4;
/// A task wants 3/16 of the limit: five of them and the actors are too many, four are not. So an owner with a single
/// task left is never chosen, and all tasks end well.
const TASK_SHARE: (u64, u64) = (3, 16);
const ACTOR_SHARE: (u64, u64) = (1, 16);
/// Long enough that the others grow past the line meanwhile.
const HOLD: Duration = Duration::from_secs(3);

/// The actors, then the tasks in the order of their start: caller A before caller B, in turns. `limit` in MiB.
pub(crate) fn cast(limit: u64) -> Vec<Role> {
    let share = |(part, of): (u64, u64)| limit * part / of;
    let actors = OWNERS.map(|owner| Role {
        name: format!("actor-{owner}"),
        owner,
        kind: Kind::Actor,
        hog: worker(Hog::new(share(ACTOR_SHARE)).rate(limit / 16)),
    });
    let tasks = (1..=TASKS).flat_map(|number| OWNERS.map(|owner| (number, owner))).enumerate();
    let tasks = tasks.map(|(index, (number, owner))| Role {
        name: format!("{owner}{number}"),
        owner,
        kind: Kind::Task,
        // At different rates: 5 % to 6.4 % of the limit a second.
        hog: worker(Hog::new(share(TASK_SHARE)).rate(limit * (25 + index as u64) / 500).hold(HOLD)),
    });
    actors.into_iter().chain(tasks).collect()
}

fn worker(hog: Hog) -> Hog {
    Hog { report: false, with_parent: true, ..hog }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_tasks_and_the_actors_fit_and_five_do_not() {
        let roles = cast(512);
        let of = |kind| roles.iter().filter(move |role| role.kind == kind).map(|role| role.hog.mib);
        let (task, actors) = (of(Kind::Task).max().unwrap(), of(Kind::Actor).sum::<u64>());
        assert_eq!((of(Kind::Task).count(), of(Kind::Actor).count()), (8, 2));
        let threshold = 512 * 95 / 100;
        assert!(4 * task + actors < threshold && 5 * task + actors > threshold);
    }
}
