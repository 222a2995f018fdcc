//! The agent with less than root's power: as its unit starts it, and where it cannot kill; and what it tells the
//! service manager.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::{Hog, Running};
use monitor_tests::sandbox;
use serde_json::Value;

/// Nobody's.
const STRANGER: u32 = 65_534;

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitor.service")
}

/// The bits of the capabilities that the unit grants (include/uapi/linux/capability.h).
fn capabilities_of_the_unit() -> Vec<libc::c_ulong> {
    const NUMBERS: [(&str, libc::c_ulong); 9] = [
        ("CAP_DAC_READ_SEARCH", 2),
        ("CAP_KILL", 5),
        ("CAP_IPC_LOCK", 14),
        ("CAP_SYS_PTRACE", 19),
        ("CAP_SYS_ADMIN", 21),
        ("CAP_SYS_NICE", 23),
        ("CAP_SYS_RESOURCE", 24),
        ("CAP_PERFMON", 38),
        ("CAP_BPF", 39),
    ];
    let text = std::fs::read_to_string(unit()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let number = |name: &str| NUMBERS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    line.split_ascii_whitespace().map(|name| number(name).unwrap_or_else(|| panic!("{name}?"))).collect()
}

/// Leaves a command these capabilities and takes all others away for good.
fn keep_only(command: &mut Command, kept: Vec<libc::c_ulong>) {
    const LAST: libc::c_ulong = 40;
    // SAFETY: between fork and exec only prctl(2) is called: async-signal-safe, no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            for capability in (0..=LAST).filter(|capability| !kept.contains(capability)) {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            match libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
}

fn hook(status: &Value, name: &str) -> String {
    let probes = status["probes"].as_array().unwrap();
    let found = probes.iter().find(|probe| probe["name"] == name).unwrap();
    found["state"].as_str().map_or_else(|| found["state"].to_string(), str::to_owned)
}

/// The steps and what came of each.
fn survival(status: &Value) -> Vec<(String, String)> {
    let steps = status["survival"].as_array().unwrap().iter();
    steps.map(|step| (step["name"].to_string(), step["state"].to_string())).collect()
}

#[test]
fn with_the_units_capabilities_it_loads_programs_and_kills_and_reports_another_users_worker() {
    let sandbox = sandbox!(256);
    // What root has here: a container may lack something, and then so does the agent.
    let full = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let with_all: Value = full.ask("status").unwrap();
    drop(full);
    let agent = Agent::guard_changed(&sandbox, ["--usage-threshold", "0.5"], |command| {
        keep_only(command, capabilities_of_the_unit());
        Ok(())
    })
    .unwrap();
    let status: Value = agent.ask("status").unwrap();
    for name in ["memcg", "rss_stat", "exit", "lineage"] {
        assert_eq!(hook(&status, name), hook(&with_all, name), "{status}");
    }
    assert_eq!(survival(&status), survival(&with_all), "{status}");
    assert_eq!(status["protects"], true, "{status}");
    let mut command = Hog::new(160).on_line().command().unwrap();
    sandbox.enter(&mut command).unwrap();
    command.uid(STRANGER);
    let mut hog = Running::spawn(command).unwrap();
    Caller::connect_as(agent.socket(), STRANGER).unwrap().register(hog.pid(), "theirs").unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let report = wait_for("the report", PATIENCE, || {
        let out = agent.command("kills")?.arg("1").output()?;
        Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
    })
    .unwrap();
    assert!(report.contains("theirs"), "{report}");
}

/// A seccomp filter that answers kill(2) and pidfd_send_signal(2) with EPERM.
#[expect(
    clippy::cast_possible_truncation,
    reason = "numbers of system calls and a length of five, in the kernel's own types"
)]
fn forbid_killing(command: &mut Command) {
    const fn code(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
    const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    const FILTER: [libc::sock_filter; 5] = [
        // The number of the call is the first field of `seccomp_data`.
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        code(EQUALS, 1, 0, libc::SYS_kill as u32),
        code(EQUALS, 0, 1, libc::SYS_pidfd_send_signal as u32),
        code(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        code(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: between fork and exec only prctl(2) is called; the kernel copies the filter, which is a constant.
    unsafe {
        command.pre_exec(|| {
            let mut filter = FILTER;
            let program = libc::sock_fprog { len: FILTER.len() as u16, filter: filter.as_mut_ptr() };
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

#[test]
fn an_agent_that_cannot_kill_says_that_it_protects_nobody() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard_changed(&sandbox, ["--usage-threshold", "0.5"], |command| {
        forbid_killing(command);
        Ok(())
    })
    .unwrap();
    let status: Value = agent.ask("status").unwrap();
    assert_eq!(status["protects"], false, "{status}");
    let steps = status["survival"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == "self_test").unwrap();
    assert_eq!(step["state"], "failed", "{step}");
    assert!(step["why"].as_str().unwrap().contains("not permitted"), "{step}");
    let said = agent.said().join("\n");
    assert!(said.contains("this agent cannot kill, and protects nobody"), "{said}");
    let shown = agent.command("status").unwrap().output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("PROTECTS NOBODY"), "{shown}");
}

#[test]
fn the_service_manager_is_told_that_it_is_ready_works_and_stops() {
    let sandbox = sandbox!(64);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut agent = Agent::guard_changed(&sandbox, ["--refresh-ms", "600000"], |command| {
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "900000");
        Ok(())
    })
    .unwrap();
    let told = || {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    // As long as it is asked for, however seldom it reads.
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1");
    }
    agent.stop().unwrap();
    while told() != "STOPPING=1" {}
}

#[test]
fn the_unit_waits_for_what_the_agent_tells() {
    let text = std::fs::read_to_string(unit()).unwrap();
    let has = |wanted: &str| text.lines().any(|line| line == wanted);
    assert!(has("Type=notify") && text.contains("\nWatchdogSec="), "{text}");
    // It sends by AF_UNIX, and has no other family.
    assert!(has("RestrictAddressFamilies=AF_UNIX"), "{text}");
}
