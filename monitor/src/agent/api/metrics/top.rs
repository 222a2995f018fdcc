//! The largest workers, by their place: as many series as there are places, whatever workers come and go.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::units::Bytes;
use crate::worker::MemoryFacts;

/// How many there are.
pub(in crate::agent) const MOST: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPlace {
    rank: u64,
}

/// One worker.
type Large = (Bytes, MemoryFacts);

/// The largest first.
pub(super) fn register(all: &mut Registry, largest: &[Large]) {
    let mut sized = |name: &str, help: &str, value: &dyn Fn(&Large) -> Option<i64>| {
        let family = Family::<OfPlace, Gauge>::default();
        for (rank, worker) in (1..).zip(largest.iter().take(MOST)) {
            if let Some(value) = value(worker) {
                family.get_or_create(&OfPlace { rank }).set(value);
            }
        }
        all.register_with_unit(name, help, Unit::Bytes, family);
    };
    let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX));
    sized("worker_memory", "What the largest workers hold; rank 1 is the largest", &|(held, _)| {
        bytes(Some(*held))
    });
    sized("worker_memory_peak", "The most that each of them held", &|(_, facts)| bytes(facts.memory_peak));
    sized(
        "worker_memory_expected",
        "What each of them declared, or else what was learned of its name",
        &|(_, facts)| bytes(facts.memory_declared.or(facts.memory_learned)),
    );
    sized("worker_growth_per_minute", "By how much each of them grew within the last minute", &|(
        _,
        facts,
    )| {
        facts.growth_minute
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_series_as_places_and_none_of_what_is_not_known() {
        let mut all = Registry::default();
        let facts = MemoryFacts { growth_minute: Some(-7), ..MemoryFacts::default() };
        let largest: Vec<Large> = (0..9).map(|less| (Bytes(100 - less), facts)).collect();
        register(&mut all, &largest);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &all).unwrap();
        assert_eq!(text.matches("worker_memory_bytes{rank=").count(), MOST, "{text}");
        assert!(text.contains("worker_memory_bytes{rank=\"1\"} 100\n"), "{text}");
        assert!(text.contains("worker_growth_per_minute_bytes{rank=\"5\"} -7\n"), "{text}");
        assert!(!text.contains("worker_memory_peak_bytes{"), "{text}");
    }
}
