//! A configuration for what runs on this node now, in mode observe. Each preset is tried by itself, so that one does not
//! hide what another would find.

use std::fmt::Write as _;

use crate::memory::users::{COMMAND_LENGTH, printable};
use crate::memory::{ReadError, Roots};
use crate::printable;
use crate::rules::Rules;
use crate::rules::facts::{Machine, own};
use crate::rules::presets::{PRESETS, Preset, SYSTEM};
use crate::units::Bytes;

/// The fewest bytes from which a process that no preset has is worth a rule.
const LARGE: Bytes = Bytes(64 << 20);

/// The text of the configuration.
///
/// # Errors
/// The processes cannot be listed.
pub(super) fn suggest(roots: &Roots) -> Result<String, ReadError> {
    let machine = Machine::look(roots, &own(&roots.procfs))?;
    let system = PRESETS.iter().find(|preset| preset.name == SYSTEM);
    let mut taken = std::collections::HashSet::new();
    let mut found = Vec::new();
    for preset in PRESETS.iter().filter(|preset| preset.name != SYSTEM) {
        let rules = compiled(&[Some(preset), system]);
        let look = rules.look(&machine.profiles(&rules));
        let processes: Vec<usize> = look.workers.iter().flat_map(|worker| worker.members.clone()).collect();
        if !look.workers.is_empty() {
            let held = processes.iter().filter_map(|index| machine.processes.get(*index)?.rss);
            let held = held.fold(Bytes(0), Bytes::saturating_add);
            found.push((preset.name, look.workers.len(), held));
        }
        taken.extend(processes);
    }
    let rules = compiled(&[system]);
    let nobodys = rules.look(&machine.profiles(&rules)).unmatched;
    let rest = nobodys.into_iter().filter(|index| !taken.contains(index));
    let mut rest: Vec<_> = rest.filter_map(|index| machine.processes.get(index)).collect();
    rest.retain(|seen| seen.rss.is_some_and(|held| held >= LARGE));
    rest.sort_by_key(|seen| (std::cmp::Reverse(seen.rss), seen.pid));

    let mut out = String::from(
        "# What runs here now, and what the monitor could guard. In mode observe it kills none of it: look at\n\
         # `monitor rules` for a while, then set rules_mode = \"enforce\" (docs/rules.md).\n\n",
    );
    for (name, workers, held) in &found {
        let plural = if *workers == 1 { "" } else { "s" };
        let _ = writeln!(out, "# {name}: {workers} worker{plural}, {held}");
    }
    if found.is_empty() {
        out += "# No preset matches anything that runs here.\n";
    }
    let names: Vec<String> = found.iter().map(|(name, ..)| format!("{name:?}")).collect();
    let _ = writeln!(out, "presets = [{}]\nrules_mode = \"observe\"", names.join(", "));
    if let Some(largest) = rest.first() {
        out += "\n# The largest processes that no preset has. A rule for the first of them:\n";
        for seen in rest.iter().take(5) {
            let held = seen.rss.unwrap_or_default();
            let command = printable(&seen.title, COMMAND_LENGTH);
            let _ = writeln!(out, "#   {} of pid {}: {command}", held, seen.pid);
        }
        let comm = String::from_utf8_lossy(&largest.comm);
        // A name with brackets or braces in it would be read as a pattern.
        let plain = comm.chars().all(|c| c.is_ascii_alphanumeric() || "-_.: /".contains(c));
        if plain && !comm.is_empty() {
            let comm = printable::printable(&comm);
            let name: String =
                comm.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let _ = writeln!(
                out,
                "#\n# [[rule]]\n# name = \"{name}\"\n# owner = \"{{user}}\"\n# match.comm = \"{comm}\""
            );
        }
    }
    Ok(out)
}

fn compiled(presets: &[Option<&Preset>]) -> Rules {
    let specs: Vec<_> =
        presets.iter().flatten().flat_map(|preset| preset.rules().unwrap_or_default()).collect();
    // They are tested to compile.
    Rules::compile(&specs, None).unwrap_or_else(|_| Rules::none())
}
