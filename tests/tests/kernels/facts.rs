//! What this kernel has, looked up by other means than the agent's.

use std::fs;
use std::path::Path;

use monitor::kernel::hook::FUNCTION;
use monitor::memory::Version;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::machine;

/// Whether `category:event` is a tracepoint: its BTF names a type for each. Where tracefs shows any, it agrees. Of
/// `fentry:function`, whether there is that function.
pub(crate) fn has_tracepoint(tracepoint: &str) -> bool {
    let (category, event) = tracepoint.split_once(':').unwrap();
    let btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let has = |name: &str| String::from_utf8_lossy(&btf).contains(&format!("\0{name}\0"));
    if category == FUNCTION {
        return has(event);
    }
    let found = has(&format!("btf_trace_{event}"));
    let events = Path::new("/sys/kernel/tracing/events");
    if events.join("sched").is_dir() {
        assert_eq!(events.join(category).join(event).is_dir(), found, "BTF and tracefs differ: {tracepoint}");
    }
    found
}

/// The mode in force: of `none [integrity] confidentiality` the one in brackets.
pub(crate) fn lockdown() -> String {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let active = modes.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    active.map_or("none", |(mode, _)| mode).to_owned()
}

/// Kernel 5.15 brought the call.
pub(crate) fn has_process_mrelease() -> bool {
    machine::kernel() >= (5, 15)
}

/// Whether a cgroup of version 2 can be killed at once. With v1 others may come and go beside it: not known.
pub(crate) fn has_cgroup_kill(sandbox: &Sandbox) -> Option<bool> {
    match sandbox.version() {
        Version::V2 => Some(sandbox.dir().join("cgroup.kill").exists()),
        Version::V1 => None,
    }
}
