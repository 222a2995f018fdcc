//! Whether an agent's memory stays as it is, however many workers it kills: judged by all looks at it, not by the first
//! and the last. Pure.

use std::fmt;

/// How many kills fill what is kept of kills: 256 records (`kills`), with room for those that are slow to be told.
const WARM: u64 = 300;

/// Fewer kills than this after that, or fewer looks, tell nothing: one page is 16 bytes for each of 256.
const LEAST_KILLS: u64 = 250;
const LEAST_LOOKS: usize = 20;

/// How much memory a kill may leave behind for ever, in bytes. A record of one kill is five times as large; freed memory
/// that the threads keep for themselves comes in at less than half of this.
const MOST_PER_KILL: f64 = 512.0;

/// One agent's memory over its kills.
#[derive(Debug, Default)]
pub(crate) struct Flat {
    /// By time: how many workers it had killed, and its memory in KiB.
    looks: Vec<(u64, u64)>,
}

/// What all looks together say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Growth {
    /// Over how many kills.
    kills: u64,
    /// In KiB, at the first and the last look of those.
    from: u64,
    to: u64,
    /// In bytes.
    per_kill: f64,
}

impl Flat {
    pub(crate) fn look(&mut self, killed: u64, rss_kib: u64) {
        self.looks.push((killed, rss_kib));
    }

    /// `None`: it did not live long enough to tell.
    pub(crate) fn growth(&self) -> Option<Growth> {
        let warm: Vec<(u64, u64)> =
            self.looks.iter().copied().filter(|(killed, _)| *killed >= WARM).collect();
        let (&(before, from), &(after, to)) = (warm.first()?, warm.last()?);
        let kills = after - before;
        if kills < LEAST_KILLS || warm.len() < LEAST_LOOKS {
            return None;
        }
        Some(Growth { kills, from, to, per_kill: slope(&warm)? * 1024.0 })
    }
}

impl Growth {
    pub(crate) fn wrong(self) -> Option<String> {
        (self.per_kill > MOST_PER_KILL).then(|| format!("the agent grows: {self}"))
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, from, to, per_kill } = self;
        write!(f, "{from} KiB, {to} KiB {kills} kills later, {per_kill:.0} bytes for each kill")
    }
}

/// The median of the slopes between any two looks (Theil and Sen): one jump, as of a buffer that grew once, weighs
/// little.
#[expect(clippy::cast_precision_loss, reason = "KiB and kills, far below 2^52")]
fn slope(looks: &[(u64, u64)]) -> Option<f64> {
    let pairs = looks
        .iter()
        .enumerate()
        .flat_map(|(index, one)| looks[index + 1..].iter().map(move |two| (one, two)));
    let mut slopes: Vec<f64> = pairs
        .filter(|(one, two)| two.0 > one.0)
        .map(|(one, two)| (two.1 as f64 - one.1 as f64) / (two.0 - one.0) as f64)
        .collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that is looked at every 10 kills, and has `kib` of them.
    fn growth(kills: u64, kib: impl Fn(u64) -> u64) -> Option<Growth> {
        let mut flat = Flat::default();
        (0..=kills).step_by(10).for_each(|killed| flat.look(killed, kib(killed)));
        flat.growth()
    }

    #[test]
    fn a_leak_is_found_and_what_reaches_its_bound_is_not() {
        let bounded = growth(1000, |killed| 2500 + 2 * killed.min(256)).unwrap();
        assert!(bounded.wrong().is_none(), "{bounded}");
        let jump = growth(1000, |killed| 2500 + if killed > 700 { 160 } else { killed % 3 * 40 }).unwrap();
        assert!(jump.wrong().is_none(), "{jump}");
        // In pages of 4 KiB, between looks that go up and down.
        let leak = growth(1000, |killed| (2500 + killed + killed % 7 * 8) / 4 * 4).unwrap();
        assert!(leak.wrong().is_some_and(|wrong| wrong.contains("grows")) && leak.kills == 700, "{leak}");
    }

    #[test]
    fn a_short_life_tells_nothing() {
        assert_eq!(growth(500, |killed| killed * 100), None);
        let mut flat = Flat::default();
        [0, 400, 4000].into_iter().for_each(|killed| flat.look(killed, killed));
        assert_eq!(flat.growth(), None, "two looks");
    }
}
