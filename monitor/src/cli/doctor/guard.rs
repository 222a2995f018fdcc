//! What would be guarded here: by rules, or by nobody.

use super::{Fact, State, lacks, ok};
use crate::cli::roots::Roots;
use crate::config::{self, ConfigFlags};
use crate::rules::facts::{Machine, own};
use crate::rules::unguarded::Unguarded;

/// Whether rules make workers of what runs here, and which presets would.
pub(super) fn rules(roots: &Roots) -> Fact {
    let resolved = match config::load(&ConfigFlags::default()) {
        Ok(resolved) => resolved,
        Err(errors) => return failed(&errors),
    };
    let rules = match resolved.rules_from().load() {
        Ok(rules) => rules,
        Err(faults) => return failed(&faults),
    };
    let machine = match Machine::look(&roots.roots(), &own(&roots.procfs)) {
        Ok(machine) => machine,
        Err(error) => return failed(&error),
    };
    if rules.any_workers() {
        let look = rules.look(&machine.profiles(&rules));
        let enforced = look.workers.iter().filter(|found| found.rule.mode().as_str() == "enforce").count();
        let found = format!(
            "they match {} workers here, {enforced} of them may be killed; `monitor rules` lists them",
            look.workers.len()
        );
        return ok("rules", found);
    }
    let found = match Unguarded::of(&machine).sentence() {
        Some(sentence) => format!("none; {sentence}"),
        None => "none, and no preset matches anything that runs here".to_owned(),
    };
    lacks(
        "rules",
        State::Missing,
        found,
        "only registered workers are guarded; `monitor rules suggest` prints a configuration",
    )
}

fn failed(why: &dyn std::fmt::Display) -> Fact {
    let why = why.to_string().lines().collect::<Vec<_>>().join("; ");
    lacks("rules", State::Failed, why, "the agent does not start with these settings")
}
