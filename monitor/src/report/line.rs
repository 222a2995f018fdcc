//! What the log says of a note: one sentence for people, subject first. The note itself is for programs (`log_format`).

use crate::admission::Begins;
use crate::engine::{
    Chosen, Freed, Gear, KillRecord, LeftTo, Note, Release, Remains, Trigger, Unhelpful, VictimRecord,
};
use crate::printable::printable;
use crate::retry::KilledBy;
use crate::units::{Bytes, Nanos};

/// The sentence.
#[must_use]
pub fn of(note: &Note) -> String {
    match note {
        Note::Registered { worker, pid, kind, owner, name, .. } => {
            let owner =
                owner.as_ref().map_or_else(String::new, |owner| format!(" of owner {}", quoted(owner)));
            format!(
                "{} is registered: {}{owner}, process {pid}",
                named(worker, name.as_deref()),
                printable(kind)
            )
        }
        Note::Ended { worker, status, .. } => format!("{worker} ended: {}", ended(*status)),
        Note::Waits { worker, name, wait, .. } => {
            format!("{} waits for {}", named(worker, name.as_deref()), printable(&wait.to_string()))
        }
        Note::Begins { worker, waited_ns, why, .. } => {
            let waited = std::time::Duration::from_nanos(*waited_ns).as_millis();
            match why {
                Begins::Room => format!("{worker} may start, after it waited {waited} ms for room"),
                Begins::TimeIsUp => {
                    format!("{worker} may start, without room: it waited {waited} ms, as long as it may")
                }
            }
        }
        Note::Above { domain, used, threshold, total, trigger, .. } => format!(
            "{} is over its threshold: {used} of {total} used, threshold {threshold} ({})",
            printable(domain),
            seen(*trigger)
        ),
        Note::Below { domain, used, threshold, .. } => {
            format!("{} is back below its threshold: {used} used, threshold {threshold}", printable(domain))
        }
        Note::Decided { kill, domain, victims, others, dry_run, cannot_help, .. } => {
            let cannot_help =
                cannot_help.as_ref().map_or_else(String::new, |Unhelpful { candidates_hold, .. }| {
                    format!(", which cannot help: all workers together hold {candidates_hold}")
                });
            decided(kill.0, domain, victims, *others, *dry_run) + &cannot_help
        }
        Note::Left { kill, domain, executor, ours, .. } => {
            let ours = ours.as_ref().map_or_else(String::new, |ours| {
                format!("; our policy would take {}", named(&ours.worker, ours.name.as_deref()))
            });
            format!("{}: kill {} is left to {executor}{ours}", printable(domain), kill.0)
        }
        Note::Killed(record) => killed(record),
        Note::Stuck { kill, worker, remains, .. } => {
            format!(
                "{worker} is stuck: it does not die (kill {kill}): {}; another worker may be killed now",
                stuck(remains)
            )
        }
        Note::DiedLate { kill, worker, .. } => format!("{worker} died after all (kill {kill})"),
        Note::Stray { worker, used, total, .. } => format!(
            "the watchdog killed {worker} while the agent hung, at {used} of {total} used; by then no candidate"
        ),
        Note::Refused { kill, worker, why, .. } => {
            format!(
                "{worker} could not be signaled (kill {kill}): {}; the next candidate is taken",
                printable(why)
            )
        }
        Note::NoCandidates { domain, used, threshold, .. } => format!(
            "{} is above threshold but no worker can be killed: {used} used, threshold {threshold}",
            printable(domain)
        ),
        Note::Unhelpful { domain, used, threshold, candidates_hold, processes_hold, .. }
            if used <= threshold =>
        {
            let holds = processes_hold.map_or_else(String::new, |held| format!(" (they hold {held})"));
            format!(
                "{} will soon be over its threshold, and killing workers cannot help: processes that are no workers grow \
                 fast{holds}, and all workers together hold {candidates_hold}; {used} used, threshold {threshold}",
                printable(domain)
            )
        }
        Note::Unhelpful { domain, used, threshold, candidates_hold, others_hold, .. } => format!(
            "{} is above threshold, and nobody is killed because it could not help: {used} used, threshold {threshold}; \
             workers hold {candidates_hold}, others {others_hold}",
            printable(domain)
        ),
        Note::Unknown { domain, why, .. } => {
            format!(
                "{} cannot be read, and protects nobody until it can: {}",
                printable(domain),
                printable(why)
            )
        }
        Note::Known { domain, used, threshold, total, .. } => {
            format!("{} can be read: {used} of {total} used, threshold {threshold}", printable(domain))
        }
        Note::Gear { gear, why, .. } => {
            let tracking = match gear {
                Gear::Near => "active",
                Gear::Far => "idle",
            };
            format!("tracking of memory is {tracking}: {}", printable(why))
        }
        Note::Stopped { worker, pid, .. } => format!("the brake paused process {pid} of {worker}"),
        Note::Continued(release) => continued(release),
        Note::Lost { records, .. } => {
            format!("{records} kernel records were lost; everything is read again")
        }
    }
}

fn named(worker: &impl std::fmt::Display, name: Option<&str>) -> String {
    name.map_or_else(|| worker.to_string(), |name| format!("{worker} {}", quoted(name)))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text))
}

fn ended(status: Option<u32>) -> String {
    match status {
        None => "exit status unknown".to_owned(),
        Some(status) if status & 0x7f == 0 => format!("exit code {}", (status >> 8) & 0xff),
        Some(status) => format!("signal {}", status & 0x7f),
    }
}

fn seen(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Crossing | Trigger::Delta => "a kernel hook saw it",
        Trigger::Tick => "the regular check found it",
        Trigger::AfterKill => "still over it after the previous kill",
        Trigger::Watchdog => "seen by the watchdog",
        Trigger::Kernel => "the kernel acted",
    }
}

