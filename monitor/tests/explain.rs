//! `monitor explain` as a user meets it: output, exit status, and what is said about malformed input.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn explain(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("monitor"));
    command.arg("explain").args(args);
    command
}

/// What is printed for a snapshot among the test data.
fn output(name: &str, args: &[&str]) -> String {
    let output =
        explain(args).arg("--snapshot").arg(data(name)).assert().success().stderr("").get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

/// What is said about a malformed snapshot on standard input.
fn complaint(snapshot: impl Into<Vec<u8>>) -> String {
    let output =
        explain(&["--snapshot", "-"]).write_stdin(snapshot).assert().code(2).stdout("").get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_example_of_the_specification() {
    insta::assert_snapshot!(output("example.json", &[]));
}

#[test]
fn the_example_of_the_specification_as_json() {
    let answer: serde_json::Value = serde_json::from_str(&output("example.json", &["--json"])).unwrap();
    insta::assert_json_snapshot!(answer);
}

#[test]
fn two_callers_with_four_tasks_each_and_an_actor() {
    insta::assert_snapshot!(output("two_callers.json", &[]));
}

#[test]
fn by_time_takes_several() {
    insta::assert_snapshot!(output("by_time.json", &[]));
}

#[test]
fn a_kill_in_flight() {
    insta::assert_snapshot!(output("in_flight.json", &[]));
}

#[test]
fn a_dash_reads_standard_input() {
    let file = std::fs::read(data("example.json")).unwrap();
    explain(&["--snapshot", "-"]).write_stdin(file).assert().success().stdout(output("example.json", &[]));
}

#[test]
fn malformed_input_names_what_is_wrong_and_exits_with_2() {
    let field = |name: &str, value: &str| {
        let example = std::fs::read_to_string(data("example.json")).unwrap();
        let broken = example.replacen(name, value, 1);
        assert_ne!(broken, example, "{name} is not in the example");
        complaint(broken)
    };
    insta::assert_snapshot!(
        [
            complaint(""),
            complaint("{"),
            complaint([0xff]),
            field("\"started\": 5", "\"started\": -5"),
            field("\"started\": 5", "\"started\": \"5\""),
            field("\"memory\": 2000", "\"memroy\": 2000"),
            field("\"max_restarts\"", "\"max_retries\""),
            field("\"max_retries\": -1", "\"max_retries\": -2"),
            field("\"id\": \"w2\"", "\"id\": \"w1\""),
            field("\"kind\": \"task\"", "\"kind\": \"\\u001b[31mjob\""),
            field("0.95", "95"),
            field("\"min_memory_free\": null", "\"min_memory_free\": 16001"),
            field("group_by_owner", "by_chance"),
            field("[\"w9\"]}", "[\"w9\"]} {}"),
        ]
        .concat()
    );
}

#[test]
fn a_file_that_cannot_be_read_exits_with_1() {
    explain(&["--snapshot", "/nonexistent/snapshot.json"])
        .assert()
        .code(1)
        .stdout("")
        .stderr("monitor: /nonexistent/snapshot.json: No such file or directory (os error 2)\n");
    explain(&["--snapshot", "/"]).assert().code(1).stderr("monitor: /: Is a directory (os error 21)\n");
}

#[test]
fn without_a_snapshot_it_asks_the_agent() {
    explain(&["--socket", "/nonexistent/monitor.sock"])
        .assert()
        .code(125)
        .stderr(predicates::str::contains("/nonexistent/monitor.sock"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let workers: Vec<_> =
        (0..2000).map(|id| serde_json::json!({"id": format!("w{id}"), "started": id})).collect();
    let snapshot = serde_json::json!({"domain": {"total": 100, "used": 99}, "workers": workers});
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, snapshot.to_string().as_bytes()).unwrap();
    let mut child = Process::new(cargo_bin("monitor"))
        .args(["explain", "--json", "--snapshot"])
        .arg(file.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The answer is larger than a pipe holds: it is still being written when the reading end goes.
    drop(child.stdout.take());
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!((child.wait().unwrap().code(), complaint.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Process::new(cargo_bin("monitor"))
        .args(["explain", "--snapshot"])
        .arg(data("example.json"))
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "monitor: standard output: No space left on device (os error 28)\n"
    );
}
