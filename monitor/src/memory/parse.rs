//! The two shapes of text these kernel files have: one number, or lines of a key and a number. Pure; works
//! on bytes, so what is not UTF-8 needs no rule of its own.

use super::Limit;
use super::error::{Defect, Flaw};
use crate::units::Bytes;

/// From here up a limit means none. Kernels write `i64::MAX` rounded down to their page size
/// (include/linux/page_counter.h, `PAGE_COUNTER_MAX`); pages are 4 to 64 KiB.
const NO_LIMIT_FROM: u64 = i64::MAX as u64 - 0xffff;

/// Decimal digits and nothing else, at most `i64::MAX`: so a sum of two cannot overflow.
pub(super) fn number(text: &[u8]) -> Result<u64, Defect> {
    if text.is_empty() {
        return Err(Defect::Empty);
    }
    let mut value: u64 = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err(Defect::NotANumber);
        }
        // Keeps going after it overflows, so that `999...x` is not a number rather than too large a one.
        value = value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    }
    if value > i64::MAX as u64 { Err(Defect::TooLarge) } else { Ok(value) }
}

/// The text of a file that holds one value: without its newline.
fn only_line(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

/// A file that holds one number of bytes.
pub(super) fn bytes(text: &[u8]) -> Result<Bytes, Flaw> {
    Ok(Bytes(number(only_line(text))?))
}

/// A file that holds a limit: a number, or `max`.
pub(super) fn limit(text: &[u8]) -> Result<Limit, Flaw> {
    if only_line(text) == b"max" {
        return Ok(Limit::Unlimited);
    }
    Ok(match bytes(text)? {
        Bytes(0) => Limit::Unlimited,
        Bytes(value) if value >= NO_LIMIT_FROM => Limit::Unlimited,
        value => Limit::At(value),
    })
}

/// As [`limit`], for a file where 0 is a real limit: `memory.swap.max`.
pub(super) fn swap_limit(text: &[u8]) -> Result<SwapLimit, Flaw> {
    if only_line(text) == b"max" {
        return Ok(SwapLimit::Unlimited);
    }
    Ok(match bytes(text)? {
        Bytes(value) if value >= NO_LIMIT_FROM => SwapLimit::Unlimited,
        value => SwapLimit::At(value),
    })
}

/// A limit on swap; 0 forbids it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SwapLimit {
    At(Bytes),
    Unlimited,
}

/// The values of `keys`, in their order, out of lines `key<separator>value`; all other lines are passed over.
/// The whole text is looked through, because a key that comes twice is a fault.
pub(super) fn values<'t, const N: usize>(
    text: &'t [u8],
    separator: u8,
    keys: [&'static str; N],
) -> Result<[Option<&'t [u8]>; N], Flaw> {
    let mut found = [None; N];
    for line in text.split(|byte| *byte == b'\n') {
        for (slot, key) in found.iter_mut().zip(keys) {
            let Some(rest) = line.strip_prefix(key.as_bytes()) else { continue };
            let value = match rest.split_first() {
                Some((first, value)) if *first == separator => value,
                // A line cut off after its key is malformed; a longer key is another key.
                None => return Err(Flaw::Malformed(Some(key), Defect::Empty)),
                Some(_) => continue,
            };
            if slot.replace(value).is_some() {
                return Err(Flaw::Malformed(Some(key), Defect::Twice));
            }
        }
    }
    Ok(found)
}

/// A value that must be there, as a number.
pub(super) fn required(key: &'static str, value: Option<&[u8]>) -> Result<Bytes, Flaw> {
    optional(key, value)?.ok_or(Flaw::Missing(key))
}

/// A value that may be absent, as a number.
pub(super) fn optional(key: &'static str, value: Option<&[u8]>) -> Result<Option<Bytes>, Flaw> {
    let Some(text) = value else { return Ok(None) };
    number(text).map(|value| Some(Bytes(value))).map_err(|what| Flaw::Malformed(Some(key), what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain(b"4096\n", Limit::At(Bytes(4096)))]
    #[case::without_newline(b"4096", Limit::At(Bytes(4096)))]
    #[case::max(b"max\n", Limit::Unlimited)]
    #[case::zero(b"0\n", Limit::Unlimited)]
    #[case::v1_none_4k_pages(b"9223372036854771712\n", Limit::Unlimited)]
    #[case::v1_none_64k_pages(b"9223372036854710272\n", Limit::Unlimited)]
    #[case::v1_none_old(b"9223372036854775807\n", Limit::Unlimited)]
    #[case::just_below(b"9223372036854710271\n", Limit::At(Bytes(9_223_372_036_854_710_271)))]
    fn limits(#[case] text: &[u8], #[case] expected: Limit) {
        assert_eq!(limit(text), Ok(expected));
    }

    #[rstest]
    #[case::empty(b"", Defect::Empty)]
    #[case::newline_only(b"\n", Defect::Empty)]
    #[case::negative(b"-1\n", Defect::NotANumber)]
    #[case::signed(b"+1\n", Defect::NotANumber)]
    #[case::words(b"maximum\n", Defect::NotANumber)]
    #[case::two_numbers(b"1 2\n", Defect::NotANumber)]
    #[case::two_lines(b"1\n2\n", Defect::NotANumber)]
    #[case::not_utf8(b"\xff\xfe\n", Defect::NotANumber)]
    #[case::above_i64(b"9223372036854775808\n", Defect::TooLarge)]
    #[case::above_u64(b"18446744073709551617\n", Defect::TooLarge)]
    fn malformed_limits(#[case] text: &[u8], #[case] expected: Defect) {
        assert_eq!(limit(text), Err(Flaw::Malformed(None, expected)));
    }

    #[test]
    fn zero_forbids_swap_and_is_no_missing_limit() {
        assert_eq!(swap_limit(b"0\n"), Ok(SwapLimit::At(Bytes(0))));
        assert_eq!(swap_limit(b"max\n"), Ok(SwapLimit::Unlimited));
    }

    #[test]
    fn a_key_is_matched_whole() {
        let text = b"total_inactive_file 1\ninactive_file_x 2\ninactive_file 3\n";
        assert_eq!(values(text, b' ', ["inactive_file", "active_file"]), Ok([Some(&b"3"[..]), None]));
    }

    #[rstest]
    #[case::twice(b"file 1\nfile 1\n", Defect::Twice)]
    #[case::cut_off(b"other 1\nfile", Defect::Empty)]
    fn malformed_keys(#[case] text: &[u8], #[case] expected: Defect) {
        assert_eq!(values(text, b' ', ["file"]), Err(Flaw::Malformed(Some("file"), expected)));
    }

    proptest! {
        #[test]
        fn numbers_are_read_back(value in 0..=i64::MAX as u64) {
            prop_assert_eq!(number(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn garbage_is_an_error_and_no_panic(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            if number(&text).is_ok() {
                prop_assert!(!text.is_empty() && text.iter().all(u8::is_ascii_digit));
            }
            let _ = (limit(&text), swap_limit(&text), values(&text, b' ', ["file"]));
        }
    }
}
