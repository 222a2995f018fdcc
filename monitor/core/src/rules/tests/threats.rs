//! What a hostile process or user can do about rules: nothing that protects it, and nothing that kills others.

use super::*;

#[test]
fn a_process_that_renames_itself_is_not_protected() {
    let rules = compiled(&[
        protecting("ssh", PatternKey::Exe, "/usr/sbin/sshd"),
        protecting("services", PatternKey::Cgroup, "/system.slice/ssh.service"),
        matching("all", &[(PatternKey::Title, ".*")]),
    ]);
    let named = |comm: &str| Process {
        title: "/usr/sbin/sshd -D".into(),
        exe: "/home/alice/leak".into(),
        ..Process::new(10, 1, comm, "/user.slice/session-1.scope")
    };
    for comm in ["sshd", "systemd", "kubelet", "kthreadd", "monitor", "raylet"] {
        assert_eq!(workers(&rules, &[named(comm)]), [("all".to_owned(), vec![10])], "{comm}");
    }
    // The path is right, and another file lies there.
    let disguised = Process { exe: "/usr/sbin/sshd".into(), exe_trusted: false, ..named("sshd") };
    assert_eq!(workers(&rules, std::slice::from_ref(&disguised)).len(), 1);
    assert_eq!(workers(&rules, &[Process { exe_trusted: true, ..disguised }]).len(), 0);
}

/// A rule as the preset `system` has it.
fn system(name: &str, key: PatternKey, pattern: &str) -> RuleSpec {
    let mut spec = protecting(name, key, pattern);
    spec.matches.user = Some(At::new(4, vec!["@system".to_owned()]));
    spec
}

#[test]
fn a_system_program_that_a_user_starts_is_the_users() {
    let rules = compiled(&[
        system("services", PatternKey::Exe, "/usr/bin/dbus-daemon"),
        system("cron", PatternKey::Cgroup, "/system.slice/cron.service"),
        matching("all", &[(PatternKey::Title, ".*")]),
    ]);
    let started = |whose| Process { whose, ..Process::new(10, 1, "dbus-daemon", "/") };
    assert_eq!(workers(&rules, &[started(Whose::System)]), []);
    assert_eq!(workers(&rules, &[started(Whose::ForkedBySystem)]), [], "what sshd forks for a session");
    assert_eq!(workers(&rules, &[started(Whose::User)]), [("all".to_owned(), vec![10])]);
    // A user's job in the cgroup of a service.
    let job = |whose| Process { whose, ..Process::new(10, 1, "leak", "/system.slice/cron.service") };
    assert_eq!(workers(&rules, &[job(Whose::System)]), []);
    assert_eq!(workers(&rules, &[job(Whose::User)]), [("all".to_owned(), vec![10])]);
}

#[test]
fn what_a_users_service_manager_started_is_no_part_of_it() {
    let rules = compiled(&[
        system("services", PatternKey::Exe, "/usr/lib/systemd/systemd*"),
        matching("all", &[(PatternKey::Title, "^[^-]")]),
    ]);
    let process =
        |pid, parent, comm: &str| Process { whose: Whose::User, ..Process::new(pid, parent, comm, "/") };
    let manager = Process { exe: "/usr/lib/systemd/systemd".into(), ..process(10, 1, "systemd") };
    // The manager; what it started, with what that forked; and a process that no rule has by itself.
    let processes = [
        manager,
        process(11, 10, "app"),
        process(12, 11, "app"),
        process(13, 10, "app"),
        process(14, 10, "-"),
    ];
    let all = |members: &[u32]| ("all".to_owned(), members.to_vec());
    assert_eq!(workers(&rules, &processes), [all(&[10, 14]), all(&[11, 12]), all(&[13])]);
}

