//! `monitor config` and `monitor config check` as a user types them, with an empty environment.
#![expect(clippy::unwrap_used, reason = "clippy's exception for tests leaves out their helpers")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

/// The binary in `dir`, without any variable and without the machine's own file.
fn monitor(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.env_clear().env("MONITOR_CONFIG", "/dev/null").current_dir(dir).arg("config");
    command
}

fn dir_with(text: &[u8]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("monitor.toml"), text).unwrap();
    dir
}

/// Standard error of a run that must end with status 2 and print nothing else.
fn refused(command: &mut Command) -> String {
    let output = command.assert().code(2).get_output().clone();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8(output.stderr).unwrap()
}

fn accepted(command: &mut Command) -> String {
    let output = command.assert().success().get_output().clone();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

const FILE: &[u8] =
    b"# a node with room\nusage_threshold = 0.9\nmin_memory_free = \"512MiB\"\nkill_buffer = \"auto\"\n";

#[test]
fn each_value_is_shown_with_its_source() {
    let dir = dir_with(FILE);
    let mut command = monitor(dir.path());
    command
        .args(["--config", "monitor.toml", "--usage-threshold", "0.8", "--dry-run", "--oom-retries", "-1"])
        .args(["--cgroup", "/a", "--cgroup", "/b", "--socket", "/tmp/m.sock", "--journal", "none"])
        .env("MONITOR_REFRESH_MS", "100")
        .env("RAY_memory_monitor_refresh_ms", "500")
        .env("RAY_worker_killing_policy_by_group", "false");
    insta::assert_snapshot!("table", accepted(&mut command));
    insta::assert_snapshot!("json", accepted(command.arg("--json")));
}

#[test]
fn all_errors_of_a_start_are_listed() {
    let dir = dir_with(b"refresh_ms = -1\nusage_treshold = 0.9\ngear = \"near\"\ngear = \"auto\"\n");
    let mut command = monitor(dir.path());
    command
        .args(["--usage-threshold", "95", "--min-memory-free", "much", "--dry-run=maybe"])
        .env("MONITOR_CONFIG", "monitor.toml")
        .env("RAY_memory_monitor_refresh_ms", "soon");
    insta::assert_snapshot!("errors_of_a_start", refused(&mut command));
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_other_errors() {
    let dir = TempDir::new().unwrap();
    let mut command = monitor(dir.path());
    command.args(["--config", "absent.toml", "--gear", "far"]);
    insta::assert_snapshot!(refused(&mut command), @r#"
    absent.toml: no such file
    flag --gear: gear: "far" is not one of the allowed words; allowed: auto | near
    "#);
}

#[test]
fn empty_variables_are_unset_and_misspelt_ones_are_warned_of() {
    let dir = TempDir::new().unwrap();
    let mut command = monitor(dir.path());
    command.env("MONITOR_CONFIG", "").env("MONITOR_REFRESH_MS", "").env("MONITOR_WORKER_ID", "");
    let plain = accepted(&mut command);
    command.env("MONITOR_USAGE_TRESHOLD", "0.5").env("MONITOR_USAGE_THRESHOLD", "1");
    let output = command.assert().success().get_output().clone();
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r"
    monitor: warning: usage_threshold = 1 puts the threshold at all of the memory: usage is never over it, so nobody is ever killed; to switch killing off, say refresh_ms = 0
    monitor: warning: environment MONITOR_USAGE_TRESHOLD: no such variable; did you mean MONITOR_USAGE_THRESHOLD?
    ");
    assert!(plain.contains("refresh_ms") && plain.contains("250"));
}

#[test]
fn check_counts_the_settings_of_a_good_file() {
    let dir = dir_with(FILE);
    // Flags and environment do not count: this variable is wrong.
    let mut command = monitor(dir.path());
    command.args(["check", "monitor.toml"]).env("MONITOR_REFRESH_MS", "wrong");
    assert_eq!(accepted(&mut command), "monitor.toml: 3 settings, all valid\n");
}

#[test]
fn check_counts_the_rules_that_the_file_brings_and_names_what_is_wrong_beside_it() {
    let dir = dir_with(b"presets = [\"joblib\"]\n[[rule]]\nname = \"a\"\nmatch.comm = \"x\"\n");
    let rules = dir.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    std::fs::write(rules.join("10.toml"), "[[rule]]\nname = \"b\"\nmatch.comm = \"y\"\n").unwrap();
    let mut command = monitor(dir.path());
    command.args(["check", "monitor.toml"]);
    assert_eq!(
        accepted(&mut command),
        "monitor.toml: 1 setting, valid\nmonitor.toml: 3 rules from 1 preset and 2 files\n"
    );
    std::fs::write(rules.join("20.toml"), "[[rule]]\nnam = \"c\"\n").unwrap();
    let out = command.assert().success().get_output().clone();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "monitor.toml: 1 setting, valid\n");
    let warned = String::from_utf8(out.stderr).unwrap();
    assert!(warned.contains("warning: rules.d/20.toml:2: nam: unknown key"), "{warned}");
}

#[test]
fn check_lists_every_error_with_file_line_and_key() {
    let dir = dir_with(
        b"refresh_ms = 100\nrefresh_ms = 200\nusage_treshold = 0.9\ngrace_ms = \"5\"\n\npolicy = \"by_tim\"\nbrake = on\n\
          kill_timeout_ms = 0\noom_retries = 1.5\ncgroups = [\"box\"]\n[section]\nrefresh_ms = 1\n",
    );
    insta::assert_snapshot!("errors_of_a_file", refused(monitor(dir.path()).args(["check", "monitor.toml"])));
}

#[test]
fn check_says_what_is_no_configuration_file() {
    let dir = dir_with(b"gear = \"auto\"\nprobe = \"\xff\"\n");
    for (file, message) in [
        ("monitor.toml", "monitor.toml:2: not UTF-8\n"),
        ("absent.toml", "absent.toml: no such file\n"),
        (".", ".: it is a directory, not a file\n"),
        ("/dev/zero", "/dev/zero: larger than 1048576 bytes, so it is not a configuration file\n"),
    ] {
        assert_eq!(refused(monitor(dir.path()).args(["check", file])), message);
    }
}

#[test]
fn a_malformed_command_line_is_a_usage_error() {
    let dir = TempDir::new().unwrap();
    for (arguments, message) in [
        (&["--refresh-ms"][..], "a value is required"),
        (&["--refresh-ms", "1", "--refresh-ms", "2"], "cannot be used multiple times"),
        (&["--refreshms", "1"], "'--refresh-ms'"),
        (&["check"], "<FILE>"),
    ] {
        let errors = refused(monitor(dir.path()).args(arguments));
        assert!(errors.contains(message), "{arguments:?}: {errors}");
    }
}

#[test]
fn help_names_each_flag_with_range_variables_and_default() {
    let dir = TempDir::new().unwrap();
    let help = accepted(monitor(dir.path()).arg("--help")).split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in monitor::config::SETTINGS {
        for part in [format!("--{}", setting.flag), setting.env.to_owned(), setting.range()] {
            assert!(help.contains(&part), "{part}");
        }
    }
}
