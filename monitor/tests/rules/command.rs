//! The command: its JSON and its table, faults and exit statuses, presets as text, and what it suggests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;

fn ray_node() -> Node {
    let node = Node::v2();
    node.add(100, 1, "raylet", "/home/a/ray/raylet --node", "/user.slice/user-1000.slice/session-1.scope");
    node.add(140, 100, "ray::f", "ray::f", "/user.slice/user-1000.slice/session-1.scope");
    node.add(141, 100, "ray::IDLE", "ray::IDLE", "/user.slice/user-1000.slice/session-1.scope");
    node.add(142, 140, "sh", "sh -c convert", "/user.slice/user-1000.slice/session-1.scope");
    node.add(150, 1, "postgres", "/opt/postgres/bin/postgres -D /data", "/system.slice/postgresql.service");
    node
}

#[test]
fn json_has_the_keys_that_scripts_read() {
    let answer = answer(&ray_node(), &["--preset", "ray"]);
    let worker = &answer["workers"][0];
    for (key, value) in [
        ("rule", json!("ray:worker")),
        ("mode", json!("observe")),
        ("unit", json!("tree")),
        ("pid", json!(140)),
        ("cgroup", json!("/user.slice/user-1000.slice/session-1.scope")),
        ("kind", json!("task")),
        ("owner", json!("raylet-100")),
        ("name", json!("ray::f")),
        ("priority", json!(0)),
        ("retriable", json!(true)),
        ("idle", json!(false)),
        ("memory", json!((40 + 42) << 20)),
        ("processes", json!(2)),
    ] {
        assert_eq!(worker.get(key), Some(&value), "{key}");
    }
    assert_eq!(answer["workers"][1]["idle"], true);
    assert_eq!(
        answer["protected"],
        json!([{"rule": "system:init", "pid": 1, "cgroup": "/init.scope", "command": "/sbin/init"}])
    );
    assert_eq!(
        answer["unmatched"],
        json!([{"pid": 150, "memory": 50 << 20, "command": "/opt/postgres/bin/postgres -D /data"},
               {"pid": 100, "memory": 0, "command": "/home/a/ray/raylet --node"}])
    );
}

#[test]
fn the_same_for_people() {
    insta::assert_snapshot!(stdout(&mut rules(&ray_node(), &["--preset", "ray"]), 0));
    insta::assert_snapshot!(stdout(&mut rules(&Node::v2(), &[]), 0));
}

#[test]
fn only_the_ten_largest_that_no_rule_has_are_shown() {
    let node = Node::v2();
    for pid in 200..230 {
        node.add(pid, 1, "x", "x", "/a");
    }
    let answer = answer(&node, &[]);
    let unmatched: Vec<u64> =
        answer["unmatched"].as_array().unwrap().iter().map(|one| one["pid"].as_u64().unwrap()).collect();
    assert_eq!(unmatched, (220..230).rev().collect::<Vec<_>>());
}

