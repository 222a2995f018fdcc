//! From values to places in a chart, and the round values at which an axis is labeled. Pure arithmetic.

use crate::units::Bytes;

/// A stretch of values and where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    values: (f64, f64),
    places: (f64, f64),
}

impl Axis {
    /// `values` become `places`, first to first.
    pub(super) fn new(values: (f64, f64), places: (f64, f64)) -> Self {
        Self { values, places }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let (from, to) = self.values;
        let span = if to > from { to - from } else { 1.0 };
        self.places.0 + (value - from) / span * (self.places.1 - self.places.0)
    }

    pub(super) fn holds(&self, value: f64) -> bool {
        (self.values.0..=self.values.1).contains(&value)
    }
}

/// Three to six sizes from 0 up to `most`, in steps of a power of two.
pub(super) fn sizes(most: Bytes) -> Vec<Bytes> {
    let mut step = 1_u64;
    while step < 1 << 62 && most.0 / step > 5 {
        step *= 2;
    }
    (0..=most.0 / step).map(|number| Bytes(number * step)).collect()
}

/// Three to eight times between two, in nanoseconds, in steps of 1, 2 or 5.
pub(super) fn times(from: i64, to: i64) -> Vec<i64> {
    let span = to.saturating_sub(from).max(1);
    let mut step = 1_i64;
    for factor in [2, 5, 10].into_iter().cycle().scan((1_i64, 1_i64), |(decade, last), factor| {
        *last = decade.saturating_mul(factor);
        if factor == 10 {
            *decade = *last;
        }
        Some(*last)
    }) {
        if span / step <= 8 || factor == i64::MAX {
            break;
        }
        step = factor;
    }
    let first = from.div_euclid(step) + i64::from(from.rem_euclid(step) != 0);
    (first..=to.div_euclid(step)).map(|number| number * step).collect()
}

/// A time from the crossing on, with the unit that it needs.
pub(super) fn time(nanos: i64) -> String {
    let (sign, size) = (if nanos < 0 { "\u{2212}" } else { "+" }, nanos.unsigned_abs());
    match size {
        0 => "0".to_owned(),
        1..1_000_000 => format!("{sign}{} µs", size / 1000),
        1_000_000..1_000_000_000 => format!("{sign}{} ms", tenths(size, 1_000_000)),
        _ => format!("{sign}{} s", tenths(size, 1_000_000_000)),
    }
}

/// With one decimal, unless that is 0.
fn tenths(size: u64, unit: u64) -> String {
    match (size / unit, size % unit * 10 / unit) {
        (whole, 0) => whole.to_string(),
        (whole, tenths) => format!("{whole}.{tenths}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_place() {
        let axis = Axis::new((0.0, 10.0), (100.0, 0.0));
        assert_eq!((axis.place(0.0), axis.place(5.0), axis.place(10.0)), (100.0, 50.0, 0.0));
        assert!(axis.holds(10.0) && !axis.holds(10.1));
        assert_eq!(Axis::new((3.0, 3.0), (0.0, 1.0)).place(3.0), 0.0);
    }

    #[test]
    fn axes_have_a_few_round_labels_whatever_their_length() {
        for most in [1, 7, 1000, 1 << 20, 3 << 30, 999 << 40, u64::MAX] {
            let ticks = sizes(Bytes(most));
            assert!((2..=6).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!(ticks.iter().all(|tick| tick.0 <= most), "{ticks:?}");
        }
        for (from, to) in [
            (-60_000_000_000, 10_000_000_000),
            (-2_000_000, 30_000_000),
            (0, 1),
            (-5, 5),
            (i64::MIN / 4, i64::MAX / 4),
        ] {
            let ticks = times(from, to);
            assert!((1..=10).contains(&ticks.len()), "{from} {to}: {ticks:?}");
            assert!(ticks.iter().all(|tick| (from..=to).contains(tick)), "{ticks:?}");
        }
        assert_eq!(times(-60, 10), [-60, -50, -40, -30, -20, -10, 0, 10]);
    }

    #[test]
    fn a_time_has_the_unit_that_it_needs() {
        for (nanos, text) in [
            (0, "0"),
            (50_000, "+50 µs"),
            (-2_500_000, "\u{2212}2.5 ms"),
            (30_000_000, "+30 ms"),
            (-60_000_000_000, "\u{2212}60 s"),
        ] {
            assert_eq!(time(nanos), text);
        }
    }
}
