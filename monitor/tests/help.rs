//! What is made from the command line's own description: completions and manual pages.

use assert_cmd::Command;
use tempfile::TempDir;

fn monitor() -> Command {
    Command::new(env!("CARGO_BIN_EXE_monitor"))
}

#[test]
fn each_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = monitor().args(["completions", shell]).assert().success().get_output().stdout.clone();
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("retriable_lifo"), "{shell} completes the words of --policy");
        assert!(script.contains("usage-threshold"), "{shell}");
    }
    monitor().args(["completions", "teletype"]).assert().code(2);
}

#[test]
fn the_manual_has_a_page_for_each_command_and_every_flag() {
    let dir = TempDir::new().unwrap();
    monitor().arg("man").arg(dir.path().join("man1")).assert().success();
    let page = |name: &str| std::fs::read_to_string(dir.path().join("man1").join(name)).unwrap();
    assert!(page("monitor.1").contains("agent"));
    let agent = page("monitor-agent.1").replace('\\', "");
    let help = monitor().args(["agent", "--help"]).assert().success().get_output().stdout.clone();
    for flag in String::from_utf8(help).unwrap().split_whitespace().filter(|word| word.starts_with("--")) {
        let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let flag = flag.split(['=', '[']).next().unwrap();
        assert!(agent.contains(flag), "monitor-agent(1) lacks {flag}");
    }
}

#[test]
fn every_page_has_the_standard_sections() {
    let dir = TempDir::new().unwrap();
    monitor().arg("man").arg(dir.path()).assert().success();
    let mut pages = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let page = std::fs::read_to_string(&path).unwrap();
        let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let has = |name: &str| headings.iter().any(|heading| heading.trim_matches('"') == name);
        for name in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS"] {
            assert!(has(name), "{} has no {name}: {headings:?}", path.display());
        }
        assert!(!has("EXTRA"), "{}", path.display());
        pages += 1;
    }
    assert!(pages > 10, "{pages} pages");
    let page = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap().replace('\\', "");
    let agent = page("monitor-agent.1");
    for text in [
        "SH \"ENVIRONMENT\"",
        "MONITOR_LOG",
        "NO_COLOR",
        "MONITOR_CONFIG",
        "RAY_memory_usage_threshold",
        "SH \"FILES\"",
        "/etc/monitor/monitor.toml",
        "/var/lib/monitor/journal.jsonl",
    ] {
        assert!(agent.contains(text), "monitor-agent(1) lacks {text}");
    }
    assert!(page("monitor-run.1").contains("MONITOR_WORKER_ID"));
    assert!(page("monitor-status.1").contains("MONITOR_SOCKET"));
    assert!(!page("monitor-completions.1").contains("ENVIRONMENT"));
    assert!(page("monitor-kills.1").contains("fB125fR"), "its exit statuses are entries");
}

/// Whatever reads may leave: nothing of that is said, and nothing fails.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let binary = env!("CARGO_BIN_EXE_monitor");
    for command in
        ["domains", "domains --json", "config", "config --json", "doctor", "completions bash", "--help"]
    {
        // The shell's `true` may read nothing at all; `head -c 1` reads a little.
        for reader in ["true", "head -c 1"] {
            let line =
                format!("set -o pipefail; {{ sleep 0.1; exec {binary} {command}; }} | {reader} >/dev/null");
            let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.is_empty(), "{line}: {:?} {said}", output.status);
        }
    }
}
