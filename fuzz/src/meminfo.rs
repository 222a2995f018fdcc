//! `/proc/meminfo`: a reading is what the file says, or an error names the key that it is about.

use monitor::memory::{DomainReader, Level, Roots};

use super::files::{Contents, Files, names_the_key, value};

const KEYS: [&str; 10] = [
    "MemTotal",
    "MemAvailable",
    "MemFree",
    "Cached",
    "Buffers",
    "SwapTotal",
    "SwapFree",
    "Hugetlb",
    "HugePages_Total",
    "Hugepagesize",
];

thread_local!(static NODE: (Files, Contents) = {
    let files = Files::new(&[("meminfo", "")]);
    let meminfo = files.open("meminfo");
    (files, meminfo)
});

pub fn holds(data: &[u8]) {
    NODE.with(|(files, meminfo)| {
        meminfo.set(data);
        let roots = Roots { procfs: files.path(""), cgroupfs: files.path("") };
        for count_swap in [false, true] {
            let mut reader = DomainReader::node(&roots, None, count_swap).unwrap();
            match reader.read() {
                Ok(level) => as_written(data, level, count_swap),
                Err(error) => names_the_key(&error, data, &KEYS, b':'),
            }
        }
    });
}

fn as_written(data: &[u8], level: Level, count_swap: bool) {
    let Level::Limited(reading) = level else { panic!("{level:?}") };
    let kib = |key| value(data, key, b':', " kB");
    let must = |key| kib(key).unwrap();
    let available = match kib("MemAvailable") {
        Some(available) if available > 0 => available,
        _ => must("MemFree") + must("Cached") + must("Buffers"),
    };
    let pages = || value(data, "HugePages_Total", b':', "").filter(|pages| *pages > 0);
    let huge = kib("Hugetlb").unwrap_or_else(|| pages().map_or(0, |pages| pages * must("Hugepagesize")));
    let mut total = must("MemTotal") - huge;
    let mut used = total.saturating_sub(available);
    if count_swap {
        total += must("SwapTotal");
        used += must("SwapTotal") - must("SwapFree");
    }
    assert_eq!((reading.total.0, reading.used.0), (total << 10, used << 10));
    assert!(reading.used <= reading.total && reading.total.0 > 0);
}
