//! The threshold of a domain (docs/behavior.md#threshold): where it is, and when a domain is over it. Exact integer
//! arithmetic; no I/O, no clock.

use crate::prelude::*;
use crate::units::Bytes;

/// How much of a domain may be used, as configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The share of the total that may be used, 0 to 1.
    pub usage_threshold: f64,
    /// The bytes that are enough to leave free, where that allows more than the share does. `None`: only
    /// the share counts. Meant for the node: a domain whose total is not larger is guarded by the share.
    pub min_memory_free: Option<Bytes>,
}

/// A threshold that no domain, or not this one, can have.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    /// `usage_threshold` is not a share.
    #[error("usage_threshold {given} is out of range: 0 to 1")]
    UsageThreshold {
        /// What was configured; may be NaN.
        given: f64,
    },
    /// `min_memory_free` is more than the node has.
    #[error("min_memory_free {} is more than the total of {} bytes", given.0, total.0)]
    MinMemoryFree {
        /// What was configured.
        given: Bytes,
        /// The node's total.
        total: Bytes,
    },
}

impl Default for Threshold {
    /// docs/behavior.md#configuration: 0.95, no `min_memory_free`.
    fn default() -> Self {
        Self { usage_threshold: 0.95, min_memory_free: None }
    }
}

impl Threshold {
    /// The threshold of a domain of `total` bytes: max(floor(total × `usage_threshold`), total −
    /// `min_memory_free`), the second term only if it is set and the domain is larger than it.
    ///
    /// `usage_threshold` counts as the number a person wrote, the shortest decimal that reads back as the
    /// same f64: 0.95 of 20 is 19, although the f64 lies a little below 0.95 and would give 18.
    ///
    /// # Errors
    ///
    /// `usage_threshold` outside of 0 to 1.
    pub fn at(self, total: Bytes) -> Result<Bytes, ThresholdError> {
        let by_share = self.check_share().map(|()| share(total, self.usage_threshold))?;
        // In a domain that is not larger than it, the difference is 0 and the share is the higher line.
        let by_free = self.min_memory_free.map_or(Bytes(0), |free| total.saturating_sub(free));
        Ok(by_share.max(by_free))
    }

    /// Whether a domain of `total` bytes is too small for `min_memory_free` to mean anything in it.
    #[must_use]
    pub fn is_too_small(self, total: Bytes) -> bool {
        self.min_memory_free.is_some_and(|free| free >= total)
    }

    /// What must hold of the node, for which `min_memory_free` is meant: a setting above its total is a mistake.
    ///
    /// # Errors
    ///
    /// [`ThresholdError::MinMemoryFree`].
    pub fn check_node(self, total: Bytes) -> Result<(), ThresholdError> {
        match self.min_memory_free {
            Some(given) if given > total => Err(ThresholdError::MinMemoryFree { given, total }),
            Some(_) | None => Ok(()),
        }
    }

    /// What can be said without a domain: `usage_threshold` lies in 0 to 1.
    ///
    /// # Errors
    ///
    /// [`ThresholdError::UsageThreshold`].
    pub fn check_share(self) -> Result<(), ThresholdError> {
        if (0.0..=1.0).contains(&self.usage_threshold) {
            Ok(())
        } else {
            Err(ThresholdError::UsageThreshold { given: self.usage_threshold })
        }
    }
}

/// floor(total × fraction) with the fraction read as a decimal; `fraction` lies in 0 to 1.
fn share(total: Bytes, fraction: f64) -> Bytes {
    // `{:e}` writes the shortest decimal that reads back as the same f64: at most 17 digits, as in 9.5e-1.
    // `abs` because -0.0 lies in the range too.
    let text = format!("{:e}", fraction.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0u128, |number, digit| number * 10 + u128::from(digit - b'0'));
    let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    // A fraction of at most 1 never has a positive exponent, so this is the place of the last digit.
    let places = u32::try_from(decimals).unwrap_or(u32::MAX).saturating_add(exponent.unsigned_abs());
    // digits < 10^17 and total < 2^64: the product fits, and over 10^38 or more it is below one byte.
    let bytes = 10u128.checked_pow(places).map_or(0, |divisor| u128::from(total.0) * digits / divisor);
    Bytes(u64::try_from(bytes).unwrap_or(total.0))
}

/// An authoritative reading of a domain, with the line it is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What there is.
    pub total: Bytes,
    /// What is taken.
    pub used: Bytes,
    /// What may be taken, of [`Threshold::at`].
    pub threshold: Bytes,
}

