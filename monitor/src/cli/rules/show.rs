//! What the rules match now, as JSON and as text.

use serde_json::{Value, json};

use crate::cli::table::{maybe, table, text};
use crate::memory::users::{COMMAND_LENGTH, printable};
use crate::memory::{ReadError, Roots};
use crate::rules::facts::{Machine, Seen, own};
use crate::rules::measure::{Scales, unit};
use crate::rules::{Found, Profile, Rules};
use crate::units::Bytes;

/// How many of the processes that no rule has are shown, the largest first.
const UNMATCHED: usize = 10;

/// All workers, protected processes, refused cgroups, and the largest of the rest.
///
/// # Errors
/// The processes cannot be listed.
pub(super) fn answer(rules: &Rules, roots: &Roots) -> Result<Value, ReadError> {
    let machine = Machine::look(roots, &own(&roots.procfs))?;
    let profiles = machine.profiles(rules);
    let look = rules.look(&profiles);
    let scales = Scales::new(roots);
    let workers: Vec<Value> =
        look.workers.iter().map(|found| worker(rules, &machine, &profiles, &scales, found)).collect();
    let protected: Vec<Value> = look
        .protected
        .iter()
        .filter_map(|protected| {
            let seen = machine.processes.get(protected.index)?;
            Some(json!({"rule": &*protected.rule, "pid": seen.pid, "cgroup": cgroup(&machine, seen), "command": command(seen)}))
        })
        .collect();
    let refused: Vec<Value> = look
        .refused
        .iter()
        .map(|refused| {
            json!({
                "rule": &**refused.rule.name(),
                "cgroup": String::from_utf8_lossy(&refused.cgroup),
                "why": refused.why.to_string(),
            })
        })
        .collect();
    let mut rest: Vec<&Seen> =
        look.unmatched.iter().filter_map(|index| machine.processes.get(*index)).collect();
    rest.sort_by_key(|seen| (std::cmp::Reverse(seen.rss), seen.pid));
    let unmatched: Vec<Value> = rest
        .iter()
        .take(UNMATCHED)
        .map(|seen| json!({"pid": seen.pid, "memory": seen.rss, "command": command(seen)}))
        .collect();
    Ok(json!({"workers": workers, "protected": protected, "refused": refused, "unmatched": unmatched}))
}

fn worker(
    rules: &Rules,
    machine: &Machine,
    profiles: &[Profile<'_>],
    scales: &Scales<'_>,
    found: &Found<'_>,
) -> Value {
    let (Some(seen), Some(profile)) = (machine.processes.get(found.first), profiles.get(found.first)) else {
        return Value::Null;
    };
    // A look has them in the order of their pids.
    let position = |pid| machine.processes.binary_search_by_key(&pid, |process| process.pid).ok();
    let parent = seen.parent.and_then(|parent| profiles.get(position(parent)?));
    let rule = found.rule;
    let held = scales.weigh(machine, found);
    let place = match unit(machine, found) {
        Some(unit) => Some(unit.to_string()),
        None => cgroup(machine, seen),
    };
    json!({
        "rule": &**rule.name(),
        "mode": rule.mode(),
        "unit": rule.unit(),
        "pid": seen.pid,
        "cgroup": place,
        "kind": rule.kind().name(),
        "owner": rules.owner(rule, profile, parent),
        "name": rules.worker_name(rule, profile, parent),
        "priority": rule.priority(),
        "retriable": rule.kind().retriable(),
        "idle": found.idle,
        "memory": held.map(|(bytes, _)| bytes),
        "measured": held.map(|(_, kind)| kind),
        "processes": found.members.len(),
        "why": rules.why(rule, profile, parent),
    })
}

fn cgroup(machine: &Machine, seen: &Seen) -> Option<String> {
    machine.cgroups.get(seen.cgroup?).map(|cgroup| cgroup.path.to_string())
}

fn command(seen: &Seen) -> String {
    if seen.title.is_empty() {
        return format!("[{}]", printable(&seen.comm, COMMAND_LENGTH - 2));
    }
    printable(&seen.title, COMMAND_LENGTH)
}

const WORKERS: [&str; 10] =
    ["RULE", "MODE", "PRIORITY", "OWNER", "NAME", "PID", "PROCESSES", "RETRIABLE", "IDLE", "MEMORY"];

const UNMATCHED_COLUMNS: [&str; 3] = ["PID", "MEMORY", "COMMAND"];

/// The cells of one row: of each key what it says, sizes with their unit.
fn cells<const N: usize>(row: &Value, columns: [&str; N]) -> [String; N] {
    columns.map(|column| match column {
        "MEMORY" => maybe(row["memory"].as_u64().map(Bytes)),
        column => text(&row[column.to_lowercase()]),
    })
}

/// The same for people.
pub(super) fn human(answer: &Value) -> String {
    let mut out = String::new();
    match list(answer, "workers") {
        [] => out += "No rule matches anything that runs here: by rules nothing would be killed.\n",
        workers => {
            out += &table(WORKERS, workers.iter().map(|row| cells(row, WORKERS)), &["MEMORY"]);
            let enforced = workers.iter().filter(|worker| worker["mode"] == "enforce").count();
            out += &format!("{} workers by rule, {enforced} of them in mode enforce.\n", workers.len());
        }
    }
    for refused in list(answer, "refused") {
        let [rule, cgroup, why] = ["rule", "cgroup", "why"].map(|key| text(&refused[key]));
        out += &format!("{rule} matches {cgroup}, which is not a worker: {why}.\n");
    }
    out += &protected(list(answer, "protected"));
    let unmatched = list(answer, "unmatched");
    if !unmatched.is_empty() {
        out += "\nThe largest processes that no rule has:\n";
        let rows = unmatched.iter().map(|row| cells(row, UNMATCHED_COLUMNS));
        out += &table(UNMATCHED_COLUMNS, rows, &["MEMORY"]);
    }
    out
}

/// The rows of a part of the answer.
fn list<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    answer[key].as_array().map_or(&[], Vec::as_slice)
}

/// How many processes each rule protects: their names would fill the screen.
fn protected(protected: &[Value]) -> String {
    let mut rules = std::collections::BTreeMap::<String, usize>::new();
    for process in protected {
        *rules.entry(text(&process["rule"])).or_default() += 1;
    }
    let rules: Vec<String> = rules.into_iter().map(|(rule, count)| format!("{count} by {rule}")).collect();
    if rules.is_empty() {
        String::new()
    } else {
        format!("Protected: {} (--json lists them).\n", rules.join(", "))
    }
}
