//! Which workers live, by the agent's notes, and which the policy must take: the demonstration's own rule, written from
//! docs/behavior.md#policies and shared with nobody, so that it can find the agent wrong. Pure.

use std::collections::BTreeMap;

use crate::cast::{Kind, Role};

/// A worker that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alive {
    /// The agent's id for it.
    pub(crate) worker: String,
    /// Its name, unique among those that live.
    pub(crate) name: String,
    /// Its caller.
    pub(crate) owner: &'static str,
    /// Task or actor.
    pub(crate) kind: Kind,
    /// When it was registered, in nanoseconds.
    pub(crate) started: u64,
}

/// The policy's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The agent's id.
    pub(crate) worker: String,
    /// Its name.
    pub(crate) name: String,
    /// Whether it may be started again.
    pub(crate) should_retry: bool,
}

/// Those that live, in the order of their registration.
#[derive(Debug, Default)]
pub(crate) struct Book {
    alive: Vec<Alive>,
}

impl Book {
    pub(crate) fn registered(&mut self, role: &Role, worker: &str, started: u64) {
        self.alive.push(Alive {
            worker: worker.to_owned(),
            name: role.name.clone(),
            owner: role.owner,
            kind: role.kind,
            started,
        });
    }

    /// It ended, or was chosen to be killed.
    pub(crate) fn gone(&mut self, worker: &str) {
        self.alive.retain(|alive| alive.worker != worker);
    }

    pub(crate) fn alive(&self) -> &[Alive] {
        &self.alive
    }

    /// `group_by_owner` (docs/behavior.md#policies): of the tasks, the newest of the caller with the most; of equal
    /// callers the one that began later. It may be retried unless it is the caller's last. Then the
    /// actors, newest first.
    pub(crate) fn choice(&self) -> Option<Choice> {
        let mut groups: BTreeMap<&str, Vec<&Alive>> = BTreeMap::new();
        for task in self.alive.iter().filter(|alive| alive.kind == Kind::Task) {
            groups.entry(task.owner).or_default().push(task);
        }
        let largest =
            groups.values().max_by_key(|group| (group.len(), group.first().map(|first| first.started)));
        let (victim, should_retry) = match largest {
            Some(group) => (group.last().copied(), group.len() > 1),
            None => (self.alive.last(), false),
        };
        victim.map(|victim| Choice { worker: victim.worker.clone(), name: victim.name.clone(), should_retry })
    }

    /// How many live, by owner of tasks, and actors.
    pub(crate) fn census(&self) -> String {
        let tasks =
            |owner: &'static str| self.alive.iter().filter(move |a| a.kind == Kind::Task && a.owner == owner);
        let mut parts: Vec<String> = crate::cast::OWNERS
            .iter()
            .map(|owner| {
                let mut names: Vec<&str> = tasks(owner).map(|alive| alive.name.as_str()).collect();
                names.sort_unstable();
                format!("{owner}: {}", if names.is_empty() { "-".into() } else { names.join(" ") })
            })
            .collect();
        parts.push(format!("actors: {}", self.alive.iter().filter(|a| a.kind == Kind::Actor).count()));
        parts.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::cast;

    /// All of the cast register, then the choices are taken one after the other.
    fn choices(mut book: Book) -> Vec<(String, bool)> {
        std::iter::from_fn(|| {
            let choice = book.choice()?;
            book.gone(&choice.worker);
            Some((choice.name, choice.should_retry))
        })
        .collect()
    }

    #[test]
    fn rays_figure_alternates_between_the_callers_newest_first() {
        let mut book = Book::default();
        for (index, role) in cast(512).iter().enumerate() {
            book.registered(role, &format!("w{index}"), index as u64);
        }
        let names: Vec<(String, bool)> = choices(book);
        let expected = [
            ("B4", true),
            ("A4", true),
            ("B3", true),
            ("A3", true),
            ("B2", true),
            ("A2", true),
            ("B1", false),
            ("A1", false),
            ("actor-B", false),
            ("actor-A", false),
        ];
        assert_eq!(names, expected.map(|(name, retry)| (name.to_owned(), retry)));
    }

    #[test]
    fn a_retried_task_is_the_newest_of_its_caller() {
        let roles = cast(512);
        let mut book = Book::default();
        for name in ["A1", "A2", "B1", "B2", "A1"] {
            let role = roles.iter().find(|role| role.name == name).unwrap();
            if name == "A1" {
                book.gone("wA1");
            }
            let started = book.alive().last().map_or(0, |last| last.started + 1);
            book.registered(role, &format!("w{name}"), started);
        }
        // A: A2, A1 (again); B: B1, B2: A2 started before B1.
        assert_eq!(choices(book)[..2], [("B2".to_owned(), true), ("A1".to_owned(), true)]);
    }
}
