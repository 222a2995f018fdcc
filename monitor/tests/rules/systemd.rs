//! The preset `systemd`: transient units, what users run in their sessions and by ssh, and desktops.

use super::*;
use crate::node::Process;
use crate::presets::{Row, SESSION, names, preset};

/// Rule, first process and number of processes of each worker.
fn rows(found: &[Row]) -> Vec<(&str, u64, u64)> {
    found.iter().map(|(rule, _, _, pid, count)| (&**rule, *pid, *count)).collect()
}

#[test]
fn systemd_takes_what_somebody_runs_by_ssh_without_a_terminal_and_in_any_shell() {
    let node = Node::v2();
    let root = |pid: u32, comm: &str, command: &str| {
        node.process(&Process { pid, parent: 1, uid: 0, comm, command, cgroup: SESSION });
    };
    root(120, "sshd-session", "sshd-session: a [priv]");
    node.add(121, 120, "sshd-session", "sshd-session: a@notty", SESSION);
    node.add(122, 121, "python3", "python3 big.py", SESSION).add(
        123,
        122,
        "python3",
        "python3 big.py",
        SESSION,
    );
    root(130, "sshd", "sshd: a [priv]");
    node.add(131, 130, "sshd", "sshd: a@pts/0", SESSION);
    node.add(132, 131, "tcsh", "-tcsh", SESSION);
    for (pid, shell) in (141..).zip(["csh", "tcsh", "ash", "mksh"]) {
        node.add(pid, 132, shell, &format!("-{shell}"), "/elsewhere");
        node.add(pid + 10, pid, "app", "app", SESSION);
    }
    let (found, _) = preset(&node, "systemd");
    let shells = (151..155).map(|pid| ("systemd:user-session", pid, 1));
    let expected: Vec<_> = std::iter::once(("systemd:ssh-command", 122, 2)).chain(shells).collect();
    assert_eq!(rows(&found), expected);
}

#[test]
fn a_desktop_lives_and_each_app_and_each_tab_of_a_terminal_is_a_worker() {
    let node = Node::v2();
    let user = |path: &str| format!("/user.slice/user-1000.slice/user@1000.service/{path}");
    let tab = |name: &str| user(&format!("app.slice/app-org.gnome.Terminal.slice/vte-spawn-{name}.scope"));
    node.add(130, 1, "systemd", "/usr/lib/systemd/systemd --user", &user("init.scope"));
    node.add(
        140,
        130,
        "gnome-shell",
        "/usr/bin/gnome-shell",
        &user("session.slice/org.gnome.Shell@wayland.service"),
    );
    let terminal = user("app.slice/app-org.gnome.Terminal.slice/gnome-terminal-server.service");
    node.add(141, 130, "gnome-terminal-", "/usr/libexec/gnome-terminal-server", &terminal);
    node.add(142, 141, "bash", "bash", &tab("1")).add(143, 142, "python3", "python3 big.py", &tab("1"));
    node.add(144, 141, "bash", "bash", &tab("2"));
    let firefox = user("app.slice/app-gnome-firefox-150.scope");
    node.add(150, 140, "firefox", "/usr/lib/firefox/firefox", &firefox).add(
        151,
        150,
        "Web Content",
        "web",
        &firefox,
    );
    node.add(160, 130, "dbus-daemon", "/usr/bin/dbus-daemon --session", &user("app.slice/dbus.service"));
    // Two tabs in one cgroup.
    let konsole = user("app.slice/app-org.kde.konsole@0a.service");
    node.add(170, 130, "konsole", "/usr/bin/konsole", &konsole);
    node.add(171, 170, "zsh", "zsh", &konsole).add(172, 170, "zsh", "zsh", &konsole);
    // A desktop without such cgroups.
    node.add(179, 1, "sh", "sh /usr/bin/startxfce4", SESSION);
    node.add(180, 179, "xfce4-session", "/usr/bin/xfce4-session", SESSION);
    node.add(181, 180, "xfce4-panel", "/usr/bin/xfce4-panel", SESSION);
    node.add(182, 181, "gimp", "/usr/bin/gimp", SESSION).add(183, 182, "script-fu", "script-fu", SESSION);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("monitor.toml");
    std::fs::write(&config, "presets = [\"systemd\"]\nrules_mode = \"enforce\"\n").unwrap();
    let answer = answer(&node, &["--config", config.to_str().unwrap()]);
    let found = workers(&answer);
    let modes = names(&answer, "mode");
    let rows =
        found.iter().zip(&modes).map(|((rule, _, _, pid, count), mode)| (&**rule, *pid, *count, &**mode));
    let (observe, enforce) = ("\"observe\"", "\"enforce\"");
    let expected = [
        ("systemd:terminal", 141, 1, observe),
        ("systemd:terminal-tab", 142, 2, enforce),
        ("systemd:terminal-tab", 144, 1, enforce),
        ("systemd:user-app", 150, 2, enforce),
        ("systemd:desktop-service", 160, 1, observe),
        ("systemd:terminal", 170, 1, observe),
        ("systemd:user-app", 171, 1, enforce),
        ("systemd:user-app", 172, 1, enforce),
        ("systemd:desktop", 180, 2, observe),
        ("systemd:session-app", 182, 2, enforce),
    ];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

/// What a program that is only observed starts would be only observed with it.
#[test]
fn what_an_observed_program_starts_in_a_session_is_a_worker() {
    let presets =
        toml::from_str::<toml::Value>(include_str!("../../src/rules/presets/systemd.toml")).unwrap();
    let exes = |rule: &str, of: fn(&toml::Value) -> &toml::Value| -> Vec<String> {
        let rules = presets["rule"].as_array().unwrap();
        let rule = rules.iter().find(|one| one["name"].as_str() == Some(rule)).unwrap();
        of(&rule["match"]).as_array().unwrap().iter().map(|exe| exe.as_str().unwrap().to_owned()).collect()
    };
    let parents = ["systemd:session-app", "systemd:session-program"];
    let parents: Vec<String> =
        parents.iter().flat_map(|rule| exes(rule, |matches| &matches["parent"]["exe"])).collect();
    // Sessions, a display's server, and terminals whose shells go by the names of their parents.
    let others = ["xinit", "Xorg", "Xwayland", "mosh-server", "tmux", "screen"];
    for rule in ["systemd:desktop", "systemd:desktop-service", "systemd:terminal"] {
        let missing = exes(rule, |matches| &matches["exe"]).into_iter().filter(|exe| {
            !parents.contains(exe) && !others.iter().any(|other| exe.ends_with(&format!("/{other}")))
        });
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<String>::new(), "of {rule}");
    }
}

