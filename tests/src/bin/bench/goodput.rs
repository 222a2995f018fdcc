//! Part `goodput`: the same forty tasks of three names, ten at a time, in a box for about five of them, under everything that
//! may stand between them and the kernel's killer. What is compared is how often work was thrown away, and how long all of
//! it took.

pub(crate) mod chart;
pub(crate) mod docs;
mod ours;
mod parallel;
pub(crate) mod plain;
mod watcher;

use anyhow::Result;
use monitor::units::Bytes;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::dice::Dice;
use monitor_tests::hog::{Hog, Hold};
use serde::{Deserialize, Serialize};

use crate::Plan;

/// The box.
pub(super) const BOX: u64 = 512 << 20;

/// Its threshold, in percent of it: everybody who can be told is told this.
pub(super) const PERCENT: u64 = 95;

/// How many tasks are started at a time, as by `xargs -P` or `make -j`.
pub(super) const AT_A_TIME: usize = 10;

/// Names with what one needs in MiB, and how many there are of each: 86 MiB on average.
const NAMES: [(&str, u64, usize); 3] = [("small", 50, 16), ("middle", 90, 14), ("large", 140, 10)];

/// Every task grows for so long, and then holds what it has.
const GROWS_MS: u64 = 1_500;

/// One task.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) mib: u64,
    hold_ms: u64,
}

impl Task {
    pub(super) fn hog(&self) -> Hog {
        let hold = Hold::For(std::time::Duration::from_millis(self.hold_ms));
        let rate = Some((self.mib * 1000 / GROWS_MS).max(1));
        Hog { rate, hold, report: false, ..Hog::new(self.mib) }
    }
}

/// What came of one way to run them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) way: String,
    pub(crate) seed: u64,
    /// Attempts that were killed.
    pub(crate) kills: u32,
    /// Tasks that never came to their end.
    pub(crate) failed: u32,
    /// Until the last was done.
    pub(crate) makespan_ms: u64,
    /// How long all attempts ran together, and of that those that were killed.
    pub(crate) ran_ms: u64,
    pub(crate) lost_ms: u64,
    /// What the box used, in bytes, at these milliseconds.
    pub(crate) usage: Vec<(u64, u64)>,
}

impl Outcome {
    /// The share of the work that was thrown away.
    pub(crate) fn lost(&self) -> f64 {
        self.lost_ms as f64 / self.ran_ms.max(1) as f64
    }
}

/// The same for the same seed.
pub(super) fn tasks(seed: u64) -> Vec<Task> {
    let mut dice = Dice::new(seed);
    let mut tasks: Vec<Task> = NAMES
        .into_iter()
        .flat_map(|(name, mib, count)| std::iter::repeat_n((name, mib), count))
        .map(|(name, mib)| Task {
            name,
            mib: mib * dice.between(95, 105) / 100,
            hold_ms: dice.between(500, 3_000),
        })
        .collect();
    for at in (1..tasks.len()).rev() {
        let other = usize::try_from(dice.below(at as u64 + 1)).unwrap_or(0);
        tasks.swap(at, other);
    }
    tasks
}

pub(super) fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::new(Bytes(BOX))?;
    sandbox.remove_on_panic();
    Ok(sandbox)
}

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Outcome>> {
    let mut all = Vec::new();
    for seed in 1..=plan.seeds {
        eprintln!("goodput: seed {seed}: under the agent");
        for admission in ["off", "retries", "all"] {
            plan.go_on()?;
            all.extend(ours::measure(admission, seed)?);
        }
        eprintln!("goodput: seed {seed}: the others");
        plan.go_on()?;
        all.push(plain::measure(seed, false)?);
        plan.go_on()?;
        if plain::earlyoom_is_installed() {
            all.push(plain::measure(seed, true)?);
        } else {
            eprintln!("goodput: earlyoom is not installed, and left out");
        }
        plan.go_on()?;
        if parallel::is_installed() {
            all.push(parallel::measure(seed)?);
        } else {
            eprintln!("goodput: GNU parallel is not installed, and left out");
        }
    }
    Ok(all)
}
