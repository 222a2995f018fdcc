//! The program's own code in memory: the start needs much of it (options, configuration, the kernel's types), the loop
//! little. What stays in memory would be locked there.

use std::fs;
use std::ops::Range;

/// Takes all code of this program out of this process's memory. What is needed again comes back by itself, page by page:
/// it is still in the page cache.
pub(super) fn forget() {
    let (Ok(program), Ok(maps)) = (fs::read_link("/proc/self/exe"), fs::read_to_string("/proc/self/maps"))
    else {
        return;
    };
    for code in program.to_str().into_iter().flat_map(|program| code_of(program, &maps)) {
        // SAFETY: a private mapping of a file that nobody ever writes to, by its protection: all of its pages are the
        // file's, and the next access maps them again. The kernel refuses what cannot be dropped.
        unsafe {
            libc::madvise(std::ptr::without_provenance_mut(code.start), code.len(), libc::MADV_DONTNEED);
        }
    }
}

/// The addresses that a program's code is at, by /proc/PID/maps. Only what can be executed and not be written: the loader
/// has changed pages of what is now read-only data.
fn code_of(program: &str, maps: &str) -> Vec<Range<usize>> {
    let code = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (protection, _) = rest.split_once(' ')?;
        let (_, file) = rest.split_once('/')?;
        if protection != "r-xp" || file != program.strip_prefix('/')? {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_executed_of_the_program_itself_is_its_code() {
        let maps = "\
            55d0a0000000-55d0a0100000 r--p 00000000 fe:00 123   /usr/bin/monitor\n\
            55d0a0100000-55d0a0180000 r-xp 00100000 fe:00 123   /usr/bin/monitor\n\
            55d0a0180000-55d0a0190000 rw-p 00180000 fe:00 123   /usr/bin/monitor\n\
            7f0000000000-7f0000100000 r-xp 00000000 fe:00 456   /usr/lib/libc.so.6\n\
            7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0     [vdso]\n";
        let code = code_of("/usr/bin/monitor", maps);
        assert_eq!((code.len(), code[0].clone()), (1, 0x55d0_a010_0000..0x55d0_a018_0000));
        assert!(code_of("/usr/bin/other", maps).is_empty());
        assert!(code_of("/usr/bin/monitor", "nonsense\n\n").is_empty());
    }

    /// How much of this program's code this process has in memory, in KiB.
    fn resident() -> u64 {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let code = smaps.lines().skip_while(|line| code_of(program.to_str().unwrap(), line).is_empty());
        let rss = code.into_iter().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_forgotten_leaves_memory_and_comes_back() {
        let before = resident();
        forget();
        let after = resident();
        assert!(0 < after && after < before, "{before} KiB, then {after} KiB");
    }
}