#[test]
fn neither_a_command_that_keeps_the_session_awake_nor_a_mosh_login_changes_what_is_a_worker() {
    let node = Node::v2();
    node.add(140, 1, "sshd", "sshd: a@pts/0", SESSION);
    node.add(141, 140, "bash", "-bash", SESSION);
    node.add(142, 141, "gnome-session-i", "/usr/bin/gnome-session-inhibit python3 big.py", SESSION);
    node.add(143, 142, "python3", "python3 big.py", SESSION);
    node.add(150, 1, "mosh-server", "/usr/bin/mosh-server new", SESSION);
    node.add(151, 150, "bash", "-bash", SESSION).add(152, 151, "python3", "python3 big.py", SESSION);
    let (found, _) = preset(&node, "systemd");
    let expected =
        [("systemd:user-session", 142, 2), ("systemd:terminal", 150, 2), ("systemd:user-session", 152, 1)];
    assert_eq!(rows(&found), expected);
}

/// The kubelet mounts in such units, and what serves a file system stays in them.
#[test]
fn what_mounts_a_file_system_is_no_transient_unit_of_somebody() {
    let node = Node::v2();
    let mount = std::path::Path::new("/usr/bin/mount");
    assert!(mount.exists(), "the test needs a program that is protected");
    let unit = "/system.slice/run-r1a2b.scope";
    node.process(&Process {
        pid: 140,
        parent: 1,
        uid: 0,
        comm: "mount",
        command: "/usr/bin/mount -t x",
        cgroup: unit,
    });
    let (found, answer) = preset(&node, "systemd");
    assert_eq!(found, []);
    assert_eq!(answer["protected"][1]["rule"], "system:mounts");
}

#[test]
fn systemd_transient_units_and_what_users_run() {
    let node = Node::v2();
    node.add(120, 1, "job", "job", "/system.slice/run-u12.service");
    node.add(121, 120, "sh", "sh", "/system.slice/run-u12.service");
    node.add(122, 1, "job", "job", "/system.slice/run-r0af.scope");
    node.add(130, 1, "nginx", "nginx", "/system.slice/nginx.service");
    node.add(140, 1, "sshd", "sshd: a@pts/0", SESSION);
    node.add(141, 140, "bash", "-bash", SESSION);
    node.add(142, 141, "python3", "python3 big.py", SESSION);
    node.add(143, 142, "python3", "python3 big.py", SESSION);
    let app = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-editor.scope";
    node.add(150, 1, "editor", "editor", app);
    let (found, answer) = preset(&node, "systemd");
    let rows: Vec<_> =
        found.iter().map(|(rule, _, name, pid, count)| (&**rule, &**name, *pid, *count)).collect();
    assert_eq!(
        rows,
        [
            ("systemd:transient", "run-u12", 120, 2),
            ("systemd:transient", "run-r0af", 122, 1),
            ("systemd:user-session", "python3", 142, 2),
            ("systemd:user-app", "editor", 150, 1),
        ]
    );
    let owner = answer["workers"][2]["owner"].as_str().unwrap();
    assert!(owner == "1000" || owner.chars().any(char::is_alphabetic), "the user: {owner}");
}
