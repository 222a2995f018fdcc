//! What the files say: the true usage, kept below the raylet's line, or one above it. And whether a pulse was read. Pure.

use crate::units::Bytes;

/// Files rest this far below the line: the raylet's arithmetic is that of 32-bit floats. A thousandth of the total, and no
/// less than this.
const CLEAR: Bytes = Bytes(1 << 20);

/// A pulse is this part of the total above the line.
const OVER: u64 = 100;

/// A number without its newline: always as long, so that writing it in place leaves nothing of the last one. Spaces stand in
/// front, which every reader skips; zeros would make it an octal number to some.
const WIDTH: usize = 20;

/// Which files a raylet reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A cgroup's of version 1.
    V1,
    /// A cgroup's of version 2.
    V2,
    /// /proc/meminfo: there is no limit.
    Meminfo,
}

impl Kind {
    /// The keys of `memory.stat` that Ray takes off the usage.
    pub(crate) fn cache(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["total_inactive_file", "total_active_file"],
            Self::V2 => &["inactive_file", "active_file"],
            Self::Meminfo => &[],
        }
    }
}

/// What the file says while nobody is to be killed.
pub(crate) fn resting(used: Bytes, line: Bytes, total: Bytes) -> Bytes {
    let clear = Bytes((total.0 / 1000).max(CLEAR.0));
    used.min(line.saturating_sub(clear))
}

/// What it says for one reading.
pub(crate) fn pulsed(used: Bytes, line: Bytes, total: Bytes) -> Bytes {
    let over = Bytes((total.0 / OVER).max(CLEAR.0));
    used.max(line.saturating_add(over))
}

/// A cgroup's file of one number.
pub(crate) fn number(bytes: Bytes) -> String {
    format!("{:WIDTH$}\n", bytes.0)
}

/// The whole of a meminfo in which so much is used, filled up with spaces to this length: the kernel's own numbers become
/// longer and shorter, and what is written in place must leave nothing of the last one. `None`: it is no meminfo.
pub(crate) fn meminfo(real: &str, used: Bytes, length: usize) -> Option<String> {
    /// What the number is behind, and before; the kernel gives it eight places.
    const AROUND: (&str, &str) = ("MemAvailable:   ", " kB\n");
    let total = meminfo_key(real, "MemTotal:")?;
    // With 0 Ray would add up what else is free.
    let available = (total.saturating_sub(used).0 / 1024).max(1);
    let replaced =
        real.split_inclusive('\n').find(|line| line.starts_with("MemAvailable:")).map_or(0, str::len);
    let others = real.len() - replaced + AROUND.0.len() + AROUND.1.len();
    let width = length.saturating_sub(others).max(8);
    let mut text = String::with_capacity(others + width);
    for line in real.split_inclusive('\n') {
        if line.starts_with("MemAvailable:") {
            text.push_str(&format!("{}{available:>width$}{}", AROUND.0, AROUND.1));
        } else {
            text.push_str(line);
        }
    }
    Some(text)
}

/// A number of kB of a meminfo.
pub(crate) fn meminfo_key(text: &str, key: &str) -> Option<Bytes> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

/// What a meminfo says is used.
pub(crate) fn meminfo_used(text: &str) -> Option<(Bytes, Bytes)> {
    let total = meminfo_key(text, "MemTotal:")?;
    let available = meminfo_key(text, "MemAvailable:")?;
    Some((total.saturating_sub(available), total))
}

/// The sum of the keys that Ray takes off.
pub(crate) fn cached(stat: &str, kind: Kind) -> Bytes {
    let value = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        kind.cache().contains(&key).then(|| value.trim().parse::<u64>().ok()).flatten()
    };
    Bytes(stat.lines().filter_map(value).fold(0, u64::saturating_add))
}

/// A `memory.stat` without what Ray takes off: the file with the usage has taken it off already.
pub(crate) fn stat(real: &str, kind: Kind) -> String {
    let one = |line: &str| match line.split_once(' ') {
        Some((key, _)) if kind.cache().contains(&key) => format!("{key} 0\n"),
        Some(_) | None => format!("{line}\n"),
    };
    real.lines().map(one).collect()
}

/// What readers did with the file since a pulse was written. An open that came before it counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    opened: bool,
    reads: u32,
    needed: u32,
}

impl Receipt {
    /// `needed`: how many readings the raylet takes for one kill.
    pub(crate) fn new(needed: u32) -> Self {
        Self { opened: false, reads: 0, needed }
    }

