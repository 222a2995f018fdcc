//! `min_victim_memory`: the least that a victim should hold, so that no small worker dies for what a large one holds.

use core::fmt;
use core::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::prelude::*;
use crate::units::Bytes;

/// A size, or a share of the domain's total. On the wire a number of bytes, or a text such as `"2.5%"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MinVictimMemory {
    /// This much.
    Size(Bytes),
    /// This share of the total, from 0 to 1.
    Share(f64),
}

impl Default for MinVictimMemory {
    fn default() -> Self {
        Self::Size(Bytes(0))
    }
}

impl MinVictimMemory {
    /// In bytes, for a domain of this total.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a total is between 0 and the total"
    )]
    pub fn of(self, total: Bytes) -> Bytes {
        match self {
            Self::Size(size) => size,
            Self::Share(share) => Bytes((total.0 as f64 * share) as u64),
        }
    }
}

/// What was given is neither a number of bytes nor a percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a number of bytes nor a percentage from 0% to 100%")]
pub struct ParseMinVictimError(String);

impl FromStr for MinVictimMemory {
    type Err = ParseMinVictimError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMinVictimError(text.chars().take(40).collect());
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim_end().parse().map_err(|_| error())?;
                (0.0..=100.0).contains(&percent).then_some(Self::Share(percent / 100.0)).ok_or_else(error)
            }
            None => text.parse().map(|size| Self::Size(Bytes(size))).map_err(|_| error()),
        }
    }
}

impl fmt::Display for MinVictimMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{}", size.0),
            Self::Share(share) => write!(f, "{}%", share * 100.0),
        }
    }
}

impl Serialize for MinVictimMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Size(size) => size.serialize(serializer),
            Self::Share(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for MinVictimMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeOrShare;
        impl Visitor<'_> for SizeOrShare {
            type Value = MinVictimMemory;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a percentage of the total such as \"2.5%\"")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<MinVictimMemory, E> {
                Ok(MinVictimMemory::Size(Bytes(number)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<MinVictimMemory, E> {
                if text.ends_with('%') {
                    text.parse().map_err(E::custom)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
        }
        deserializer.deserialize_any(SizeOrShare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_read_as_they_are_written() {
        for (text, value, of_a_thousand) in [
            ("4096", MinVictimMemory::Size(Bytes(4096)), 4096),
            ("\"2.5%\"", MinVictimMemory::Share(0.025), 25),
            ("\"0%\"", MinVictimMemory::Share(0.0), 0),
        ] {
            let read: MinVictimMemory = serde_json::from_str(text).unwrap();
            assert_eq!((read, read.of(Bytes(1000))), (value, Bytes(of_a_thousand)), "{text}");
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        for bad in ["-1", "1.5", "\"101%\"", "\"-1%\"", "\"NaN%\"", "\"1\"", "null"] {
            assert!(serde_json::from_str::<MinVictimMemory>(bad).is_err(), "{bad} was taken");
        }
    }
}
