//! What is written down of a simulated node, month by month, and what must not grow in it. Pure but for this process's
//! own memory.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The columns of [`Month`].
pub(crate) const HEAD: &str =
    "    day  workers since   kills  decision p50/p99/max      journal a kill/file    memory  hooks attached";

/// How much larger memory may be at the end than after the first of the periods, in percent and in MiB: pages that the
/// allocator keeps for a busier moment.
const MORE: (f64, f64) = (5.0, 2.0);

/// What happened since the last closing.
#[derive(Debug, Default)]
pub(crate) struct Period {
    pub(crate) registered: u64,
    /// How long each decision took the engine, from the kernel's record to the order to kill.
    pub(crate) decisions: Vec<Duration>,
    /// Of each kill, what it took of the journal.
    pub(crate) journal: Vec<u64>,
}

/// A closed period, as a line.
#[derive(Debug, Clone)]
pub(crate) struct Month {
    pub(crate) day: u64,
    registered: u64,
    kills: usize,
    decision: [Duration; 3],
    journal_of_a_kill: f64,
    journal_file: u64,
    pub(crate) memory: f64,
    /// Share of the time in which the hook that counts usage was attached.
    attached: f64,
}

impl Period {
    pub(crate) fn close(mut self, day: u64, journal_file: u64, attached: f64) -> Result<Month> {
        self.decisions.sort_unstable();
        let at = |percent: usize| {
            let last = self.decisions.len().saturating_sub(1);
            self.decisions.get(last * percent / 100).copied().unwrap_or_default()
        };
        let bytes = self.journal.iter().sum::<u64>() as f64;
        Ok(Month {
            day,
            registered: self.registered,
            kills: self.decisions.len(),
            decision: [at(50), at(99), at(100)],
            journal_of_a_kill: bytes / 1024.0 / (self.journal.len().max(1) as f64),
            journal_file,
            memory: memory()?,
            attached,
        })
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, most] = self.decision.map(|time| time.as_nanos() as f64 / 1e3);
        let decision = format!("{p50:.0} / {p99:.0} / {most:.0} µs");
        let file = self.journal_file as f64 / f64::from(1 << 20);
        let journal = format!("{:.1} KiB / {file:.1} MiB", self.journal_of_a_kill);
        write!(
            f,
            "{:>7} {:>14} {:>7} {decision:>22} {journal:>24} {:>5.1} MiB {:>14.1}%",
            self.day,
            self.registered,
            self.kills,
            self.memory,
            100.0 * self.attached
        )
    }
}

/// Why the memory of the last is more than it may be after the first.
pub(crate) fn growth(months: &[Month]) -> Option<String> {
    let (first, last) = (months.first()?, months.last()?);
    let most = first.memory * (1.0 + MORE.0 / 100.0) + MORE.1;
    (last.memory > most).then(|| {
        format!(
            "memory grew from {:.1} MiB on day {} to {:.1} MiB on day {}",
            first.memory, first.day, last.memory, last.day
        )
    })
}

/// What this process holds, in MiB: the engine's memory and the made-up node's, which does not grow.
fn memory() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let pages: f64 = text.split(' ').nth(1).context("/proc/self/statm has no second number")?.parse()?;
    Ok(pages * rustix::param::page_size() as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(day: u64, memory: f64) -> Month {
        Month { memory, ..Period::default().close(day, 0, 0.0).unwrap() }
    }

    #[test]
    fn memory_that_grows_is_a_fault_and_memory_that_stays_is_none() {
        assert_eq!(growth(&[month(30, 40.0), month(60, 60.0), month(90, 43.0)]), None);
        let grown = growth(&[month(30, 40.0), month(60, 50.0)]).unwrap();
        assert_eq!(grown, "memory grew from 40.0 MiB on day 30 to 50.0 MiB on day 60");
    }

    #[test]
    fn a_line_has_the_median_and_the_worst() {
        let decisions = (1..=100).map(Duration::from_micros).collect();
        let period = Period { registered: 7, decisions, journal: vec![2048, 4096] };
        let line = period.close(30, 1 << 20, 0.25).unwrap().to_string();
        assert!(line.contains("50 / 99 / 100 µs") && line.contains("3.0 KiB / 1.0 MiB"), "{line}");
        assert!(line.contains("25.0%"), "{line}");
    }
}