#[test]
fn what_a_user_can_start_spares_no_cgroup() {
    let protect_user = |spec: RuleSpec, user: &str| {
        let mut spec = spec;
        spec.matches.user = Some(At::new(4, vec![user.to_owned()]));
        spec
    };
    let rules = compiled(&[
        system("ssh", PatternKey::Exe, "/usr/sbin/sshd"),
        protecting("database", PatternKey::Exe, "/usr/bin/postgres"),
        protect_user(protecting("theirs", PatternKey::Exe, "/usr/bin/mine"), "1000"),
        unit(matching("box", &[(PatternKey::Cgroup, "/boxes/*")])),
    ]);
    let process = |comm: &str, whose| Process { whose, ..Process::new(11, 1, comm, "/boxes/a") };
    let with = |other: Process| {
        let processes = [Process { whose: Whose::User, ..Process::new(10, 1, "leak", "/boxes/a") }, other];
        let look = rules.look(&profiles(&rules, &processes));
        let found = look.workers.first();
        assert!(
            found.is_none_or(|found| found.members == [0] && !found.whole),
            "the other one is never part of it"
        );
        assert_eq!((found.is_none(), look.protected.len()), (!look.refused.is_empty(), 1));
        found.is_some()
    };
    let set_user_id = |whose| Process { never: Some(Never::SetUserId), ..process("su", whose) };
    assert!(with(set_user_id(Whose::User)), "a user's own su");
    assert!(with(set_user_id(Whose::System)), "one that acts for another user is nobody's guard");
    assert!(with(Process { exe: "/usr/sbin/sshd".into(), ..process("sshd", Whose::ForkedBySystem) }));
    assert!(with(process("postgres", Whose::User)), "by the executable alone");
    assert!(!with(process("postgres", Whose::System)));
    assert!(!with(process("mine", Whose::User)), "the rule names the user");
    assert!(
        !with(Process { exe: "/usr/sbin/sshd".into(), ..set_user_id(Whose::System) }),
        "a service, for a moment"
    );
    assert!(!with(Process { never: Some(Never::OomScore), ..process("x", Whose::User) }));
}

#[test]
fn cgroups_that_a_user_made_neither_protect_nor_are_a_unit() {
    let rules = compiled(&[
        protecting("raylet", PatternKey::Cgroup, "**/raylet-*"),
        unit(matching("docker", &[(PatternKey::Cgroup, "**/docker-{id}.scope")])),
        matching("rest", &[(PatternKey::Title, ".*")]),
    ]);
    let delegated = "/user.slice/user-1000.slice/user@1000.service";
    let made = |name: &str| Process {
        trusted: delegated.len(),
        ..Process::new(10, 1, "leak", &format!("{delegated}/{name}"))
    };
    assert_eq!(workers(&rules, &[made("raylet-x")]), [("rest".to_owned(), vec![10])]);
    let docker = [made("docker-0123.scope")];
    assert_eq!(workers(&rules, &docker), [("rest".to_owned(), vec![10])], "the next rule has it");
    let alone = compiled(&[unit(matching("docker", &[(PatternKey::Cgroup, "**/docker-{id}.scope")]))]);
    let look = alone.look(&profiles(&alone, &docker));
    assert!(look.workers.is_empty());
    assert_eq!((look.refused[0].why, look.unmatched), (Refusal::NotRoots, vec![0]));
    let roots = Process::new(10, 1, "app", "/system.slice/docker-0123.scope/made/by/the/container");
    let roots = Process { trusted: "/system.slice/docker-0123.scope".len(), ..roots };
    assert_eq!(workers(&rules, &[roots]), [("docker".to_owned(), vec![10])]);
    // In it somebody makes another one.
    let nested = Process::new(10, 1, "app", "/system.slice/docker-0123.scope/a/docker-4567.scope");
    let nested = Process { trusted: "/system.slice/docker-0123.scope".len(), ..nested };
    assert_eq!(workers(&rules, &[nested]), [("docker".to_owned(), vec![10])]);
}

