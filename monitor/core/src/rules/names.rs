//! What the kernel's name of a process rules out: which names a process must have for any rule to make a worker of it. The
//! kernel side passes over all others (`agent/hooks`).

use super::judge::{Scope, Test};
use super::pattern::PatternKey;
use super::{Rule, Rules};
use crate::prelude::*;

impl Rules {
    /// How the names begin of all processes of which a rule could make a worker. `None`: some rule goes by other things alone.
    #[must_use]
    pub fn names(&self) -> Option<Vec<&[u8]>> {
        let mut all = Vec::new();
        for rule in self.rules.iter().filter(|rule| !rule.protect) {
            all.extend(self.names_of(rule)?);
        }
        all.sort_unstable();
        all.dedup();
        Some(all)
    }

    fn names_of<'r>(&'r self, rule: &Rule) -> Option<impl Iterator<Item = &'r [u8]> + use<'r>> {
        let patterns = rule.clauses.iter().find_map(|clause| match (&clause.test, clause.scope) {
            (Test::Pattern { key: PatternKey::Comm, patterns }, Scope::Own) => Some(patterns.clone()),
            _ => None,
        })?;
        let set = self.set(PatternKey::Comm);
        Some(patterns.filter_map(|number| set.pattern(number)).map(|pattern| beginning(&pattern.text)))
    }
}

/// What everything begins with that a glob matches.
fn beginning(glob: &str) -> &[u8] {
    let end = glob.find(['*', '?', '[', '{', '\\']).unwrap_or(glob.len());
    &glob.as_bytes()[..end]
}
