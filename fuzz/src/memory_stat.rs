//! `memory.stat` of a cgroup, v1 and v2: the file cache in it is what is taken off the usage, or an error names the key
//! that it is about.

use monitor::memory::{CgroupPath, DomainReader, Hierarchy, Level, Roots};

use super::files::{Contents, Files, names_the_key, value};

/// What the cgroup uses and may use.
const USAGE: u64 = 1 << 40;

/// A hierarchy with one cgroup, whose `memory.stat` changes.
struct Cgroup {
    roots: Roots,
    hierarchy: Hierarchy,
    stat: Contents,
    /// Inactive and active file cache.
    cache: [&'static str; 2],
    keys: &'static [&'static str],
    _files: Files,
}

impl Cgroup {
    fn v1() -> Self {
        let usage = USAGE.to_string();
        let files = Files::new(&[
            ("cgroup/memory/cgroup.procs", ""),
            ("cgroup/memory/memory.usage_in_bytes", "0\n"),
            ("cgroup/memory/memory.limit_in_bytes", "0\n"),
            ("cgroup/memory/memory.stat", "total_inactive_file 0\ntotal_active_file 0\n"),
            ("cgroup/memory/box/memory.limit_in_bytes", &usage),
            ("cgroup/memory/box/memory.usage_in_bytes", &usage),
        ]);
        let cache = ["total_inactive_file", "total_active_file"];
        Self::with(
            files,
            "cgroup/memory/box/memory.stat",
            cache,
            &["total_inactive_file", "total_active_file"],
        )
    }

    fn v2() -> Self {
        let usage = USAGE.to_string();
        let files = Files::new(&[
            ("cgroup/cgroup.controllers", "memory\n"),
            ("cgroup/box/memory.max", &usage),
            ("cgroup/box/memory.current", &usage),
            ("cgroup/box/memory.swap.max", "0\n"),
            ("cgroup/box/memory.swap.current", "0\n"),
        ]);
        let cache = ["inactive_file", "active_file"];
        Self::with(files, "cgroup/box/memory.stat", cache, &["inactive_file", "active_file", "swapcached"])
    }

    fn with(files: Files, stat: &str, cache: [&'static str; 2], keys: &'static [&'static str]) -> Self {
        std::fs::create_dir_all(files.path("proc")).unwrap();
        std::fs::write(files.path("proc/meminfo"), "SwapTotal: 0 kB\nSwapFree: 0 kB\n").unwrap();
        let roots = Roots { procfs: files.path("proc"), cgroupfs: files.path("cgroup") };
        let hierarchy = Hierarchy::find(&roots.cgroupfs, &roots.procfs).unwrap();
        Self { hierarchy, stat: files.open(stat), cache, keys, roots, _files: files }
    }

    fn check(&self, data: &[u8]) {
        self.stat.set(data);
        let path: CgroupPath = "/box".parse().unwrap();
        for count_swap in [false, true] {
            let mut reader = DomainReader::cgroup(&self.roots, &self.hierarchy, &path, count_swap).unwrap();
            match reader.read() {
                Ok(Level::Limited(reading)) => {
                    let cache = self.cache.map(|key| value(data, key, b' ', "").unwrap());
                    assert_eq!(reading.used.0, USAGE.saturating_sub(cache[0] + cache[1]));
                    assert_eq!(reading.total.0, USAGE);
                }
                Ok(level) => panic!("{level:?}"),
                Err(error) => names_the_key(&error, data, self.keys, b' '),
            }
        }
    }
}

thread_local!(static BOXES: [Cgroup; 2] = [Cgroup::v1(), Cgroup::v2()]);

pub fn holds(data: &[u8]) {
    BOXES.with(|boxes| boxes.iter().for_each(|each| each.check(data)));
}
