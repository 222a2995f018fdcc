//! What is said of many samples. Pure.

use serde::Serialize;

/// Samples of a whole number (nanoseconds, bytes), by nearest rank: each is one that was measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) samples: usize,
    pub(crate) p50: i64,
    pub(crate) p90: i64,
    pub(crate) p99: i64,
    pub(crate) max: i64,
}

impl Spread {
    /// `None` without samples.
    pub(crate) fn of(samples: impl IntoIterator<Item = i64>) -> Option<Self> {
        let mut sorted: Vec<i64> = samples.into_iter().collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Self { samples: sorted.len(), p50: at(50)?, p90: at(90)?, p99: at(99)?, max: at(100)? })
    }
}

/// Ratios of pairs.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ratios {
    pub(crate) pairs: usize,
    pub(crate) median: f64,
    /// A quarter lies below.
    pub(crate) lower: f64,
    /// A quarter lies above.
    pub(crate) upper: f64,
}

impl Ratios {
    /// `None` without ratios.
    pub(crate) fn of(ratios: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = ratios.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied();
        let (len, last) = (sorted.len(), sorted.len().checked_sub(1)?);
        let median = (at(last / 2)? + at(len / 2)?) / 2.0;
        Some(Self { pairs: len, median, lower: at(last / 4)?, upper: at(last - last / 4)? })
    }
}

/// Not a number without values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Ratios::of(values).map_or(f64::NAN, |ratios| ratios.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let spread = Spread::of((1..=200).rev()).unwrap();
        assert_eq!((spread.p50, spread.p90, spread.p99, spread.max), (100, 180, 198, 200));
        let one = Spread::of([7]).unwrap();
        assert_eq!((one.p50, one.p99, one.max, one.samples), (7, 7, 7, 1));
        assert!(Spread::of([]).is_none());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let ratios = Ratios::of([1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((ratios.median, ratios.pairs), (2.5, 4));
        assert!(Ratios::of([]).is_none());
    }
}
