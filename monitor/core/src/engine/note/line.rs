//! A note as a line for people: log and `watch`. The time is not in it; whoever prints it knows which clock is read.

use core::fmt;

use super::Note;
use crate::engine::facts::{Chosen, Freed, Gear, Release, Remains, Trigger};
use crate::engine::view::KillRecord;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { worker, pid, kind, owner, name, .. } => {
                write!(f, "{} is a worker: {kind}, process {pid}", Named(*worker, name.as_deref()))?;
                owner.as_ref().map_or(Ok(()), |owner| write!(f, ", owner {owner:?}"))
            }
            Self::Ended { worker, status, .. } => write!(f, "{worker} ended{}", Status(*status)),
            Self::Above { domain, used, threshold, total, trigger, .. } => {
                let by = seen_by(*trigger);
                write!(
                    f,
                    "{domain} is over its threshold ({by}): {used} of {total} used, threshold {threshold}"
                )
            }
            Self::Below { domain, used, threshold, .. } => {
                write!(f, "{domain} is below its threshold again: {used} used, threshold {threshold}")
            }
            Self::Decided { kill, domain, victims, others, dry_run, .. } => {
                decided(f, kill.0, domain, victims, *others, *dry_run)
            }
            Self::Left { kill, domain, executor, ours, .. } => {
                write!(f, "kill {} in {domain}: left to {executor}", kill.0)?;
                ours.as_ref().map_or(Ok(()), |ours| {
                    write!(f, "; by our policy it would be {}", Named(ours.worker, ours.name.as_deref()))
                })
            }
            Self::Killed(kill) => killed(f, kill),
            Self::Stuck { kill, worker, pids, remains, .. } => {
                write!(f, "kill {}: {worker} did not die in time; left: {}", kill.0, Left(pids, remains))
            }
            Self::DiedLate { kill, worker, status, .. } => {
                write!(f, "kill {}: {worker} died after all{}", kill.0, Status(*status))
            }
            Self::Stray { worker, used, total, .. } => write!(
                f,
                "the watchdog killed {worker} while the agent hung, at {used} of {total} used; no kill was on record"
            ),
            Self::Refused { kill, worker, pids, why, .. } => {
                write!(f, "kill {}: {worker} cannot be signalled: {why}; left: {}", kill.0, Left(pids, &[]))
            }
            Self::NoCandidates { domain, used, threshold, .. } => write!(
                f,
                "{domain} is over its threshold ({used} used, threshold {threshold}) but no worker can be killed"
            ),
            Self::Unhelpful { .. } => self.unhelpful(f),
            Self::Unknown { domain, why, .. } => write!(f, "{domain} cannot be read: {why}"),
            Self::Known { domain, used, threshold, total, .. } => {
                write!(f, "{domain} can be read: {used} of {total} used, threshold {threshold}")
            }
            Self::Gear { gear, why, .. } => write!(f, "page faults are {} ({why})", followed(*gear)),
            Self::Stopped { worker, pid, .. } => write!(f, "the brake paused process {pid} of {worker}"),
            Self::Continued(release) => continued(f, release),
            Self::Lost { records, .. } => {
                write!(f, "{records} records of the kernel were lost; everything is read again")
            }
        }
    }
}

impl Note {
    fn unhelpful(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Unhelpful { domain, used, threshold, candidates_hold, processes_hold, .. } = self else {
            return Ok(());
        };
        write!(
            f,
            "{domain} is over its threshold ({used} used, threshold {threshold}); nobody is killed, because all \
             candidates together hold only {candidates_hold}"
        )?;
        processes_hold.map_or(Ok(()), |held| write!(f, ", while processes that are no workers hold {held}"))
    }
}

fn decided(
    f: &mut fmt::Formatter<'_>,
    kill: u64,
    domain: &str,
    victims: &[Chosen],
    others: usize,
    dry_run: bool,
) -> fmt::Result {
    let kills = if dry_run { "would kill" } else { "kills" };
    write!(f, "kill {kill} in {domain}: {kills} ")?;
    for (number, victim) in victims.iter().enumerate() {
        let retry = if victim.should_retry { "may be retried" } else { "not to be retried" };
        let comma = if number == 0 { "" } else { ", " };
        write!(f, "{comma}{} ({retry}; {})", Named(victim.worker, victim.name.as_deref()), victim.why)?;
    }
    more(f, others)
}

