//! Sandboxes on the real hierarchy: what they promise the tests that use them.

use std::process::Stdio;

use super::*;
use crate::process::Process;

const MIB: u64 = 1 << 20;

#[test]
fn only_names_of_our_own_form_are_swept() {
    assert_eq!(stale::maker("monitor-test-17-3"), Some(17));
    for other in ["monitor-test-17", "monitor-test-x-3", "monitor-test-17-x", "other-17-3", "monitor-17-3"] {
        assert_eq!(stale::maker(other), None, "{other}");
    }
}

#[test]
fn a_command_is_a_member_before_it_runs() {
    let sandbox = sandbox!(64);
    let out = sandbox.command("/bin/cat").unwrap().arg("/proc/self/cgroup").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.lines().any(|line| line.ends_with(&format!(":{}", sandbox.path()))), "{text}");
}

#[test]
fn dropping_kills_the_members_of_it_and_below_and_removes_all() {
    let sandbox = sandbox!(64);
    let inner = sandbox.child("inner", None).unwrap();
    let mut child = inner.command("/bin/sleep").unwrap().arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let member = Process::open(child.id()).unwrap().unwrap();
    assert_eq!(inner.members().unwrap(), [child.id()]);
    let dir = sandbox.dir().to_path_buf();
    drop(sandbox);
    assert!(member.is_dead().unwrap());
    assert!(!dir.exists());
    drop(inner);
    assert!(!child.wait().unwrap().success());
}

#[test]
fn the_limit_can_be_moved_both_ways_and_the_counters_are_read() {
    let sandbox = sandbox!(64);
    for limit in [128 * MIB, 32 * MIB] {
        sandbox.set_limit(Bytes(limit)).unwrap();
        let file = match sandbox.version() {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        assert_eq!(fs::read_to_string(sandbox.dir().join(file)).unwrap().trim(), limit.to_string());
    }
    assert!(sandbox.used().unwrap() <= sandbox.charged().unwrap());
    assert_eq!(sandbox.oom_kills().unwrap(), 0);
}
