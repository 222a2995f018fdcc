//! Forms of numeric values: times, shares, sizes, counts.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{Form, Shape, quote, utf8, wrong_type};
use crate::config::error::Refusal;
use crate::config::source::Given;
use crate::policy::MinVictimMemory;
use crate::units::Bytes;
use crate::worker::Times;

/// The most bytes and counts a TOML integer can say, hence the most that any source may.
const MOST: u64 = i64::MAX.unsigned_abs();

/// Milliseconds from `min` to `max`.
pub(crate) struct Millis {
    /// Smallest, in ms.
    pub min: u64,
    /// Largest, in ms.
    pub max: u64,
}

impl Form for Millis {
    type Value = Duration;

    fn shape(&self) -> Shape {
        Shape::One("MS")
    }

    fn range(&self) -> String {
        format!("{} to {} (milliseconds)", self.min, self.max)
    }

    fn read(&self, given: &Given) -> Result<Duration, Refusal> {
        whole(given, "a whole number", self.min, self.max).map(Duration::from_millis)
    }

    fn json(&self, value: &Duration) -> Json {
        json!(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A share of the whole, from 0 to 1.
pub(crate) struct Fraction;

impl Form for Fraction {
    type Value = f64;

    fn shape(&self) -> Shape {
        Shape::One("FRACTION")
    }

    fn range(&self) -> String {
        "0 to 1".to_owned()
    }

    fn read(&self, given: &Given) -> Result<f64, Refusal> {
        const EXPECTED: &str = "a number";
        let number = match given {
            Given::Text(text) => {
                let text = utf8(text)?;
                text.parse().map_err(|_| Refusal::NotA { given: quote(text), expected: EXPECTED })?
            }
            Given::Float(number) => *number,
            // 0 and 1 are what people write; any other integer is out of range whatever its precision.
            Given::Integer(0) => 0.0,
            Given::Integer(1) => 1.0,
            Given::Integer(number) => return Err(Refusal::OutOfRange(number.to_string())),
            Given::Texts(_) | Given::Boolean(_) | Given::String(_) | Given::Strings(_) | Given::Other(_) => {
                return Err(wrong_type(EXPECTED, given));
            }
        };
        if number.is_nan() {
            return Err(Refusal::NotA { given: "NaN".to_owned(), expected: EXPECTED });
        }
        if !(0.0..=1.0).contains(&number) {
            return Err(Refusal::OutOfRange(number.to_string()));
        }
        // Adding zero turns -0 into 0, which would be shown with its sign.
        Ok(number + 0.0)
    }

    fn json(&self, value: &f64) -> Json {
        json!(value)
    }
}

/// A size: a number of bytes, or a number with a unit (`512MiB` and `512Mi` are 512 x 2^20, `512MB` and `512M` 512 x 10^6).
/// As with Kubernetes, and other than with systemd, where `2G` is 2 x 2^30.
pub(crate) struct Size {
    /// Smallest, in bytes.
    pub min: u64,
}

impl Form for Size {
    type Value = Bytes;

    fn shape(&self) -> Shape {
        Shape::One("BYTES")
    }

    fn range(&self) -> String {
        format!("{} to {MOST} (bytes, or with a unit: 2GiB and 2Gi are binary, 2GB and 2G decimal)", self.min)
    }

    fn read(&self, given: &Given) -> Result<Bytes, Refusal> {
        const EXPECTED: &str = "a size";
        let text = match given {
            Given::Text(text) => utf8(text)?,
            Given::String(text) => utf8(OsStr::new(text))?,
            Given::Integer(_) => return whole(given, EXPECTED, self.min, MOST).map(Bytes),
            Given::Texts(_) | Given::Float(_) | Given::Boolean(_) | Given::Strings(_) | Given::Other(_) => {
                return Err(wrong_type("an integer or a string", given));
            }
        };
        if text.trim_start_matches(['+', '-']).bytes().all(|byte| byte.is_ascii_digit()) {
            return whole(given, EXPECTED, self.min, MOST).map(Bytes);
        }
        let refused = || Refusal::NotA { given: quote(text), expected: EXPECTED };
        let size: bytesize::ByteSize = text.parse().map_err(|_| refused())?;
        // The crate would cut "0.5B" down to 0.
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
        if text.contains('.') && unit.eq_ignore_ascii_case("b") {
            return Err(refused());
        }
        // Sizes too large for the crate come back as its largest, which is above ours.
        if size.0 < self.min || size.0 > MOST {
            return Err(Refusal::OutOfRange(quote(text)));
        }
        Ok(Bytes(size.0))
    }

    fn json(&self, value: &Bytes) -> Json {
        json!(value)
    }
}

/// A size, or a percentage of a memory limit.
pub(crate) struct SizeOrShare;

impl Form for SizeOrShare {
    type Value = MinVictimMemory;

    fn shape(&self) -> Shape {
        Shape::One("SIZE")
    }

    fn range(&self) -> String {
        format!("{}, or 0% to 100%", Size { min: 0 }.range())
    }

    fn read(&self, given: &Given) -> Result<MinVictimMemory, Refusal> {
        let text = match given {
            Given::Text(text) => utf8(text)?,
            Given::String(text) => utf8(OsStr::new(text))?,
            _ => return Size { min: 0 }.read(given).map(MinVictimMemory::Size),
        };
        if text.ends_with('%') {
            return text.parse().map_err(|_| Refusal::OutOfRange(quote(text)));
        }
        Size { min: 0 }.read(given).map(MinVictimMemory::Size)
    }

    fn json(&self, value: &MinVictimMemory) -> Json {
        json!(value)
    }
}

/// How often: -1 without end, or a count.
pub(crate) struct Count;

impl Form for Count {
    type Value = Times;

    fn shape(&self) -> Shape {
        Shape::One("N")
    }

    fn range(&self) -> String {
        format!("-1 (unlimited) or 0 to {}", u32::MAX)
    }

    fn read(&self, given: &Given) -> Result<Times, Refusal> {
        let number = integer(given, "a whole number")?;
        i64::try_from(number)
            .ok()
            .and_then(|number| Times::try_from(number).ok())
            .ok_or_else(|| Refusal::OutOfRange(number.to_string()))
    }

    fn json(&self, value: &Times) -> Json {
        json!(value)
    }
}

/// A whole number of `min..=max`.
fn whole(given: &Given, expected: &'static str, min: u64, max: u64) -> Result<u64, Refusal> {
    let number = integer(given, expected)?;
    u64::try_from(number)
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| Refusal::OutOfRange(number.to_string()))
}

fn integer(given: &Given, expected: &'static str) -> Result<i128, Refusal> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match given {
        Given::Text(text) => {
            let text = utf8(text)?;
            text.parse::<i128>().map_err(|error| {
                if matches!(error.kind(), PosOverflow | NegOverflow) {
                    Refusal::OutOfRange(quote(text))
                } else {
                    Refusal::NotA { given: quote(text), expected }
                }
            })
        }
        Given::Integer(number) => Ok(*number),
        Given::Texts(_)
        | Given::Float(_)
        | Given::Boolean(_)
        | Given::String(_)
        | Given::Strings(_)
        | Given::Other(_) => Err(wrong_type("an integer", given)),
    }
}
