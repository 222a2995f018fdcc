//! A report for people. Text from workers and their launchers is escaped: it goes to terminals and logs.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{Report, growth};
use crate::engine::{KillRecord, Trigger, VictimRecord};
use crate::printable::printable;
use crate::retry::KilledBy;
use crate::units::MemoryKind;
use crate::units::{Bytes, Nanos};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        head(&self.kill, f)?;
        for victim in &self.kill.victims {
            self.victim(victim, f)?;
        }
        if self.kill.others > 0 {
            writeln!(f, "{}: {} more, of other users", verb(&self.kill), self.kill.others)?;
        }
        self.runners_up(f)?;
        times(&self.kill, f)?;
        // What the kernel's killer freed was free before the agent could read.
        if let Some(freed) = self.freed.filter(|_| self.kill.by == KilledBy::Monitor) {
            writeln!(
                f,
                "Freed: {freed} in {} from the decision to the end of the kill",
                self.kill.domain.escape_debug()
            )?;
        }
        grown(&self.kill, f)?;
        self.users(f)?;
        if !self.advice.is_empty() {
            writeln!(f, "What to do:")?;
        }
        self.advice.iter().try_for_each(|advice| writeln!(f, "  - {}", printable(advice)))
    }
}

fn head(kill: &KillRecord, f: &mut Formatter<'_>) -> fmt::Result {
    let KillRecord { id, used, total, threshold, policy, .. } = kill;
    let domain = kill.domain.escape_debug();
    if kill.dry_run {
        let observes = kill.victims.iter().any(|victim| victim.observed);
        let why = if observes { "a rule only observes" } else { "dry run" };
        writeln!(f, "Over the threshold in {domain}: would kill {id} ({why}: nobody was signaled)")?;
    } else if kill.by == KilledBy::Kernel {
        writeln!(f, "Out of memory in {domain}: kill {id}, by the kernel")?;
        if *total > Bytes(0) {
            writeln!(f, "Memory: {used} of {total} used when it was last checked; threshold {threshold}")?;
        }
        return Ok(());
    } else {
        writeln!(f, "Out of memory in {domain}: kill {id}")?;
    }
    let excess = used.saturating_sub(*threshold);
    writeln!(
        f,
        "Memory: {used} of {total} used ({}), {excess} over the threshold of {threshold}; {}",
        percent(*used, *total),
        match kill.trigger {
            Trigger::Crossing => "a kernel hook saw it",
            Trigger::Delta => "the changes that a kernel hook counted added up to it",
            Trigger::Tick => "the regular check found it",
            Trigger::AfterKill => "still over it after the previous kill",
            Trigger::Kernel => "the kernel acted",
            Trigger::Watchdog => "the agent hung, and its watchdog checked and killed in its place",
        }
    )?;
    writeln!(f, "Policy: {}", printable(policy))?;
    if let Some(left) = &kill.left_to {
        write!(f, "Left to {}, which chooses the victim", left.executor)?;
        match &left.ours {
            Some(ours) => {
                writeln!(f, "; the agent would have chosen {}: {}", ours.worker, printable(&ours.why))?
            }
            None => writeln!(f)?,
        }
    }
    if let Some(cgroup) = &kill.cgroup_kill {
        writeln!(f, "Its own cgroup (cgroup.kill): {}", printable(cgroup))?;
    }
    if let Some(refused) = &kill.refused {
        writeln!(f, "Not signaled: {}", refused.escape_debug())?;
    }
    Ok(())
}

/// What is said of a victim, and of the kill.
fn verb(kill: &KillRecord) -> &'static str {
    match (kill.dry_run, kill.by) {
        (true, _) => "Would kill",
        (false, KilledBy::Monitor) => "Killed",
        (false, KilledBy::Kernel) => "Killed by the kernel",
    }
}

fn times(kill: &KillRecord, f: &mut Formatter<'_>) -> fmt::Result {
    let times = kill.times;
    if kill.by == KilledBy::Kernel {
        let dead = times
            .signal
            .zip(times.dead)
            .map(|(from, to)| format!(", {} after it was chosen", span(to.since(from))));
        return writeln!(f, "Dead: seen{}", dead.unwrap_or_default());
    }
    let after = |stage: Option<Nanos>| match (times.crossing, stage) {
        (Some(from), Some(to)) => format!("+{}", span(to.since(from))),
        _ => "not seen".to_owned(),
    };
    write!(f, "Times from the crossing: decision {}", after(times.decision))?;
    if !kill.dry_run {
        let (signal, dead, back) = (after(times.signal), after(times.dead), after(times.memory_back));
        let confirmed = if kill.confirmed { "confirmed" } else { "not confirmed" };
        write!(f, ", signal {signal}, death {dead}, memory back {back}; {confirmed}")?;
        if kill.memory_late {
            write!(f, ", but its memory was not free in time")?;
        }
    }
    writeln!(f)
}

fn grown(kill: &KillRecord, f: &mut Formatter<'_>) -> fmt::Result {
    let Some(grown) = kill.grown else { return Ok(()) };
    writeln!(f, "Grew in the {} before the decision:", span(growth::within(kill, grown)))?;
    growth::rows(kill).iter().try_for_each(|(what, by)| writeln!(f, "  {by:>10}  {what}"))
}

