//! `monitor domains` from the outside, on the fixture trees: output and exit status (docs/behavior.md#interfaces).

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy.toml exempts the test functions alone")]

use assert_cmd::Command;
use rstest::rstest;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn domains(tree: &str, args: &[&str]) -> Command {
    let fixture = format!("{}/tests/fixtures/{tree}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::cargo_bin("monitor").unwrap();
    // What is set on this machine must not decide.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MONITOR_") || name.to_string_lossy().starts_with("RAY_") {
            command.env_remove(name);
        }
    }
    command.arg("domains").args(["--procfs", &format!("{fixture}/proc")]);
    command.args(["--cgroupfs", &format!("{fixture}/cgroup")]).args(args);
    command
}

fn stdout(command: &mut Command, status: i32) -> String {
    // Where the fixtures lie differs from one checkout to the next.
    let output = command.assert().code(status).get_output().stdout.clone();
    String::from_utf8(output).unwrap().replace(env!("CARGO_MANIFEST_DIR"), "[MONITOR]")
}

fn json(command: &mut Command, status: i32) -> Value {
    serde_json::from_str(&stdout(command.arg("--json"), status)).unwrap()
}

#[test]
fn the_node_and_cgroups_as_json() {
    let args = ["--cgroup", "/box", "--cgroup", "/box/inner", "--cgroup", "/box/"];
    insta::assert_snapshot!(stdout(domains("v1", &args).arg("--json"), 0));
}

#[test]
fn the_node_and_cgroups_as_a_table() {
    let args =
        ["--cgroup", "/box", "--cgroup", "/box/inner", "--cgroup", "/none", "--usage-threshold", "0.7"];
    insta::assert_snapshot!(stdout(&mut domains("v2", &args), 1));
}

#[rstest]
#[case::v1("v1", "cgroup_v1", false, 100, 75)]
#[case::v1_swap("v1", "cgroup_v1", true, 200, 95)]
#[case::v2("v2", "cgroup_v2", false, 100, 75)]
#[case::v2_swap("v2", "cgroup_v2", true, 150, 94)]
#[case::hybrid("hybrid", "cgroup_v1", false, 100, 75)]
fn every_layout(
    #[case] tree: &str,
    #[case] source: &str,
    #[case] swap: bool,
    #[case] total: u64,
    #[case] used: u64,
) {
    let mut command = domains(tree, &["--cgroup", "/box", "--usage-threshold", "0.5"]);
    if swap {
        command.arg("--count-swap");
    }
    let answer = json(&mut command, 0);
    assert_eq!(
        answer[1],
        json!({"domain": "cgroup:/box", "total": total * MIB, "used": used * MIB,
               "threshold": total * MIB / 2, "above": used * 2 > total, "source": source})
    );
    assert_eq!(answer[0]["source"], "meminfo");
}

#[test]
fn above_is_strictly_above() {
    for (threshold, above) in [("0.75", false), ("0.7499", true)] {
        let answer = json(&mut domains("v2", &["--cgroup", "/box", "--usage-threshold", threshold]), 0);
        assert_eq!(answer[1]["above"], above, "{threshold}");
    }
}

#[test]
fn min_memory_free_may_raise_the_threshold_and_must_fit_the_node() {
    let free = (10 * MIB).to_string();
    let args = ["--cgroup", "/box", "--usage-threshold", "0.5", "--min-memory-free", &free];
    assert_eq!(json(&mut domains("v2", &args), 0)[1]["threshold"], 90 * MIB);

    let free = (101 * MIB).to_string();
    let args = ["--cgroup", "/box", "--min-memory-free", &free];
    let answer = json(&mut domains("v2", &args), 0);
    assert_eq!(
        (&answer[1]["threshold"], &answer[1]["above"]),
        (&json!(95 * MIB), &json!(false)),
        "its share"
    );

    let free = (1025 * MIB).to_string();
    let answer = json(&mut domains("v2", &["--cgroup", "/box", "--min-memory-free", &free]), 1);
    assert_eq!(answer[0]["used"], 768 * MIB, "what is known is shown");
    assert_eq!((&answer[0]["threshold"], &answer[0]["above"]), (&Value::Null, &Value::Null));
    assert!(answer[0]["error"].as_str().unwrap().contains("min_memory_free"));
    assert_eq!(answer[1]["threshold"], 95 * MIB);
}

#[test]
fn an_unknown_domain_is_null_with_its_reason_and_the_others_are_still_shown() {
    let answer = json(&mut domains("v1", &["--cgroup", "/none", "--cgroup", "/box"]), 1);
    let row = &answer[1];
    for key in ["total", "used", "threshold", "above"] {
        assert_eq!(row.get(key), Some(&Value::Null), "{key}");
    }
    assert!(row["error"].as_str().unwrap().ends_with("cgroup/memory/none is missing"));
    assert_eq!(answer[2]["used"], 75 * MIB);
}

#[test]
fn without_procfs_the_node_is_unknown() {
    let answer = json(&mut domains("none", &[]), 1);
    assert_eq!(answer[0]["used"], Value::Null);
    assert!(answer[0]["error"].as_str().unwrap().contains("none/proc is missing"));
}

#[rstest]
#[case::share_above_one(&["--usage-threshold", "1.1"], "usage_threshold")]
#[case::share_negative(&["--usage-threshold=-0.1"], "-0.1")]
#[case::share_nan(&["--usage-threshold", "NaN"], "NaN")]
#[case::share_word(&["--usage-threshold", "most"], "--usage-threshold")]
#[case::free_negative(&["--min-memory-free=-2"], "--min-memory-free")]
#[case::climbing(&["--cgroup", "/a/../b"], "--cgroup")]
#[case::empty(&["--cgroup", ""], "--cgroup")]
#[case::unknown_option(&["--frobnicate"], "--frobnicate")]
fn bad_options_are_usage_errors(#[case] args: &[&str], #[case] message: &str) {
    domains("v1", args).assert().code(2).stdout("").stderr(predicates::str::contains(message));
}

#[test]
fn settings_come_from_environment_and_file_as_the_agents_do() {
    let mut command = domains("v2", &["--cgroup", "/box"]);
    command.env("MONITOR_USAGE_THRESHOLD", "0.5").env("RAY_memory_usage_threshold", "0.6");
    assert_eq!(json(&mut command, 0)[1]["threshold"], 50 * MIB);
    let mut command = domains("v2", &["--cgroup", "/box", "--usage-threshold", "0.8"]);
    assert_eq!(json(command.env("MONITOR_USAGE_THRESHOLD", "0.5"), 0)[1]["threshold"], 80 * MIB);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("monitor.toml");
    std::fs::write(&file, "usage_threshold = 0.4\ncount_swap = true\ncgroups = [\"/box\"]\n").unwrap();
    let answer = json(&mut domains("v2", &["--config", file.to_str().unwrap()]), 0);
    assert_eq!((&answer[1]["total"], &answer[1]["threshold"]), (&json!(150 * MIB), &json!(60 * MIB)));
}

#[test]
fn this_machine_is_known() {
    let output = Command::cargo_bin("monitor").unwrap().args(["domains", "--json"]).assert().code(0);
    let answer: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert!(answer[0]["used"].as_u64().unwrap() <= answer[0]["total"].as_u64().unwrap());
}
