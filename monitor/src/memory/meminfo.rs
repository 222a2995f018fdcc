//! The host's memory: PROCFS/meminfo (Documentation/filesystems/proc.rst). No other file, no domain logic.

use std::path::Path;
use std::sync::Arc;

use super::error::{Defect, Flaw, ReadError};
use super::file::{Buffer, Dir, KernelFile};
use super::{Reading, Source, parse};
use crate::units::Bytes;

/// PROCFS/meminfo, held open.
#[derive(Debug)]
pub(super) struct Meminfo {
    file: KernelFile,
}

impl Meminfo {
    pub(super) fn new(procfs: &Arc<Dir>) -> Self {
        let mut file = KernelFile::new(procfs, "meminfo");
        // Opened now so that no reading pays for it; a failure shows at the first read.
        let _ = file.open();
        Self { file }
    }

    /// MemTotal and what is available of it; the swap fields only if `count_swap`.
    pub(super) fn read(&mut self, buffer: &mut Buffer, count_swap: bool) -> Result<HostMemory, ReadError> {
        self.file.read_as(buffer, |text| HostMemory::parse(text, count_swap))
    }

    /// SwapTotal and SwapFree alone.
    pub(super) fn read_swap(&mut self, buffer: &mut Buffer) -> Result<HostSwap, ReadError> {
        self.file.read_as(buffer, HostSwap::parse)
    }
}

/// The node's memory in bytes. Invariant: `ram_used <= ram_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostMemory {
    /// Without the huge pages.
    pub(super) ram_total: Bytes,
    pub(super) ram_used: Bytes,
    /// Reserved: nobody could give them back, whether they are in use or not.
    pub(super) huge_pages: Bytes,
    /// `None`: swap is not counted.
    pub(super) swap: Option<HostSwap>,
}

/// The host's swap in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostSwap {
    pub(super) total: Bytes,
    pub(super) used: Bytes,
}

impl HostMemory {
    fn parse(text: &[u8], count_swap: bool) -> Result<Self, Flaw> {
        const TOTAL: &str = "MemTotal";
        const AVAILABLE: &str = "MemAvailable";
        let keys = [TOTAL, AVAILABLE, "MemFree", "Cached", "Buffers"];
        let [total, available, free, cached, buffers] = parse::values(text, b':', keys)?;

        let total = required(TOTAL, total)?;
        if total == Bytes(0) {
            return Err(Flaw::Malformed(Some(TOTAL), Defect::Impossible("no machine has 0 bytes of memory")));
        }
        let (from, available) = match optional(AVAILABLE, available)? {
            Some(available) if available > Bytes(0) => (AVAILABLE, available),
            // docs/behavior.md#accounting; kernels before 3.14 have no MemAvailable.
            Some(_) | None => {
                let parts = required("MemFree", free)?
                    .saturating_add(required("Cached", cached)?)
                    .saturating_add(required("Buffers", buffers)?);
                ("MemFree", parts)
            }
        };
        if available > total {
            return Err(Flaw::Malformed(
                Some(from),
                Defect::Impossible("more memory is available than there is"),
            ));
        }
        let (from, huge_pages) = huge_pages(text)?;
        if huge_pages >= total {
            return Err(Flaw::Malformed(
                Some(from),
                Defect::Impossible("all memory and more is reserved as huge pages"),
            ));
        }
        let ram_total = total.saturating_sub(huge_pages);
        let swap = count_swap.then(|| HostSwap::parse(text)).transpose()?;
        // While the pool of huge pages grows, its pages can be counted in both.
        Ok(Self { ram_total, ram_used: ram_total.saturating_sub(available), huge_pages, swap })
    }

    /// The node as a domain, when no cgroup limits it further.
    pub(super) fn reading(&self) -> Reading {
        let (total, used) = match self.swap {
            Some(swap) => {
                (self.ram_total.saturating_add(swap.total), self.ram_used.saturating_add(swap.used))
            }
            None => (self.ram_total, self.ram_used),
        };
        Reading { huge_pages: self.huge_pages, ..Reading::new(total, used, Source::Meminfo) }
    }
}

/// Bytes that are reserved as huge pages; `None`: not known. A cold path.
pub(super) fn reserved(procfs: &Path) -> Option<Bytes> {
    huge_pages(&std::fs::read(procfs.join("meminfo")).ok()?).ok().map(|(_, bytes)| bytes)
}

/// Bytes of the reserved huge pages of the text of a meminfo, of all sizes where the kernel says so (since 4.16), and the
/// key that says it; of a kernel without huge pages 0.
fn huge_pages(text: &[u8]) -> Result<(&'static str, Bytes), Flaw> {
    const HUGETLB: &str = "Hugetlb";
    const PAGES: &str = "HugePages_Total";
    let [all, pages, size] = parse::values(text, b':', [HUGETLB, PAGES, "Hugepagesize"])?;
    if let Some(all) = optional(HUGETLB, all)? {
        return Ok((HUGETLB, all));
    }
    let Some(pages) = pages else { return Ok((PAGES, Bytes(0))) };
    let malformed = |what| Flaw::Malformed(Some(PAGES), what);
    let pages = parse::number(pages.trim_ascii_start()).map_err(malformed)?;
    if pages == 0 {
        return Ok((PAGES, Bytes(0)));
    }
    let bytes = pages.checked_mul(required("Hugepagesize", size)?.0);
    bytes.map(|bytes| (PAGES, Bytes(bytes))).ok_or(malformed(Defect::TooLarge))
}

