//! docs/reference is made from the table of settings and from the command line's own help; here it is kept equal to them.
//! `UPDATE_REFERENCE=1` writes it anew.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

#[path = "support/sources.rs"]
mod sources;

use std::fmt::Write as _;

use assert_cmd::Command;
use monitor::config::SETTINGS;
use sources::workspace;

fn compare(file: &str, expected: &str) {
    let path = workspace().join("docs/reference").join(file);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/reference/{file} differs: run `UPDATE_REFERENCE=1 cargo test -p monitor --test reference`"
    );
}

fn help(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.args(words).arg("--help").env("COLUMNS", "100");
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("MONITOR_") || name.starts_with("RAY_"))
    {
        command.env_remove(name);
    }
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// The subcommands that a help lists.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| {
        line.strip_prefix("  ")?.split_whitespace().next().filter(|_| !line.starts_with("   "))
    });
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_page_of_commands_is_their_help() {
    let mut page = "# Command line\n\nWhat `monitor COMMAND --help` prints. Settings that `monitor agent` takes as flags are in \
                    [configuration.md](configuration.md). Made by `UPDATE_REFERENCE=1 cargo test -p monitor --test reference`.\n"
        .to_owned();
    let whole = help(&[]);
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    for name in subcommands(&whole) {
        let below = subcommands(&help(&[&name]));
        commands.push(vec![name.clone()]);
        commands.extend(below.into_iter().map(|below| vec![name.clone(), below]));
    }
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let name = [&["monitor"][..], &words].concat().join(" ");
        let text = help(&words);
        let text: Vec<&str> = text.lines().map(str::trim_end).collect();
        let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", text.join("\n").trim_end());
    }
    compare("command-line.md", &page);
}

#[test]
fn the_page_of_settings_is_their_table() {
    let mut page = "# Configuration\n\nEvery setting: as a key of the file (`/etc/monitor/monitor.toml`), a flag of \
                    `monitor agent`, and a variable. A flag overrides a variable, a variable the file. \
                    [examples/monitor.toml](../../examples/monitor.toml) has them with their defaults; `monitor config` shows \
                    what is in force. Made by `UPDATE_REFERENCE=1 cargo test -p monitor --test reference`.\n"
        .to_owned();
    for setting in SETTINGS {
        let mut variables = vec![format!("`{}`", setting.env)];
        variables.extend(setting.ray.iter().map(|ray| format!("`{}` (Ray's)", ray.name)));
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n| flag | variable | allowed |\n|---|---|---|\n| `--{}` | {} | {} |\n",
            setting.key,
            setting.doc.replace('<', "&lt;"),
            setting.flag,
            variables.join(", "),
            setting.range().replace('|', "\\|").replace('<', "&lt;"),
        );
    }
    compare("configuration.md", &page);
}