fn decided(kill: u64, domain: &str, victims: &[Chosen], others: usize, dry_run: bool) -> String {
    let mut whom: Vec<String> = victims
        .iter()
        .map(|victim| {
            format!("{} ({})", named(&victim.worker, victim.name.as_deref()), printable(&victim.why))
        })
        .collect();
    if others > 0 {
        whom.push(format!("{others} of other users"));
    }
    let verb = if dry_run { "would kill" } else { "kills" };
    format!("the agent {verb} {} in {} (kill {kill})", whom.join(", "), printable(domain))
}

/// A victim with the most important facts.
fn victim(victim: &VictimRecord, record: &KillRecord) -> String {
    let VictimRecord { worker, pid, name, owner, should_retry, sample, .. } = victim;
    let owner = owner.as_ref().map_or_else(String::new, |owner| format!(", owner {}", quoted(owner)));
    let held = match sample {
        Some(sample) => {
            let age = record.moment().map_or(0, |at| at.since(sample.at).as_secs());
            let old = if age > 0 { format!(" {age} s before") } else { String::new() };
            format!(", held {}{old}", sample.bytes)
        }
        None => String::new(),
    };
    let again = match (&record.left_to, should_retry) {
        (Some(_), _) => "Ray decides whether it is retried",
        (None, true) => "may be retried",
        (None, false) => "not retried",
    };
    format!("{} (process {pid}{owner}{held}; {again})", named(worker, name.as_deref()))
}

fn killed(record: &KillRecord) -> String {
    let KillRecord { id, by, domain, used, threshold, total, times, .. } = record;
    let mut victims: Vec<String> = record.victims.iter().map(|one| victim(one, record)).collect();
    if record.others > 0 {
        victims.push(format!("{} of other users", record.others));
    }
    let (victims, domain) = (victims.join(", "), printable(domain));
    if *by == KilledBy::Kernel {
        return format!("the kernel killed {victims} for memory in {domain} (kill {id})");
    }
    if record.dry_run {
        return format!("dry run: the agent would have killed {victims} in {domain} (kill {id})");
    }
    let usage = format!("{used} of {total} used, threshold {threshold}");
    if let (Some(LeftTo { executor, .. }), true) = (&record.left_to, victims.is_empty()) {
        return format!(
            "kill {id} in {domain}, which was left to {executor}, ended without a victim: {usage}"
        );
    }
    if !record.confirmed {
        return format!("the agent could not kill {victims} in {domain} (kill {id}): {usage}");
    }
    let dead = times.crossing.zip(times.dead).map(|(from, to)| to.since(from).as_micros());
    let dead = dead.map_or_else(String::new, |micros| {
        format!("; dead {}.{} ms after", micros / 1000, micros % 1000 / 100)
    });
    let after =
        record.used_after.map_or_else(String::new, |after: Bytes| format!("; {after} used afterwards"));
    format!("the agent killed {victims} in {domain} (kill {id}): {usage}{dead}{after}")
}

fn stuck(remains: &[Remains]) -> String {
    let one = |process: &Remains| {
        let state = process.state.map_or_else(String::new, |state| format!(", state {state}"));
        let waits =
            process.wait_channel.as_deref().map_or_else(String::new, |at| format!(", in {}", printable(at)));
        format!("process {}{state}{waits}", process.pid)
    };
    if remains.is_empty() {
        return "its processes could not be examined".to_owned();
    }
    remains.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn continued(release: &Release) -> String {
    let Release { worker, pid, held_ns, why, .. } = release;
    let millis = held_ns / Nanos::PER_MS;
    let why = match why {
        Freed::Room => "there is room",
        Freed::NobodyToKill => "nobody can be killed",
        Freed::TooLong => "it was paused for brake_max_ms",
        Freed::Unregistered => "it is no longer a worker",
        Freed::SwitchedOff => "the brake is off",
        Freed::Ended => {
            return format!("process {pid} of {worker} ended after {millis} ms of the brake's pause");
        }
    };
    format!("process {pid} of {worker} resumed after {millis} ms: {why}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;
    use crate::engine::ExecutorId;
    use crate::units::Pid;

    #[test]
    fn a_kill_is_one_line_that_says_who_where_and_by_whom() {
        let mut record = record();
        let line = killed(&record);
        insta::assert_snapshot!(line, @r#"the agent killed w2 "load\u{1b}[2J" (process 42, owner "a", held 200 B 1 s before; may be retried) in cgroup:/box (kill 7): 960 B of 1000 B used, threshold 950 B; dead 30.0 ms after"#);
        record.by = KilledBy::Kernel;
        assert!(killed(&record).starts_with("the kernel killed w2 "), "{}", killed(&record));
        record.by = KilledBy::Monitor;
        record.dry_run = true;
        assert!(killed(&record).starts_with("dry run: "), "{}", killed(&record));
        assert!(!line.contains('\x1b') && !line.contains('\n'));
    }

    #[test]
    fn a_kill_that_was_left_to_a_raylet_in_vain_has_no_victim() {
        let executor = ExecutorId(Pid(71));
        let left_to = Some(LeftTo { executor, ours: None });
        let record = KillRecord { left_to, victims: Vec::new(), dry_run: false, ..record() };
        let line = "kill 7 in cgroup:/box, which was left to raylet 71, ended without a victim: ";
        assert!(killed(&record).starts_with(line), "{}", killed(&record));
    }

    #[test]
    fn how_a_worker_ended_is_said_in_words() {
        assert_eq!(ended(Some(0x0300)), "exit code 3");
        assert_eq!(ended(Some(9)), "signal 9");
        assert_eq!(ended(None), "exit status unknown");
    }
}
