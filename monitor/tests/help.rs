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
