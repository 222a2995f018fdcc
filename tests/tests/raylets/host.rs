//! Raylets that no cgroup limits, so that they read /proc/meminfo, and users without privileges.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use monitor_tests::agent::Agent;
use monitor_tests::process::lives;
use monitor_tests::sandbox;

use super::stand_in::{FLAGS, How, Namespace, Raylet, USER, USUAL, attached, installed};
use super::{killed_once, register};

#[test]
fn a_raylet_of_a_host_without_a_limit_reads_meminfo_and_kills_when_it_is_asked() {
    let sandbox = sandbox!(300);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let how = How { sizes: "30 260", namespace: Namespace::Host, ..USUAL };
    let raylet = Raylet::start(&sandbox, how);
    let view = attached(&agent, &raylet);
    assert_eq!(view["reads"], "meminfo", "{view}");
    let pids = raylet.workers(2);
    let _caller = register(&agent, &pids);
    let kill = killed_once(&agent);
    assert_eq!(kill["victims"][0]["pid"], pids[1], "{kill}");
    assert_eq!(kill["left_to"]["executor"], raylet.pid(), "{kill}");
    assert!(lives(pids[0]).unwrap());
    // It saw more than its line once, and nobody else did.
    let line = view["threshold"].as_u64().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(raylet.seen().iter().filter(|used| **used > line).count(), 1, "{:?}", raylet.seen());
    let theirs = fs::read_to_string(format!("/proc/{}/root/proc/meminfo", raylet.pid())).unwrap();
    assert_eq!(theirs.lines().count(), fs::read_to_string("/proc/meminfo").unwrap().lines().count());
}

/// `monitor ray run ARGS` as somebody without privileges.
fn ray_run(monitor: &std::path::Path, args: &[&str]) -> Output {
    let mut command = Command::new(monitor);
    command.args(["ray", "run"]).args(args).env("TMPDIR", "/somewhere").env("MALLOC_ARENA_MAX", "3");
    command.uid(USER).gid(USER).output().unwrap()
}

#[test]
fn a_user_without_privileges_gets_a_mount_namespace_and_nothing_else() {
    let dir = installed(true);
    let monitor = dir.path().join("monitor");
    let say = "cat /proc/self/status; readlink /proc/self/ns/mnt /proc/self/ns/user; env";
    let out = ray_run(&monitor, &["--", "sh", "-c", say]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    let has = |line: &str| said.lines().any(|said| said == line);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(has(&format!("{set}:\t0000000000000000")), "{set}: {said}");
    }
    for ids in ["Uid", "Gid"] {
        assert!(has(&format!("{ids}:\t{USER}\t{USER}\t{USER}\t{USER}")), "{ids}: {said}");
    }
    let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    assert!(!has(&own("mnt")) && has(&own("user")), "{said}");
    // Also what the C library takes from a program with a capability.
    for variable in ["TMPDIR=/somewhere", "MALLOC_ARENA_MAX=3", "RAY_worker_killing_policy_by_group=true"] {
        assert!(has(variable), "{variable}: {said}");
    }
    // Root's part is root's.
    let refused = ray_run(&monitor, &["--user", "root", "--", "id"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
}

#[test]
fn without_the_capability_a_user_is_told_what_to_do() {
    let dir = installed(false);
    let out = ray_run(&dir.path().join("monitor"), &["--", "id"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0));
    assert!(said.contains("Operation not permitted") && said.contains("setcap"), "{said}");
}

#[test]
fn a_raylet_that_a_user_started_so_is_attached() {
    let sandbox = sandbox!(300);
    let dir = installed(true);
    let agent = Agent::guard(&sandbox, FLAGS).unwrap();
    let monitor = dir.path().join("monitor");
    let raylet = Raylet::start(&sandbox, How { namespace: Namespace::OfUser(&monitor), ..USUAL });
    let view = attached(&agent, &raylet);
    assert_eq!((&view["reads"], &view["uid"]), (&"meminfo".into(), &USER.into()), "{view}");
}
