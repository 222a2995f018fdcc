//! What every kernel that this project supports must have, whatever its version.

use std::path::Path;

#[test]
fn the_kernel_describes_its_types() {
    // Item numbers and struct offsets come from there; without it the agent can only poll.
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel was built without BTF");
    assert_eq!(btf.get(..2), Some([0x9f, 0xeb].as_slice()), "no BTF magic number");
}

#[test]
fn process_exits_can_be_traced() {
    let events = Path::new("/sys/kernel/tracing/events");
    assert!(events.is_dir(), "tracefs is not mounted");
    assert!(events.join("sched/sched_process_exit/id").is_file());
}
