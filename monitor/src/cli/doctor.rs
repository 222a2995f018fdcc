//! `monitor doctor`: what this kernel has, what can be attached, and what follows. Needs no agent; loads the kernel
//! programs for a moment, so what it says of them was tried, not guessed. Signals nobody.

mod cgroups;
mod guard;
mod hooks;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use monitor_common::{NO_PARENT, NODE_CELL, Wanted};
use serde::Serialize;

use self::cgroups::{cgroup_kill, hierarchy, named};
use super::exit;
use super::roots::Roots;
use crate::kernel::cells::Tuning;
use crate::kernel::hook::Hook;
use crate::kernel::probe::Probe;
use crate::kernel::programs::{KernelLog, Programs};
use crate::kill::{Process, Released, process_mrelease};
use crate::memory::{DomainReader, Hierarchy};
use crate::units::Pid;

/// Check whether this machine can be protected
///
/// Looks for what the agent needs from this kernel, and loads the kernel programs for a moment. Kills nobody.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 an agent started by this user could protect this machine; 1 it could not; 2 wrong arguments."
)]
pub(super) struct Args {
    #[command(flatten)]
    roots: Roots,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of looking for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Missing,
    Denied,
    Failed,
}

/// One thing that was looked for.
#[derive(Debug, Serialize)]
struct Fact {
    name: Cow<'static, str>,
    state: State,
    /// What was found, or why not.
    found: String,
    /// What is different without it; none if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    without: Option<String>,
    /// Without it nothing is protected.
    essential: bool,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Diagnosis {
    kernel: String,
    /// Whether an agent started like this could protect this node.
    protects: bool,
    /// In a sentence: how, or why not.
    verdict: String,
    facts: Vec<Fact>,
    hooks: Vec<Probe>,
}

pub(super) fn run(args: &Args) -> u8 {
    let diagnosis = diagnose(&args.roots);
    let text = if args.json {
        serde_json::to_string_pretty(&diagnosis).map(|json| json + "\n").unwrap_or_default()
    } else {
        words(&diagnosis)
    };
    match super::ask::print(&text) {
        exit::OK if !diagnosis.protects => exit::FAILED,
        status => status,
    }
}

fn diagnose(roots: &Roots) -> Diagnosis {
    let mut programs = Programs::load(KernelLog::Off);
    if let Ok(programs) = &mut programs {
        // Nothing is guarded: it counts, and tells nobody.
        programs.cells.cells.describe(NODE_CELL, NO_PARENT, Tuning::new(1, 1));
        programs.links.choose(&Hook::USAGE);
        Hook::USAGE
            .into_iter()
            .for_each(|hook| programs.links.attach_counting(hook, &mut programs.cells.cells));
        // Refused, they show as detached.
        let _ = programs.links.follow_rules(Some(&Wanted::new(Some(&[]))));
    }
    let hooks: Vec<Probe> = match &programs {
        Ok(programs) => programs.links.probes().to_vec(),
        Err(rows) => rows.to_vec(),
    };
    drop(programs);
    let mut facts = vec![
        node(roots),
        hierarchy(roots),
        pidfd(),
        mrelease(),
        cgroup_kill(roots),
        file("pressure", &roots.procfs.join("pressure/memory"), "memory pressure (PSI) is not reported"),
        file(
            "btf",
            Path::new("/sys/kernel/btf/vmlinux"),
            "no kernel program can be loaded: the agent checks every refresh_ms only",
        ),
        lockdown(),
        capabilities(&roots.procfs),
    ];
    facts.push(guard::rules(roots));
    facts.extend(roots.cgroups.iter().map(|cgroup| named(roots, cgroup)));
    let protects = facts.iter().all(|fact| !fact.essential || fact.state == State::Ok);
    let verdict = verdict(protects, &facts, &hooks);
    let kernel = fs::read_to_string(roots.procfs.join("sys/kernel/osrelease")).unwrap_or_default();
    Diagnosis { kernel: kernel.trim().to_owned(), protects, verdict, facts, hooks }
}

fn verdict(protects: bool, facts: &[Fact], hooks: &[Probe]) -> String {
    if !protects {
        let lacks = facts.iter().filter(|fact| fact.essential && fact.state != State::Ok);
        let lacks: Vec<&str> = lacks.map(|fact| &*fact.name).collect();
        if lacks.iter().all(|name| name.starts_with(cgroups::NAMED)) {
            return format!("The cgroups that you named cannot be guarded: {}.", lacks.join(", "));
        }
        return format!("This machine cannot be protected: the check failed for {}.", lacks.join(", "));
    }
    let how = match hooks.iter().find(|row| row.counts == Some(true)) {
        Some(row) => format!(
            "a kernel hook ({}) sees memory use exceed a threshold within microseconds, and the brake is available",
            row.tracepoint
        ),
        None => "without kernel hooks the agent checks every refresh_ms, so fast allocation can run ahead of it, and the brake is not available"
            .to_owned(),
    };
    // Of the facts it is the one that depends on who asks.
    let lacks_kill = |fact: &Fact| fact.name == CAPABILITIES_FACT && fact.found.contains(CAPABILITIES[0].0);
    if !facts.iter().any(lacks_kill) {
        return format!("This machine can be protected: {how}.");
    }
    let ask_root = if rustix::process::geteuid().is_root() {
        ""
    } else {
        " As root, monitor doctor says what the service can do."
    };
    format!("Only workers of this user can be protected, because CAP_KILL is missing: {how}.{ask_root}")
}

fn ok(name: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Fact {
    Fact { name: name.into(), state: State::Ok, found: found.into(), without: None, essential: false }
}

fn lacks(name: impl Into<Cow<'static, str>>, state: State, found: impl Into<String>, without: &str) -> Fact {
    Fact {
        name: name.into(),
        state,
        found: found.into(),
        without: Some(without.to_owned()),
        essential: false,
    }
}

fn node(roots: &Roots) -> Fact {
    let both = roots.roots();
    let hierarchy = Hierarchy::find(&both.cgroupfs, &both.procfs).ok();
    let level = DomainReader::node(&both, hierarchy.as_ref(), false).and_then(|mut node| node.read());
    let fact = match level {
        Ok(_) => ok("node", "its memory can be read"),
        Err(error) => lacks("node", State::Failed, error.to_string(), "the node cannot be guarded"),
    };
    Fact { essential: true, ..fact }
}

fn pidfd() -> Fact {
    // Of itself: always allowed, so what fails is the call.
    let fact = match Process::open_unchecked(Pid(std::process::id())) {
        Ok(_) => ok("pidfd", "a signal cannot reach the wrong process"),
        Err(error) => lacks("pidfd", State::Missing, error.to_string(), "no worker can be killed safely"),
    };
    Fact { essential: true, ..fact }
}

fn mrelease() -> Fact {
    // Not a pidfd: a kernel that knows the call says so.
    match process_mrelease(io::stderr().as_fd()) {
        Released::Unsupported => lacks(
            "process_mrelease",
            State::Missing,
            "this kernel (older than 5.15) does not have it",
            "a victim's memory comes back only when it exits",
        ),
        Released::Done | Released::AlreadyGone | Released::Refused(_) => {
            ok("process_mrelease", "a victim's memory can be freed early")
        }
    }
}

/// A file that says by being readable that the kernel has something.
fn file(name: &'static str, path: &Path, without: &'static str) -> Fact {
    match fs::File::open(path) {
        Ok(_) => ok(name, path.display().to_string()),
        Err(error) => {
            let state = match error.kind() {
                io::ErrorKind::NotFound => State::Missing,
                io::ErrorKind::PermissionDenied => State::Denied,
                _ => State::Failed,
            };
            lacks(name, state, format!("{}: {error}", path.display()), without)
        }
    }
}

/// For people only: what lockdown refuses, the rows of the hooks show. The programs read through BTF pointers, without the
/// helpers that confidentiality takes away (bpf_tracing_func_proto, kernel 6.18), so all modes let them run.
fn lockdown() -> Fact {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    // `none [integrity] confidentiality`: the mode in force is in brackets.
    let active = modes.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    ok("lockdown", active.map_or("none", |(mode, _)| mode))
}

const CAPABILITIES_FACT: &str = "capabilities";

/// The capabilities that matter, their bits (include/uapi/linux/capability.h), and what is different without each.
const CAPABILITIES: [(&str, u32, &str); 4] = [
    ("CAP_KILL", 5, "it can kill only workers of its own user"),
    ("CAP_SYS_RESOURCE", 24, "the kernel's OOM killer may choose the agent itself"),
    ("CAP_PERFMON", 38, "no kernel programs, except with CAP_SYS_ADMIN"),
    ("CAP_BPF", 39, "no kernel programs, except with CAP_SYS_ADMIN"),
];

fn capabilities(procfs: &Path) -> Fact {
    let status = fs::read_to_string(procfs.join("self/status")).unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(bits) = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()) else {
        return lacks(
            CAPABILITIES_FACT,
            State::Failed,
            "no CapEff line in its status file",
            "the agent's privileges are not known",
        );
    };
    let lacking = || CAPABILITIES.iter().filter(|(_, bit, _)| bits >> bit & 1 == 0);
    let names: Vec<&str> = lacking().map(|(name, _, _)| *name).collect();
    if names.is_empty() {
        return ok(CAPABILITIES_FACT, "all that the agent can use");
    }
    let mut without: Vec<&str> = lacking().map(|(_, _, without)| *without).collect();
    without.dedup();
    lacks(CAPABILITIES_FACT, State::Denied, format!("without {}", names.join(", ")), &without.join("; "))
}

fn words(diagnosis: &Diagnosis) -> String {
    let mut out = format!("kernel {}\n\n", diagnosis.kernel);
    for Fact { name, state, found, without, .. } in &diagnosis.facts {
        out.push_str(&format!("[{}] {name}: {found}\n", if *state == State::Ok { "ok" } else { "--" }));
        if let Some(without) = without {
            out.push_str(&format!("     without it: {without}\n"));
        }
    }
    out.push_str(&hooks::words(&diagnosis.hooks));
    out.push_str(&format!("\n{}\n", diagnosis.verdict));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cap_kill_only_the_callers_own_workers_are_promised() {
        let denied = |found: &str| [lacks(CAPABILITIES_FACT, State::Denied, found, "")];
        let said = verdict(true, &denied("without CAP_KILL, CAP_BPF"), &[]);
        assert!(said.starts_with("Only workers of this user can be protected"), "{said}");
        let said = verdict(true, &denied("without CAP_BPF"), &[]);
        assert!(said.starts_with("This machine can be protected"), "{said}");
    }
}