impl Usage {
    /// Strictly above the threshold: the only state that leads to a kill.
    #[must_use]
    pub fn above(self) -> bool {
        self.used > self.threshold
    }

    /// The bytes above the threshold; 0 at or below it.
    #[must_use]
    pub fn excess(self) -> Bytes {
        self.used.saturating_sub(self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(total: u64, usage_threshold: f64, min_memory_free: Option<u64>) -> Result<u64, ThresholdError> {
        let min_memory_free = min_memory_free.map(Bytes);
        Threshold { usage_threshold, min_memory_free }.at(Bytes(total)).map(|bytes| bytes.0)
    }

    #[test]
    fn the_examples_of_the_specification() {
        assert_eq!(at(100, 0.5, Some(0)), Ok(100));
        assert_eq!(at(100, 0.5, Some(60)), Ok(50));
        assert_eq!(at(100, 1.0, Some(10)), Ok(100));
        assert_eq!(at(100, 0.1, Some(100)), Ok(10));
        assert_eq!(at(100, 0.0, Some(10)), Ok(90));
        assert_eq!(at(100, 0.5, None), Ok(50));
        assert_eq!(at(16_000, 0.95, None), Ok(15_200));
    }

    #[test]
    fn a_share_counts_as_the_decimal_that_was_written() {
        for (total, fraction, bytes) in [
            (20, 0.95, 19),
            (100, 0.29, 29),
            (1000, 0.001, 1),
            (10, 0.99, 9),
            (u64::MAX, 1.0, u64::MAX),
            (u64::MAX, 0.5, u64::MAX / 2),
            (10_000_000_000_000_000_000, 1e-19, 1),
            (u64::MAX, 5e-324, 0),
            (u64::MAX, -0.0, 0),
            (0, 0.95, 0),
        ] {
            assert_eq!(at(total, fraction, None), Ok(bytes), "{fraction} of {total}");
        }
    }

    #[test]
    fn what_no_domain_can_have_is_refused() {
        for given in [-0.001, 1.000_000_1, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(at(100, given, None), Err(ThresholdError::UsageThreshold { given }));
        }
        assert!(matches!(at(100, f64::NAN, None), Err(ThresholdError::UsageThreshold { .. })));
    }

    #[test]
    fn what_is_meant_for_the_node_leaves_a_small_domain_its_share() {
        for (free, bytes) in [(99, 50), (100, 50), (101, 50), (u64::MAX, 50), (49, 51)] {
            assert_eq!(at(100, 0.5, Some(free)), Ok(bytes), "{free}");
        }
        let threshold = |free| Threshold { usage_threshold: 0.5, min_memory_free: Some(Bytes(free)) };
        assert_eq!([99, 100, 101].map(|free| threshold(free).is_too_small(Bytes(100))), [false, true, true]);
        assert_eq!(threshold(100).check_node(Bytes(100)), Ok(()));
        let error = threshold(101).check_node(Bytes(100)).unwrap_err();
        assert_eq!(error.to_string(), "min_memory_free 101 is more than the total of 100 bytes");
        assert_eq!(Threshold::default().check_node(Bytes(0)), Ok(()));
        assert!(!Threshold::default().is_too_small(Bytes(0)));
    }

    #[test]
    fn above_is_strict() {
        let usage = |used| Usage { total: Bytes(100), used: Bytes(used), threshold: Bytes(95) };
        assert!(!usage(94).above() && !usage(95).above() && usage(96).above());
        assert_eq!((usage(94).excess(), usage(97).excess()), (Bytes(0), Bytes(2)));
    }

    proptest! {
        #[test]
        fn hundredths_are_exact(total: u64, percent in 0u32..=100) {
            let fraction = f64::from(percent) / 100.0;
            let exact = u128::from(total) * u128::from(percent) / 100;
            prop_assert_eq!(at(total, fraction, None).map(u128::from), Ok(exact));
        }

        #[test]
        fn never_above_the_total_and_never_off_by_more_than_a_float_can_be(
            total in 0u64..1 << 52, fraction in 0.0..=1.0f64,
        ) {
            let threshold = at(total, fraction, None).unwrap();
            prop_assert!(threshold <= total);
            #[expect(clippy::cast_precision_loss, reason = "both are below 2^52")]
            let off = (threshold as f64 - total as f64 * fraction).abs();
            prop_assert!(off <= 1.5, "off by {}", off);
        }
    }
}
