//! What this kernel has of the things that the agent can use. Looks, changes nothing but a cgroup of its own.

use std::fs;
use std::path::Path;

use monitor_tests::vm_line::Line;

use crate::Results;

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Tracepoints: BTF names a type for each, also where lockdown empties tracefs.
const TRACEPOINTS: [(&str, &str); 2] =
    [("memcg:mod_memcg_lruvec_state", "mod_memcg_lruvec_state"), ("kmem:rss_stat", "rss_stat")];

/// Files that are the fact by being there.
const FILES: [(&str, &str); 4] = [
    ("BTF", BTF),
    ("tracefs", "/sys/kernel/tracing/events/sched"),
    ("PSI", "/proc/pressure/memory"),
    ("cgroup v1 memory", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
];

/// Files that a cgroup below the root has, or not.
const CGROUP_FILES: [&str; 4] = ["memory.max", "memory.peak", "memory.reclaim", "cgroup.kill"];

/// Sends them all.
pub(crate) fn send(results: &mut Results) {
    let mut fact = |name: &str, value: &str| {
        results.send(&Line::Fact { name: name.into(), value: value.trim().into(), why: String::new() });
    };
    let yes_no = |present: bool| if present { "yes" } else { "no" };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    fact("release", &release);
    fact("page size", page_size(&fs::read_to_string("/proc/self/smaps").unwrap_or_default()));
    for (name, path) in FILES {
        fact(name, yes_no(Path::new(path).exists()));
    }
    let btf = fs::read(BTF).unwrap_or_default();
    let btf = String::from_utf8_lossy(&btf);
    for (name, event) in TRACEPOINTS {
        fact(name, yes_no(btf.contains(&format!("\0btf_trace_{event}\0"))));
    }
    let probe = Path::new("/sys/fs/cgroup/vm-init-probe");
    let made = fs::create_dir(probe).is_ok();
    for file in CGROUP_FILES {
        fact(file, yes_no(made && probe.join(file).exists()));
    }
    let _ = fs::remove_dir(probe);
    fact("lockdown", &lockdown(&fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default()));
}

/// Every mapping of this program says it: `KernelPageSize:        4 kB`.
fn page_size(smaps: &str) -> &str {
    smaps.lines().find_map(|line| line.strip_prefix("KernelPageSize:")).map_or("unknown", str::trim)
}

/// The file holds all modes with the active one in brackets: `none [integrity] confidentiality`.
fn lockdown(file: &str) -> String {
    let active = file.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    active.map_or("absent", |(mode, _)| mode).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{lockdown, page_size};

    #[test]
    fn the_size_of_a_page_is_that_of_any_mapping() {
        assert_eq!(page_size("00400000-00401000 r--p\nKernelPageSize:       64 kB\n"), "64 kB");
        assert_eq!(page_size(""), "unknown");
    }

    #[test]
    fn the_active_lockdown_mode_is_the_one_in_brackets() {
        assert_eq!(lockdown("none [integrity] confidentiality\n"), "integrity");
        assert_eq!(lockdown(""), "absent");
    }
}