    /// A reader opened the file, read it, closed it: any of these, in this order within one event.
    pub(crate) fn take(&mut self, opened: bool, closed: bool) {
        self.opened |= opened;
        if closed && self.opened {
            self.opened = false;
            self.reads += 1;
        }
    }

    /// Whether a reader has opened it, and will read it.
    pub(crate) fn acknowledged(&self) -> bool {
        self.opened || self.begun()
    }

    /// Whether it was read at all.
    pub(crate) fn begun(&self) -> bool {
        self.reads > 0
    }

    /// Whether it was read as often as it takes.
    pub(crate) fn complete(&self) -> bool {
        self.reads >= self.needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn it_rests_below_the_line_and_tells_the_truth_there() {
        let (total, line) = (Bytes(4 * GIB), Bytes(3 * GIB));
        assert_eq!(resting(Bytes(GIB), line, total), Bytes(GIB));
        let rest = resting(Bytes(4 * GIB), line, total);
        assert!(rest < line && rest.0 > line.0 - line.0 / 100, "{rest}");
        // As the raylet compares: both as 32-bit floats.
        #[expect(clippy::cast_precision_loss, reason = "that is the question")]
        let share = |bytes: Bytes| bytes.0 as f32 / total.0 as f32;
        assert!(share(rest) < share(line));
        assert!(pulsed(Bytes(GIB), line, total) > line);
        assert_eq!(pulsed(Bytes(4 * GIB), line, total), Bytes(4 * GIB), "the truth, where that is more");
        assert_eq!(resting(Bytes(5), Bytes(0), Bytes(10)), Bytes(0));
    }

    #[test]
    fn a_number_always_has_the_same_width() {
        assert_eq!(number(Bytes(7)), "                   7\n");
        assert_eq!(number(Bytes(u64::MAX)).len(), number(Bytes(0)).len());
    }

    #[test]
    fn a_meminfo_changes_in_one_number() {
        let real = "MemTotal:       24689084 kB\nMemFree:        20000000 kB\nMemAvailable:   23000000 kB\nCached:  1 kB\n";
        let fed = meminfo(real, Bytes(24_000_000 * 1024), real.len()).unwrap();
        assert_eq!(fed, real.replace("23000000", "  689084"));
        assert_eq!(fed.len(), real.len());
        assert_eq!(meminfo_used(&fed), Some((Bytes(24_000_000 * 1024), Bytes(24_689_084 * 1024))));
        assert_eq!(meminfo("nothing", Bytes(1), 0), None);
    }

    #[test]
    fn a_meminfo_is_as_long_whatever_its_numbers() {
        let of = |free: u64, available: u64| {
            let real = format!(
                "MemTotal:       400000000 kB\nMemFree:        {free:>8} kB\nMemAvailable:   {available:>8} kB\nCached:  1 kB\n"
            );
            let fed = meminfo(&real, Bytes((400_000_000 - available) * 1024), 160).unwrap();
            assert_eq!(meminfo_used(&fed), meminfo_used(&real));
            assert!(fed.lines().all(|line| line.ends_with(" kB")), "{fed}");
            fed.len()
        };
        assert_eq!([of(100_000_000, 200_000_000), of(99_999_999, 99_999_999), of(7, 8)], [160; 3]);
    }

    #[test]
    fn what_ray_takes_off_is_taken_off_once() {
        let real = "cache 5\nactive_file 9\ntotal_inactive_file 100\ntotal_active_file 23\nrss 1\n";
        assert_eq!(cached(real, Kind::V1), Bytes(123));
        let fed = stat(real, Kind::V1);
        assert_eq!(fed, "cache 5\nactive_file 9\ntotal_inactive_file 0\ntotal_active_file 0\nrss 1\n");
        assert_eq!(cached(&fed, Kind::V1), Bytes(0));
        assert_eq!(cached(real, Kind::V2), Bytes(9));
    }

    #[test]
    fn a_receipt_is_an_open_after_the_pulse_and_its_close() {
        let mut receipt = Receipt::new(1);
        receipt.take(false, true);
        assert!(!receipt.complete(), "it was opened before");
        assert!(!receipt.acknowledged());
        receipt.take(true, false);
        assert!(receipt.acknowledged() && !receipt.complete());
        receipt.take(false, true);
        assert!(receipt.complete());
        let mut both = Receipt::new(2);
        both.take(true, true);
        assert!(both.begun() && !both.complete());
        both.take(true, true);
        assert!(both.complete());
    }
}