impl HostSwap {
    fn parse(text: &[u8]) -> Result<Self, Flaw> {
        let [total, free] = parse::values(text, b':', ["SwapTotal", "SwapFree"])?;
        let total = required("SwapTotal", total)?;
        let free = required("SwapFree", free)?;
        if free > total {
            return Err(Flaw::Malformed(
                Some("SwapFree"),
                Defect::Impossible("more swap is free than there is"),
            ));
        }
        Ok(Self { total, used: total.saturating_sub(free) })
    }
}

fn required(key: &'static str, value: Option<&[u8]>) -> Result<Bytes, Flaw> {
    optional(key, value)?.ok_or(Flaw::Missing(key))
}

/// `   24683656 kB` in bytes. A line without its unit was cut off: its number may lack digits.
fn optional(key: &'static str, value: Option<&[u8]>) -> Result<Option<Bytes>, Flaw> {
    let Some(text) = value else { return Ok(None) };
    let malformed = |what| Flaw::Malformed(Some(key), what);
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return Err(malformed(Defect::Empty));
    }
    let digits = text.strip_suffix(b" kB").ok_or(malformed(Defect::NoUnit))?;
    let kib = parse::number(digits).map_err(malformed)?;
    let bytes = kib.checked_mul(1024).filter(|bytes| *bytes <= i64::MAX as u64);
    bytes.map(|bytes| Some(Bytes(bytes))).ok_or(malformed(Defect::TooLarge))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const GOOD: &str = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\n\
        Buffers:          50 kB\nCached:          150 kB\nSwapCached:        7 kB\n\
        SwapTotal:       500 kB\nSwapFree:        200 kB\nHugePages_Total:       0\n\
        Hugepagesize:    100 kB\n";

    fn reading(text: &str, count_swap: bool) -> Result<(u64, u64), Flaw> {
        let reading = HostMemory::parse(text.as_bytes(), count_swap)?.reading();
        Ok((reading.total.0 / 1024, reading.used.0 / 1024))
    }

    #[rstest]
    #[case::good(GOOD.to_owned(), false, (1000, 600))]
    #[case::swap(GOOD.to_owned(), true, (1500, 900))]
    #[case::available_zero(GOOD.replace("400 kB", "0 kB"), false, (1000, 700))]
    #[case::available_missing(GOOD.replace("MemAvailable", "Other"), false, (1000, 700))]
    #[case::swap_keys_not_wanted(GOOD.replace("SwapTotal", "Other"), false, (1000, 600))]
    #[case::no_last_newline(GOOD.trim_end().to_owned(), false, (1000, 600))]
    fn good(#[case] text: String, #[case] count_swap: bool, #[case] expected: (u64, u64)) {
        assert_eq!(reading(&text, count_swap), Ok(expected));
    }

    #[rstest]
    #[case("MemTotal", false)]
    #[case("SwapTotal", true)]
    #[case("SwapFree", true)]
    fn a_missing_key_is_unknown(#[case] key: &'static str, #[case] count_swap: bool) {
        assert_eq!(reading(&GOOD.replace(key, "Other"), count_swap), Err(Flaw::Missing(key)));
    }

    #[rstest]
    #[case("MemFree")]
    #[case("Cached")]
    #[case("Buffers")]
    fn without_memavailable_its_parts_are_needed(#[case] key: &'static str) {
        let text: String = GOOD
            .lines()
            .filter(|line| !line.starts_with(key) && !line.starts_with("MemAvailable"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(reading(&text, false), Err(Flaw::Missing(key)));
    }

    #[rstest]
    #[case::cut_off(GOOD.split_once(" kB\nMemFree").unwrap().0.to_owned(), "MemTotal", Defect::NoUnit)]
    #[case::no_value(GOOD.replace("MemTotal:       1000 kB", "MemTotal:"), "MemTotal", Defect::Empty)]
    #[case::negative(GOOD.replace("400 kB", "-400 kB"), "MemAvailable", Defect::NotANumber)]
    #[case::word(GOOD.replace("1000 kB", "lots kB"), "MemTotal", Defect::NotANumber)]
    #[case::bytes_overflow(GOOD.replace("1000 kB", "18014398509481984 kB"), "MemTotal", Defect::TooLarge)]
    #[case::number_overflow(GOOD.replace("1000 kB", "99999999999999999999 kB"), "MemTotal", Defect::TooLarge)]
    #[case::twice(format!("{GOOD}MemTotal: 2000 kB\n"), "MemTotal", Defect::Twice)]
    fn malformed(#[case] text: String, #[case] key: &'static str, #[case] what: Defect) {
        assert_eq!(reading(&text, false), Err(Flaw::Malformed(Some(key), what)));
    }

    #[rstest]
    #[case::total_zero("1000 kB", "0 kB", "MemTotal")]
    #[case::available_above_total("400 kB", "1001 kB", "MemAvailable")]
    #[case::swap_free_above_total("200 kB", "501 kB", "SwapFree")]
    #[case::all_is_huge_pages("HugePages_Total:       0", "Hugetlb: 1000 kB", "Hugetlb")]
    fn impossible(#[case] from: &str, #[case] to: &str, #[case] bad: &'static str) {
        let flaw = reading(&GOOD.replace(from, to), true).unwrap_err();
        assert!(matches!(flaw, Flaw::Malformed(Some(key), Defect::Impossible(_)) if key == bad), "{flaw:?}");
    }

    #[rstest]
    #[case::kernels_since_4_16(
        "HugePages_Total:       0\n",
        "HugePages_Total:       1\nHugetlb: 300 kB\n",
        300,
        300
    )]
    #[case::older_kernels("HugePages_Total:       0\n", "HugePages_Total:       3\n", 300, 300)]
    #[case::kernels_without("HugePages_Total:       0\nHugepagesize:    100 kB\n", "", 0, 600)]
    #[case::a_pool_that_grows_meanwhile("HugePages_Total:       0\n", "Hugetlb: 700 kB\n", 700, 0)]
    fn reserved_huge_pages_are_neither_total_nor_used(
        #[case] from: &str,
        #[case] to: &str,
        #[case] huge: u64,
        #[case] used: u64,
    ) {
        let host = HostMemory::parse(GOOD.replace(from, to).as_bytes(), false).unwrap();
        assert_eq!(host.huge_pages, Bytes(huge * 1024));
        let reading = host.reading();
        assert_eq!(
            (reading.total, reading.used, reading.huge_pages),
            (Bytes((1000 - huge) * 1024), Bytes(used * 1024), Bytes(huge * 1024))
        );
    }

    #[rstest]
    #[case::no_unit("Hugetlb: 300\n", "Hugetlb", Defect::NoUnit)]
    #[case::word("Hugetlb: many kB\n", "Hugetlb", Defect::NotANumber)]
    #[case::cut_off("Hugetlb:", "Hugetlb", Defect::Empty)]
    #[case::pages("HugePages_Total: x\nHugepagesize: 4 kB\n", "HugePages_Total", Defect::NotANumber)]
    #[case::too_many(
        "HugePages_Total: 9223372036854775807\nHugepagesize: 4 kB\n",
        "HugePages_Total",
        Defect::TooLarge
    )]
    fn malformed_huge_pages(#[case] lines: &str, #[case] key: &'static str, #[case] what: Defect) {
        let text = GOOD.replace("HugePages_Total:       0\nHugepagesize:    100 kB\n", lines);
        assert_eq!(reading(&text, false), Err(Flaw::Malformed(Some(key), what)));
    }

    #[test]
    fn huge_pages_without_their_size_are_unknown() {
        let text = GOOD.replace("HugePages_Total:       0\nHugepagesize:    100 kB", "HugePages_Total: 1");
        assert_eq!(reading(&text, false), Err(Flaw::Missing("Hugepagesize")));
    }

    #[test]
    fn parts_that_are_more_than_there_is_are_not_blamed_on_a_memavailable_that_is_not_there() {
        let text = GOOD.replace("MemAvailable", "Other").replace("1000 kB", "5 kB");
        let flaw = reading(&text, false).unwrap_err();
        assert!(matches!(flaw, Flaw::Malformed(Some("MemFree"), Defect::Impossible(_))), "{flaw:?}");
    }

    proptest! {
        #[test]
        fn used_never_exceeds_total(
            total: u64, available: u64, swap_total: u64, swap_free: u64, count_swap: bool,
        ) {
            let text = format!(
                "MemTotal: {total} kB\nMemAvailable: {available} kB\nMemFree: 1 kB\nCached: 1 kB\n\
                 Buffers: 1 kB\nSwapTotal: {swap_total} kB\nSwapFree: {swap_free} kB\n"
            );
            if let Ok(host) = HostMemory::parse(text.as_bytes(), count_swap) {
                let reading = host.reading();
                prop_assert!(reading.used <= reading.total && reading.total > Bytes(0));
            }
        }

        #[test]
        fn damage_never_panics(at in 0..GOOD.len(), byte: u8, length in 0..=GOOD.len()) {
            let mut text = GOOD.as_bytes().to_vec();
            text[at] = byte;
            text.truncate(length);
            if let Ok(host) = HostMemory::parse(&text, true) {
                prop_assert!(host.reading().used <= host.reading().total);
            }
        }
    }
}