impl Report {
    fn victim(&self, victim: &VictimRecord, f: &mut Formatter<'_>) -> fmt::Result {
        let VictimRecord { worker, pid, why, .. } = victim;
        let kind = printable(&victim.kind);
        write!(f, "{}: {worker}", verb(&self.kill))?;
        if let Some(name) = &victim.name {
            write!(f, " {name:?}")?;
        }
        match &victim.owner {
            Some(owner) => write!(f, ", {kind} of owner {owner:?}, pid {pid}")?,
            None => write!(f, ", {kind} without owner, pid {pid}")?,
        }
        writeln!(f)?;
        if let Some(rule) = &victim.rule {
            let observes = if victim.observed { ", in mode observe" } else { "" };
            writeln!(f, "  rule: {}{observes}", printable(rule))?;
        }
        writeln!(f, "  why: {}", printable(why))?;
        match victim.sample {
            Some(sample) => {
                let decided = self.kill.times.decision.or(self.kill.times.signal);
                let before = decided.map_or(Duration::ZERO, |at| at.since(sample.at));
                let what = match sample.measured {
                    Some(MemoryKind::Cgroup) => "charged to its cgroup",
                    Some(MemoryKind::Pss) => "PSS, child processes included",
                    Some(MemoryKind::Rss) => "RSS, child processes included, shared pages counted whole",
                    Some(MemoryKind::Estimate) => {
                        "PSS some time before and growth since, child processes included"
                    }
                    None => "child processes included",
                };
                let measured = format!(
                    "{}, {what}, measured {} before {}",
                    sample.bytes,
                    span(before),
                    if self.kill.by == KilledBy::Kernel { "the kill" } else { "the decision" }
                );
                match victim.memory.filter(|memory| *memory > sample.bytes) {
                    Some(memory) => writeln!(f, "  memory: {memory}, by what came back; {measured}")?,
                    None => writeln!(f, "  memory: {measured}")?,
                }
            }
            None => match victim.memory {
                Some(memory) => writeln!(f, "  memory: {memory}, by what came back; not measured before")?,
                None => writeln!(f, "  memory: not measured before it was killed")?,
            },
        }
        let needs = growth::needs(&victim.facts);
        if !needs.is_empty() {
            writeln!(f, "  {}", needs.join("; "))?;
        }
        let again = match (kind.as_str(), victim.should_retry) {
            _ if self.kill.left_to.is_some() => "as Ray decides",
            // Nobody of ours starts it again.
            (_, true) if victim.rule.is_some() => "yes, by whatever started it",
            ("actor", _) => "restarted while max_restarts remain",
            (_, true) if victim.waits => "yes, once there is more room than when it was killed",
            (_, true) => "yes, while oom_retries remain",
            (_, false) => "no",
        };
        writeln!(f, "  retry: {again}")
    }

    fn runners_up(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(candidates) = self.candidates else { return Ok(()) };
        if self.runners_up.is_empty() {
            return writeln!(f, "Would be killed next: nobody; there were no other candidates");
        }
        writeln!(f, "Would be killed next, of {candidates} candidates:")?;
        self.runners_up.iter().try_for_each(|next| {
            let memory = next.memory.map_or_else(|| "not measured".to_owned(), |memory| memory.to_string());
            writeln!(f, "  {}. {}, {memory}: {}", next.rank, printable(&next.id), printable(&next.why))
        })
    }

    fn users(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let domain = self.kill.domain.escape_debug();
        if let Some(error) = &self.users_error {
            return writeln!(f, "Top memory users in {domain}: {}", printable(error));
        }
        let Some(users) = &self.users else { return Ok(()) };
        let incomplete = if users.complete { "" } else { " (incomplete: time ran out)" };
        let when = if self.kill.dry_run { "at the decision" } else { "just after the signal" };
        writeln!(f, "Top memory users in {domain}, {when}{incomplete}:")?;
        if users.top.is_empty() {
            writeln!(f, "  none")?;
        }
        users.top.iter().try_for_each(|user| {
            let killed = if self.kill.victims.iter().any(|victim| Some(victim.pid) == user.pid) {
                if self.kill.dry_run { " (would be killed)" } else { " (killed)" }
            } else {
                ""
            };
            let memory = user.memory.to_string();
            let pid = user.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            writeln!(f, "  {pid:>8}  {memory:>10}  {}{killed}", printable(&user.command))
        })?;
        match users.huge_pages {
            Some(huge) if huge > Bytes(0) => {
                writeln!(
                    f,
                    "Reserved huge pages: {huge}, left out of total and usage; killing frees none of them"
                )
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A share with one decimal, rounded down.
fn percent(part: Bytes, whole: Bytes) -> String {
    match (u128::from(part.0) * 1000).checked_div(u128::from(whole.0)) {
        Some(tenths) => format!("{}.{}%", tenths / 10, tenths % 10),
        None => "-".to_owned(),
    }
}

pub(crate) fn span(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..1000 => format!("{micros} µs"),
        micros @ 1000..1_000_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        micros => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_shares_have_one_decimal() {
        for (micros, text) in [(999, "999 µs"), (1_050, "1.0 ms"), (1_234_567, "1.2 s")] {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
        assert_eq!(percent(Bytes(19), Bytes(20)), "95.0%");
        assert_eq!(percent(Bytes(19), Bytes(0)), "-");
    }
}
