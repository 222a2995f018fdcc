//! How long kills took, as histograms: from the crossing to the signal, to the last death, and to the moment at which the
//! memory was free. They count from the start of the agent. Of a stage that was not seen nothing is counted.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::engine::KillRecord;
use crate::units::Nanos;

/// From what the quickest path takes to the longest `kill_timeout_ms` by default, in seconds.
const BUCKETS: [f64; 16] =
    [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// See the module.
#[derive(Debug)]
pub(in crate::agent) struct Latencies {
    signal: Histogram,
    death: Histogram,
    memory_back: Histogram,
}

impl Default for Latencies {
    fn default() -> Self {
        let new = || Histogram::new(BUCKETS);
        Self { signal: new(), death: new(), memory_back: new() }
    }
}

impl Latencies {
    /// A kill is over. One of a dry run is none.
    pub(in crate::agent) fn observe(&self, record: &KillRecord) {
        let (Some(crossing), false) = (record.times.crossing, record.dry_run) else { return };
        let stages = [
            (&self.signal, record.times.signal),
            (&self.death, record.times.dead),
            (&self.memory_back, record.times.memory_back),
        ];
        for (histogram, stage) in stages {
            if let Some(Nanos(at)) = stage {
                histogram.observe(Duration::from_nanos(at.saturating_sub(crossing.0)).as_secs_f64());
            }
        }
    }

    /// Adds them to the numbers of a scrape.
    pub(in crate::agent) fn register(&self, all: &mut Registry) {
        let stages = [
            ("kill_signal", "From the crossing to the signal", &self.signal),
            ("kill_death", "From the crossing to the death of the last process", &self.death),
            ("kill_memory_back", "From the crossing until the memory was free", &self.memory_back),
        ];
        for (name, help, histogram) in stages {
            all.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;

    fn shown(latencies: &Latencies) -> String {
        let (mut all, mut text) = (Registry::default(), String::new());
        latencies.register(&mut all);
        prometheus_client::encoding::text::encode(&mut text, &all).unwrap();
        text
    }

    #[test]
    fn each_stage_that_was_seen_counts_once_and_a_dry_run_never() {
        let latencies = Latencies::default();
        let count = |stage: &str| format!("kill_{stage}_seconds_count ");
        let none = shown(&latencies);
        for stage in ["signal", "death", "memory_back"] {
            assert!(none.contains(&(count(stage) + "0")), "{none}");
        }
        // Signal after 2 ms, death after 30 ms, memory not seen back.
        latencies.observe(&record());
        latencies.observe(&KillRecord { dry_run: true, ..record() });
        let one = shown(&latencies);
        assert!(one.contains(&(count("signal") + "1")) && one.contains(&(count("death") + "1")), "{one}");
        assert!(one.contains(&(count("memory_back") + "0")), "{one}");
        assert!(one.contains("kill_signal_seconds_bucket{le=\"0.0025\"} 1"), "{one}");
        assert!(one.contains("kill_signal_seconds_bucket{le=\"0.001\"} 0"), "{one}");
    }
}
