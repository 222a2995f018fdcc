//! A short soak with a fixed seed: the books balance, and an interrupted one leaves nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::{Process, die_with_parent};
use monitor_tests::skip::Lacks;
use monitor_tests::{binary, cgroup, skip};

fn soak(seconds: u64) -> Command {
    let mut command = Command::new(binary::soak().unwrap());
    command.arg(format!("--seconds={seconds}")).arg("--seed=1").stdin(Stdio::null());
    die_with_parent(&mut command);
    command
}

/// Why it cannot run here. Its sandbox takes 512 MiB, which a small virtual machine has not.
fn obstacle() -> Option<&'static str> {
    let total = rustix::system::sysinfo();
    if !cgroup::may_make() {
        Some("making cgroups needs root")
    } else if total.totalram / (1 << 20) * u64::from(total.mem_unit) < 1 << 10 {
        Some("a soak needs 1 GiB of memory")
    } else {
        None
    }
}

#[test]
fn the_books_balance() {
    if let Some(lacks) = obstacle() {
        skip!(Lacks::Machine, "{lacks}");
        return;
    }
    let out = soak(15).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("{said}{errors}");
    assert!(out.status.success(), "{}", out.status);
    let balance = said.lines().find(|line| line.starts_with("balance: ")).unwrap();
    // It did what it is for.
    assert!(!balance.contains("started 0") && !balance.contains("killed 0"), "{balance}");
}

#[test]
fn an_interrupted_one_leaves_nothing() {
    if let Some(lacks) = obstacle() {
        skip!(Lacks::Machine, "{lacks}");
        return;
    }
    let mut child = soak(600).stdout(Stdio::piped()).spawn().unwrap();
    let process = Process::open(child.id()).unwrap().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Workers run by the time of its first line of progress.
    let progress = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("launched")));
    assert!(progress.is_some());
    let left = || {
        let memory = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(Path::new).into_iter();
        let root = { memory }.find(|root| root.join("cgroup.procs").exists()).unwrap();
        let name = format!("monitor-test-{}-", process.pid());
        let entries = std::fs::read_dir(root).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name)).count()
    };
    assert_eq!(left(), 1);
    process.terminate().unwrap();
    let status = wait_for("the soak to end", PATIENCE * 3, || Ok(child.try_wait()?)).unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(left(), 0);
}

#[test]
fn a_hostile_one_finds_nothing() {
    if let Some(lacks) = obstacle() {
        skip!(Lacks::Machine, "{lacks}");
        return;
    }
    let out = soak(15).arg("--hostile").output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("{said}{errors}");
    assert!(out.status.success(), "{}", out.status);
    // It did what it is for.
    let last = said.lines().rfind(|line| line.contains("registered")).unwrap();
    assert!(!last.contains("registered 0") && !last.contains("killed 0"), "{last}");
}