#[test]
fn what_is_never_a_worker_is_none_by_any_rule() {
    let rules = compiled(&[matching("all", &[(PatternKey::Title, ".*")])]);
    let mut processes = Vec::new();
    for (pid, never) in [
        (1, Never::Init),
        (2, Never::KernelThread),
        (3, Never::Agent),
        (4, Never::OomScore),
        (5, Never::SetUserId),
    ] {
        processes.push(Process { never: Some(never), ..Process::new(pid, 1, "x", "/") });
        // A child of each: it is matched for itself.
        processes.push(Process::new(pid + 10, pid, "x", "/"));
    }
    let found = workers(&rules, &processes);
    let all: Vec<u32> = found.into_iter().flat_map(|(_, members)| members).collect();
    assert_eq!(all, [11, 12, 13, 14, 15]);
}

#[test]
fn a_protected_process_keeps_its_cgroup_from_being_a_unit() {
    let rules = compiled(&[
        protecting("conmon", PatternKey::Exe, "/usr/bin/conmon"),
        unit(matching("box", &[(PatternKey::Cgroup, "/boxes/*")])),
    ]);
    let processes = [
        Process::new(10, 1, "app", "/boxes/a"),
        Process::new(11, 1, "conmon", "/boxes/a/deeper"),
        Process::new(12, 1, "app", "/boxes/b"),
        Process::new(13, 12, "forked", "/boxes/b/deeper"),
    ];
    assert_eq!(workers(&rules, &processes), [("box".to_owned(), vec![12, 13])]);
    let look = rules.look(&profiles(&rules, &processes));
    assert_eq!(&*look.refused[0].cgroup, b"/boxes/a");
    assert_eq!(look.refused[0].why, Refusal::HoldsProtected);
    assert!(look.workers[0].whole);
}

/// As sshd is in the cgroup of a Slurm step whose user came by ssh.
#[test]
fn what_is_in_a_cgroup_with_a_protected_process_goes_to_the_rules_that_follow() {
    let rules = compiled(&[
        protecting("ssh", PatternKey::Exe, "/usr/sbin/sshd"),
        matching("inner", &[(PatternKey::Comm, "inner")]),
        unit(matching("step", &[(PatternKey::Cgroup, "/job/step_{id}")])),
        unit(matching("job", &[(PatternKey::Cgroup, "/job")])),
        matching("rest", &[(PatternKey::Cgroup, "/job/step_{id}")]),
    ]);
    let sshd = Process { exe: "/usr/sbin/sshd".into(), ..Process::new(10, 1, "sshd", "/job/step_1/task") };
    let processes = [
        sshd,
        Process::new(11, 10, "bash", "/job/step_1/task"),
        Process::new(12, 11, "leak", "/job/step_1/task"),
        Process::new(13, 12, "inner", "/job/step_1/task"),
        Process::new(20, 1, "app", "/job/step_2"),
        Process::new(30, 1, "app", "/job"),
    ];
    let expected =
        [("rest".to_owned(), vec![11, 12]), ("inner".to_owned(), vec![13]), ("step".to_owned(), vec![20])];
    assert_eq!(workers(&rules, &processes), expected);
    let look = rules.look(&profiles(&rules, &processes));
    let refused: Vec<_> = look.refused.iter().map(|one| (&**one.rule.name(), one.why)).collect();
    assert_eq!(refused, [("step", Refusal::HoldsProtected), ("job", Refusal::HoldsProtected)]);
    assert_eq!(look.unmatched, [5], "no other rule has it");
    // Without sshd both are workers again.
    let alone = [("step".to_owned(), vec![11, 12]), ("inner".to_owned(), vec![13])];
    assert_eq!(workers(&rules, &processes[1..4]), alone);
}

#[test]
fn no_session_slice_manager_or_root_is_a_unit() {
    let rules = compiled(&[unit(matching("all", &[(PatternKey::Cgroup, "**")]))]);
    for (path, why) in [
        ("/", Refusal::Root),
        ("/user.slice", Refusal::Slice),
        ("/user.slice/user-1000.slice", Refusal::Slice),
        ("/user.slice/user-1000.slice/session-4.scope", Refusal::Session),
        ("/user.slice/user-1000.slice/user@1000.service", Refusal::Manager),
        ("/init.scope", Refusal::Manager),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", Refusal::Manager),
    ] {
        let processes = [Process::new(10, 1, "x", path)];
        let look = rules.look(&profiles(&rules, &processes));
        assert_eq!(look.refused.first().map(|refused| refused.why), Some(why), "{path}");
        assert!(look.workers.is_empty(), "{path}");
    }
}

