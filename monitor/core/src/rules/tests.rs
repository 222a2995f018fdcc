//! What must hold of rules, and a second implementation that tries every rule on every process by itself, against which
//! the one with sets, places and profiles is held.

mod compile;
mod model;
mod settled;
mod threats;

use std::sync::Arc;

use super::*;
use crate::units::Pid;

/// A rule with this name and nothing in it.
fn rule(name: &str) -> RuleSpec {
    RuleSpec {
        file: "test.toml".into(),
        line: 1,
        name: Some(At::new(2, name.to_owned())),
        ..RuleSpec::default()
    }
}

/// The same, with patterns of `match`.
fn matching(name: &str, patterns: &[(PatternKey, &str)]) -> RuleSpec {
    let mut spec = rule(name);
    for (key, pattern) in patterns {
        spec.matches.patterns[*key as usize]
            .get_or_insert_with(|| At::new(3, Vec::new()))
            .value
            .push((*pattern).to_owned());
    }
    spec
}

fn protecting(name: &str, key: PatternKey, pattern: &str) -> RuleSpec {
    RuleSpec { protect: Some(At::new(4, true)), ..matching(name, &[(key, pattern)]) }
}

fn unit(mut spec: RuleSpec) -> RuleSpec {
    spec.unit = Some(At::new(5, Unit::Cgroup));
    spec
}

/// A process of a test.
#[derive(Debug, Clone)]
struct Process {
    pid: u32,
    parent: u32,
    comm: String,
    title: String,
    exe: String,
    exe_trusted: bool,
    uid: u32,
    whose: Whose,
    cgroup: String,
    trusted: usize,
    never: Option<Never>,
    kept: Option<&'static str>,
}

impl Process {
    fn new(pid: u32, parent: u32, comm: &str, cgroup: &str) -> Self {
        Self {
            pid,
            parent,
            comm: comm.to_owned(),
            title: comm.to_owned(),
            exe: format!("/usr/bin/{comm}"),
            exe_trusted: true,
            uid: 1000,
            whose: Whose::System,
            cgroup: cgroup.to_owned(),
            trusted: cgroup.len(),
            never: None,
            kept: None,
        }
    }

    fn profile(&self, rules: &Rules) -> Profile<'_> {
        let facts = Facts {
            parent: Some(Pid(self.parent)),
            comm: self.comm.as_bytes(),
            title: self.title.as_bytes(),
            exe: Some(self.exe.as_bytes()),
            exe_trusted: self.exe_trusted,
            uid: Some(self.uid),
            whose: self.whose,
            user: Some(if self.uid == 0 { "root" } else { "alice" }),
            memory: Some(Bytes(u64::from(self.pid))),
            never: self.never,
            kept: self.kept,
            ..Facts::of(Pid(self.pid))
        };
        Profile::new(facts, Arc::new(rules.place(self.cgroup.as_bytes(), self.trusted)))
    }
}

fn profiles<'p>(rules: &Rules, processes: &'p [Process]) -> Vec<Profile<'p>> {
    processes.iter().map(|process| process.profile(rules)).collect()
}

/// The workers as text: rule, then members by pid.
fn workers(rules: &Rules, processes: &[Process]) -> Vec<(String, Vec<u32>)> {
    let look = rules.look(&profiles(rules, processes));
    let members = |found: &Found<'_>| found.members.iter().map(|index| processes[*index].pid).collect();
    look.workers.iter().map(|found| (found.rule.name().to_string(), members(found))).collect()
}

fn compiled(specs: &[RuleSpec]) -> Rules {
    Rules::compile(specs, None).unwrap()
}