fn killed(f: &mut fmt::Formatter<'_>, kill: &KillRecord) -> fmt::Result {
    write!(f, "kill {} in {}: ", kill.id.0, kill.domain)?;
    for (number, victim) in kill.victims.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        write!(f, "{comma}{} (process {})", Named(victim.worker, victim.name.as_deref()), victim.pid)?;
    }
    more(f, kill.others)?;
    if kill.dry_run {
        return f.write_str(" would have been killed");
    }
    if !kill.confirmed {
        return f.write_str(" did not die in time");
    }
    f.write_str(" died")?;
    let after = |stage: Option<Nanos>| Some(stage?.since(kill.times.crossing.or(kill.times.decision)?));
    if let Some(dead) = after(kill.times.dead) {
        write!(f, " {:.1} ms after the threshold was exceeded", dead.as_secs_f64() * 1e3)?;
    }
    match after(kill.times.memory_back) {
        _ if kill.memory_late => f.write_str("; the memory is not back yet"),
        Some(back) => write!(f, "; memory back after {:.1} ms", back.as_secs_f64() * 1e3),
        None => Ok(()),
    }
}

fn more(f: &mut fmt::Formatter<'_>, others: usize) -> fmt::Result {
    if others == 0 { Ok(()) } else { write!(f, " and {others} of other users") }
}

fn continued(f: &mut fmt::Formatter<'_>, release: &Release) -> fmt::Result {
    let Release { worker, pid, held_ns, why, .. } = release;
    let millis = held_ns / Nanos::PER_MS;
    let why = match why {
        Freed::Room => "memory is below the threshold again",
        Freed::NobodyToKill => "nobody can be killed, so pausing it helps nobody",
        Freed::TooLong => "the brake may pause it no longer",
        Freed::Unregistered => "it is no worker any more",
        Freed::SwitchedOff => "the brake was switched off",
        Freed::Ended => return write!(f, "process {pid} of {worker} ended after a pause of {millis} ms"),
    };
    write!(f, "process {pid} of {worker} goes on after a pause of {millis} ms: {why}")
}

fn seen_by(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Crossing => "seen by the kernel",
        Trigger::Delta => "by the sum of what the kernel reported",
        Trigger::Tick => "seen by a regular check",
        Trigger::AfterKill => "seen after a kill",
        Trigger::Watchdog => "seen by the watchdog",
    }
}

fn followed(gear: Gear) -> &'static str {
    match gear {
        Gear::Near => "followed",
        Gear::Far => "not followed",
    }
}

/// A worker with its name.
struct Named<'a>(WorkerId, Option<&'a str>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(name) => write!(f, "{} {name:?}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The wait(2) status of a first process, if it is known.
struct Status(Option<u32>);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(|status| (status & 0x7f, status >> 8 & 0xff)) {
            None => Ok(()),
            Some((0, code)) => write!(f, " with status {code}"),
            Some((signal, _)) => write!(f, " by signal {signal}"),
        }
    }
}

/// Processes that are left, and what they wait for.
struct Left<'a>(&'a [Pid], &'a [Remains]);

impl fmt::Display for Left<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, pid) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{pid}")?;
            if let Some(state) = self.1.iter().find(|one| one.pid == *pid).and_then(|one| one.state) {
                write!(f, " (state {state})")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::facts::KillId;

    #[test]
    fn a_decision_names_the_worker_and_the_reason() {
        let victim = Chosen {
            worker: WorkerId(7),
            name: Some("train\u{202e}".to_owned()),
            should_retry: true,
            why: "newest of 2".to_owned(),
        };
        let decided = |dry_run, others| Note::Decided {
            at: Nanos(1),
            kill: KillId(3),
            domain: "node".to_owned(),
            victims: vec![victim.clone()],
            others,
            dry_run,
        };
        let line = r#"kill 3 in node: kills w7 "train\u{202e}" (may be retried; newest of 2)"#;
        assert_eq!(decided(false, 0).to_string(), line);
        let line = r#"kill 3 in node: would kill w7 "train\u{202e}" (may be retried; newest of 2) and 2 of other users"#;
        assert_eq!(decided(true, 2).to_string(), line);
    }

    #[test]
    fn an_end_tells_status_or_signal_if_it_is_known() {
        let ended = |status| Note::Ended { at: Nanos(1), worker: WorkerId(1), status }.to_string();
        assert_eq!(ended(None), "w1 ended");
        assert_eq!(ended(Some(3 << 8)), "w1 ended with status 3");
        assert_eq!(ended(Some(9)), "w1 ended by signal 9");
    }

    #[test]
    fn a_release_tells_the_pause_and_why() {
        let release = |why| {
            let note = Release { at: Nanos(9), worker: WorkerId(2), pid: Pid(5), held_ns: 7_900_000, why };
            Note::Continued(note).to_string()
        };
        assert_eq!(
            release(Freed::Room),
            "process 5 of w2 goes on after a pause of 7 ms: memory is below the threshold again"
        );
        assert_eq!(release(Freed::Ended), "process 5 of w2 ended after a pause of 7 ms");
    }
}