#[test]
fn rules_come_from_a_directory_and_the_configuration_and_a_mode_for_all_holds() {
    let dir = tempfile::tempdir().unwrap();
    let own = "[[rule]]\nname = \"own\"\nmode = \"enforce\"\nmatch.comm = \"ray::f\"\n";
    fs::create_dir(dir.path().join("rules.d")).unwrap();
    fs::write(dir.path().join("rules.d/a.toml"), own).unwrap();
    let file = dir.path().join("monitor.toml");
    fs::write(&file, "presets = [\"ray\"]\n[[rule]]\nname = \"mine\"\nmatch.comm = \"postgres\"\n").unwrap();
    let named = |args: &[&str]| {
        let mut all = vec!["--config", file.to_str().unwrap()];
        all.extend(args);
        let answer = answer(&ray_node(), &all);
        let rows = answer["workers"].as_array().unwrap().iter();
        rows.map(|row| format!("{} {}", row["rule"].as_str().unwrap(), row["mode"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(named(&[]), ["own enforce", "ray:worker observe", "mine observe"]);
    let elsewhere = dir.path().join("none.d");
    fs::create_dir(&elsewhere).unwrap();
    let elsewhere = elsewhere.to_str().unwrap();
    assert_eq!(named(&["--rules", elsewhere]), ["ray:worker observe", "ray:worker observe", "mine observe"]);
    fs::write(&file, "rules_mode = \"observe\"\n").unwrap();
    assert_eq!(named(&[]), ["own observe"]);
    fs::write(&file, "rules_mode = \"enforce\"\npresets = [\"ray\"]\n").unwrap();
    assert_eq!(named(&[]), ["own enforce", "ray:worker enforce"]);
}

#[test]
fn faults_of_rules_are_usage_errors_and_nothing_half_is_shown() {
    let node = ray_node();
    rules(&node, &["--preset", "rya"])
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicates::str::contains("allowed: any of ray, kubernetes"));
    rules(&node, &["--rules", "/nonexistent"])
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicates::str::contains("/nonexistent: cannot be read"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.toml"), "[[rule]]\nname = \"a\"\nmatch.comn = \"x\"\n").unwrap();
    let directory = dir.path().to_str().unwrap();
    rules(&node, &["--rules", directory])
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicates::str::contains("a.toml:3: match.comn: unknown key"));
    let file = dir.path().join("monitor.conf");
    fs::write(&file, "policy = \"by_time\"\n\n[[rule]]\nmatch.title = \"(\"\n").unwrap();
    let config = file.to_str().unwrap();
    let fault =
        predicates::str::contains(format!("{config}:4: match.title: \"(\" is not a regular expression"));
    rules(&node, &["--config", config]).assert().code(2).stdout("").stderr(fault.clone());
    monitor(&["config", "check", config]).assert().code(2).stderr(fault);
}

#[test]
fn check_tells_each_fault_with_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good.toml", "[[rule]]\nname = \"a\"\nmatch.comm = \"x\"\n");
    monitor(&["rules", "check", &good]).assert().code(0).stdout("1 rule, no fault\n");
    let bad = write(
        "bad.toml",
        "[[rule]]\nname = \"a\"\nprotect = true\nmode = \"enforce\"\nmatch.comm = \"x\"\n\n[[rule]]\nname = \"system:ray\"\nmatch.cgroup = \"a\"\nowner = \"{pod}\"\n",
    );
    let found = stdout(&mut monitor(&["rules", "check", &good, &bad]), 1);
    let found = found.replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(found);
    let text = write("text.toml", "not toml");
    assert!(stdout(&mut monitor(&["rules", "check", &text]), 1).contains("text.toml:1: "));
    fs::set_permissions(&good, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(stdout(&mut monitor(&["rules", "check", &good]), 1).contains("can be changed by other users"));
    assert!(
        stdout(&mut monitor(&["rules", "check", "/nonexistent"]), 1)
            .contains("/nonexistent:1: cannot be read")
    );
    monitor(&["rules", "check"]).assert().code(2);
}

#[test]
fn ten_thousand_rules_are_one_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("many.toml");
    let many: String =
        (0..10_000).map(|n| format!("[[rule]]\nname = \"r{n}\"\nmatch.comm = \"x\"\n")).collect();
    fs::write(&file, many).unwrap();
    let found = stdout(&mut monitor(&["rules", "check", file.to_str().unwrap()]), 1);
    assert!(found.contains("allowed: 1000 in all files and presets together"), "{found}");
    assert_eq!(found.lines().count(), 1);
}

#[test]
fn presets_are_listed_and_printed_as_toml_that_passes_the_check() {
    let list = stdout(&mut monitor(&["rules", "presets"]), 0);
    assert_eq!(list.lines().count(), 15);
    let dir = tempfile::tempdir().unwrap();
    for line in list.lines() {
        let name = line.split(' ').next().unwrap();
        let text = stdout(&mut monitor(&["rules", "preset", name]), 0);
        assert!(text.contains("[[rule]]"), "{name}");
        if name != "system" {
            let file = dir.path().join("preset.toml");
            fs::write(&file, text).unwrap();
            monitor(&["rules", "check", file.to_str().unwrap()]).assert().code(0);
        }
    }
    monitor(&["rules", "preset", "none"])
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicates::str::contains("is not a preset; allowed: ray"));
}

