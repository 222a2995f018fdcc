//! A configuration for what runs on this node now, in mode observe.

use std::fmt::Write as _;

use crate::memory::users::{COMMAND_LENGTH, printable};
use crate::memory::{ReadError, Roots};
use crate::printable;
use crate::rules::facts::{Machine, own};
use crate::rules::unguarded::{Guardable, Unguarded};
use crate::units::Bytes;

/// The fewest bytes from which a process that no preset has is worth a rule.
const LARGE: Bytes = Bytes(64 << 20);

/// The text of the configuration.
///
/// # Errors
/// The processes cannot be listed.
pub(super) fn suggest(roots: &Roots) -> Result<String, ReadError> {
    let machine = Machine::look(roots, &own(&roots.procfs))?;
    let unguarded = Unguarded::of(&machine);
    let Unguarded { presets: found, rest } = &unguarded;
    let mut rest: Vec<_> = rest.iter().filter_map(|index| machine.processes.get(*index)).collect();
    rest.retain(|seen| seen.rss.is_some_and(|held| held >= LARGE));
    rest.sort_by_key(|seen| (std::cmp::Reverse(seen.rss), seen.pid));

    let mut out = String::from(
        "# What runs here now, and what the monitor could guard. In mode observe it kills none of it: look at\n\
         # `monitor rules` for a while, then set rules_mode = \"enforce\" (docs/rules.md).\n\n",
    );
    for Guardable { preset, workers, held } in found {
        let plural = if *workers == 1 { "" } else { "s" };
        let _ = writeln!(out, "# {preset}: {workers} worker{plural}, {held}");
    }
    if found.is_empty() {
        out += "# No preset matches anything that runs here.\n";
    }
    let _ = writeln!(out, "presets = [{}]\nrules_mode = \"observe\"", unguarded.names());
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
