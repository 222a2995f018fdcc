//! One run: a sandbox with a line in it, one hog that crosses the line, and what the agent and the kernel say of it.

use anyhow::{Context, Result};
use monitor::units::Bytes;
use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::report::Kill;

use crate::peak::Peak;
use crate::victim::Victim;

/// The limit of every sandbox: far enough above the lines that nobody meets the kernel's own out-of-memory killer.
pub(crate) const LIMIT: u64 = 2 << 30;

/// What a hog takes if nobody stops it.
pub(crate) const HOG_MIB: u64 = 1800;

/// What may be left in a sandbox when the next run begins.
const REST: u64 = 8 << 20;

/// A sandbox with its line at `line` bytes.
pub(crate) struct Ground {
    pub(crate) sandbox: Sandbox,
    pub(crate) line: u64,
    /// What is used between runs, in bytes.
    held: u64,
}

/// What one run gave.
pub(crate) struct Crossed {
    pub(crate) kill: Kill,
    /// The most that was used above the line, in bytes.
    pub(crate) overshoot: Option<i64>,
}

impl Ground {
    pub(crate) fn new(line_mib: u64) -> Result<Self> {
        let sandbox = Sandbox::new(Bytes(LIMIT))?;
        sandbox.remove_on_panic();
        Ok(Self { sandbox, line: line_mib << 20, held: 0 })
    }

    /// An agent that guards it, with its line where it is said to be.
    pub(crate) fn guard(&self, flags: &[&str]) -> Result<Agent> {
        #[expect(clippy::cast_precision_loss, reason = "both are powers of two")]
        let share = self.line as f64 / LIMIT as f64;
        let threshold = format!("--usage-threshold={share}");
        Agent::guard(&self.sandbox, std::iter::once(threshold.as_str()).chain(flags.iter().copied()))
    }

    /// Page cache that is not counted as used, but in the peak.
    pub(crate) fn cached(&self) -> Result<u64> {
        Ok(self.sandbox.charged()?.0.saturating_sub(self.sandbox.used()?.0))
    }

    /// What is used now stays.
    pub(crate) fn hold(&mut self) -> Result<()> {
        self.held = self.sandbox.used()?.0;
        Ok(())
    }

    /// Waits until the last run's memory is back.
    pub(crate) fn wait_empty(&self) -> Result<()> {
        wait_for("the sandbox to be empty", PATIENCE, || {
            Ok((self.sandbox.used()?.0 < self.held + REST).then_some(()))
        })
    }

    /// How far the peak lies above the line.
    pub(crate) fn overshoot(&self, peak: &mut Peak, cached: u64) -> Result<Option<i64>> {
        let Some(most) = peak.bytes()? else { return Ok(None) };
        let used = i64::try_from(most.saturating_sub(cached)).context("a peak")?;
        Ok(Some(used - i64::try_from(self.line).context("a line")?))
    }

    /// One hog crosses the line under an agent that kills it.
    pub(crate) fn cross(&self, agent: &Agent, hog: &Hog) -> Result<Crossed> {
        self.wait_empty()?;
        let mut victim = Victim::spawn(hog, &self.sandbox)?;
        victim.register(agent)?;
        let (mut peak, cached) = (Peak::since_now(&self.sandbox)?, self.cached()?);
        victim.start()?;
        victim.wait_dead()?;
        let kill = victim.kill_of(agent)?;
        Ok(Crossed { kill, overshoot: self.overshoot(&mut peak, cached)? })
    }
}
