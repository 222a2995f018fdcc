//! What every kernel that this project supports must have, whatever its version.

#[test]
fn the_kernel_describes_its_types() {
    // Item numbers and struct offsets come from there; without it the agent can only poll.
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel was built without BTF");
    assert_eq!(btf.get(..2), Some([0x9f, 0xeb].as_slice()), "no BTF magic number");
}

#[test]
fn process_exits_can_be_traced() {
    // Not by tracefs, which lockdown = confidentiality closes: programs attach by the type.
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let wanted = b"\0btf_trace_sched_process_exit\0";
    assert!(btf.windows(wanted.len()).any(|name| name == wanted));
}