#[test]
fn a_suggestion_is_a_configuration_that_observes() {
    let node = ray_node();
    node.add(199, 1, "big", "big --one", "/system.slice/big.service");
    let suggest = |node: &Node| {
        let mut command = monitor(&["rules", "suggest"]);
        command.args(["--procfs", node.procfs().to_str().unwrap()]);
        command.args(["--cgroupfs", node.cgroupfs().to_str().unwrap()]);
        stdout(&mut command, 0)
    };
    let text = suggest(&node);
    insta::assert_snapshot!(text);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("monitor.toml");
    fs::write(&file, &text).unwrap();
    monitor(&["config", "check", file.to_str().unwrap()]).assert().code(0);
    let own: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .skip_while(|line| *line != "[[rule]]")
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&file, own).unwrap();
    monitor(&["rules", "check", file.to_str().unwrap()]).assert().code(0).stdout("1 rule, no fault\n");
    assert!(suggest(&Node::v1()).contains("presets = []\n"));
}

#[test]
fn what_is_no_process_of_its_own_is_never_a_worker() {
    let node = Node::v2();
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("all.toml"),
        "[[rule]]\nname = \"all\"\nmode = \"enforce\"\nmatch.title = \".*\"\n",
    )
    .unwrap();
    node.process(&node::Process { pid: 2, parent: 0, uid: 0, comm: "kthreadd", command: "", cgroup: "/" });
    node.process(&node::Process {
        pid: 30,
        parent: 2,
        uid: 0,
        comm: "kworker/0:1",
        command: "",
        cgroup: "/",
    });
    node.add(40, 1, "a", "a", "/a").add(41, 1, "b", "b", "/a").add(42, 1, "c", "c", "/a");
    node.set(41, "oom_score_adj", "-999\n");
    node.set(42, "status", "Name:\tc\nPPid:\t1\nUid:\t1000\t0\t0\t0\nVmRSS:\t1 kB\n");
    let answer = answer(&node, &["--rules", dir.path().to_str().unwrap()]);
    assert_eq!(workers(&answer), [worker("all", "-", "a", 40, 1)]);
    let protected = answer["protected"].as_array().unwrap().iter();
    let protected: Vec<_> =
        protected.map(|one| (one["pid"].as_u64().unwrap(), one["rule"].as_str().unwrap())).collect();
    let expected = [
        (1, "system:init"),
        (2, "system:kernel-thread"),
        (30, "system:kernel-thread"),
        (41, "system:oom-score-adj"),
        (42, "system:set-user-id"),
    ];
    assert_eq!(protected, expected);
}

#[test]
fn this_machine_is_looked_at_and_whoever_looks_is_protected() {
    let output = monitor(&["rules", "--json", "--preset", "containers"]).assert().code(0);
    let answer: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let own = u64::from(std::process::id());
    let protected = answer["protected"].as_array().unwrap();
    assert!(
        protected.iter().any(|one| one["pid"] == own && one["rule"] == "system:agent"),
        "an ancestor of the command"
    );
}

#[test]
fn the_examples_are_rules_without_a_fault() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/rules.d");
    // Copied: a checkout may be one that others can write to.
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let copy = dir.path().join("rules.toml");
        fs::write(&copy, fs::read(entry.unwrap().path()).unwrap()).unwrap();
        monitor(&["rules", "check", copy.to_str().unwrap()]).assert().code(0);
    }
}

#[test]
fn an_agent_with_faulty_rules_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.toml"), "[[rule]]\nname = \"a\"\nmatch.comn = \"x\"\n").unwrap();
    let socket = dir.path().join("monitor.sock");
    let args = [
        "agent",
        "--rules",
        dir.path().to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
        "--journal",
        "none",
    ];
    monitor(&args).assert().code(2).stderr(predicates::str::contains("a.toml:3: match.comn: unknown key"));
    assert!(!socket.exists());
}