#[test]
fn a_worker_of_another_rule_is_not_part_of_the_worker_around_it() {
    let rules = compiled(&[
        matching("inner", &[(PatternKey::Comm, "inner")]),
        matching("outer", &[(PatternKey::Comm, "outer")]),
        unit(matching("box", &[(PatternKey::Cgroup, "/box")])),
    ]);
    let processes = [
        Process::new(10, 1, "outer", "/"),
        Process::new(11, 10, "outer", "/"),
        Process::new(12, 11, "inner", "/"),
        Process::new(13, 12, "sh", "/"),
        Process::new(14, 11, "sh", "/"),
        Process::new(20, 1, "sh", "/box"),
        Process::new(21, 20, "inner", "/box"),
    ];
    let expected = [
        ("outer".to_owned(), vec![10, 11, 14]),
        ("inner".to_owned(), vec![12, 13]),
        ("box".to_owned(), vec![20]),
        ("inner".to_owned(), vec![21]),
    ];
    assert_eq!(workers(&rules, &processes), expected);
    let look = rules.look(&profiles(&rules, &processes));
    assert!(!look.workers[2].whole, "another worker is in the box");
}

#[test]
fn parents_in_a_circle_are_no_endless_loop() {
    let rules = compiled(&[matching("a", &[(PatternKey::Comm, "a")])]);
    let processes =
        [Process::new(10, 11, "a", "/"), Process::new(11, 10, "b", "/"), Process::new(12, 12, "c", "/")];
    let all: usize = workers(&rules, &processes).iter().map(|(_, members)| members.len()).sum();
    assert!(all >= 1);
}

#[test]
fn a_process_that_a_rule_had_stays_with_it_whatever_it_calls_itself() {
    let enforcing = |spec: RuleSpec| RuleSpec { mode: Some(At::new(6, Mode::Enforce)), ..spec };
    let rules = compiled(&[
        protecting("database", PatternKey::Exe, "/usr/bin/postgres"),
        matching("watched", &[(PatternKey::Comm, "watched*")]),
        enforcing(matching("task", &[(PatternKey::Comm, "task*")])),
        enforcing(matching("leak", &[(PatternKey::Comm, "leak*")])),
        enforcing(matching("later", &[(PatternKey::Comm, "later*")])),
        unit(enforcing(matching("job", &[(PatternKey::Cgroup, "/job-{id}")]))),
    ]);
    let who = |comm: &str, kept, cgroup: &str| {
        let process = Process { kept, exe: "/home/x/leak".into(), ..Process::new(10, 1, comm, cgroup) };
        workers(&rules, &[process]).first().map(|(rule, _)| rule.clone())
    };
    let kept = |comm: &str| who(comm, Some("leak"), "/").unwrap();
    assert_eq!(kept("sshd"), "leak", "no rule has that name");
    assert_eq!(kept("later"), "leak", "a later rule does not take it away");
    assert_eq!(kept("task"), "task", "one that stands earlier does");
    assert_eq!(kept("watched"), "leak", "unless it only observes");
    let observed = |comm: &str| who(comm, Some("watched"), "/").unwrap();
    assert_eq!(
        observed("leak"),
        "leak",
        "whoever executed a program that is only observed is not safe for that"
    );
    assert_eq!(observed("sshd"), "watched", "no rule has that name");
    assert_eq!(who("sshd", None, "/"), None);
    assert_eq!(who("sshd", Some("gone"), "/"), None, "the rules are others now");
    assert_eq!(who("sshd", Some("job"), "/"), None, "it left the cgroup");
    let database = Process { kept: Some("leak"), ..Process::new(10, 1, "postgres", "/") };
    assert!(workers(&rules, &[database]).is_empty(), "protection comes first");
}
