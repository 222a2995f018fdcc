//! One manual page: clap's sections, and those that every page of section 1 has and clap knows nothing of (man-pages(7)):
//! exit status, environment, files. Makes text; writes no file.

use std::fmt::Write as _;

use clap::Command;
use clap_mangen::Man;

use crate::config::{DEFAULT_FILE, FILE_ENV, LOG_ENV, SETTINGS, SYSTEM_JOURNAL, SYSTEM_SOCKET, Setting};

/// What an exit status is told after, in a help text.
const STATUS: &str = "Exit status: ";

/// The page of a command that was built.
pub(super) fn of(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|inner| !inner.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend_from_slice(ours(command).as_bytes());
    man.render_version_section(&mut page)?;
    page.extend_from_slice(see_also(command).as_bytes());
    Ok(page)
}

/// The sections that clap knows nothing of.
fn ours(command: &Command) -> String {
    let (notes, status) = after(command);
    let mut out = String::new();
    if !notes.is_empty() {
        section(&mut out, "NOTES", &[]);
        let _ = writeln!(out, "{}", escape(&notes));
    }
    section(&mut out, "EXIT STATUS", &statuses(&status));
    section(&mut out, "ENVIRONMENT", &variables(command));
    section(&mut out, "FILES", &files(command));
    out
}

/// The text after a command's help, and in it what it says of the exit status.
fn after(command: &Command) -> (String, String) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    match text.split_once(STATUS) {
        Some((notes, status)) => (notes.trim().to_owned(), status.trim().to_owned()),
        None => (text.trim().to_owned(), String::new()),
    }
}

/// Each status with what it means: `0 done; 1 refused` as two of them. Without any, what all commands have.
fn statuses(text: &str) -> Vec<(String, String)> {
    if text.is_empty() {
        return vec![
            ("0".into(), "Done.".into()),
            ("1".into(), "Not done.".into()),
            ("2".into(), "Usage.".into()),
        ];
    }
    let mut found = Vec::new();
    for part in apart(text.trim_end_matches('.')) {
        let (first, rest) = part.split_once(' ').unwrap_or((part, ""));
        if first.bytes().all(|byte| byte.is_ascii_digit()) {
            found.push((first.to_owned(), rest.to_owned()));
        } else {
            found.push(("Otherwise".to_owned(), part.to_owned()));
        }
    }
    found
}

/// The parts of a list with semicolons, but not those in brackets.
fn apart(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// Whether a command takes a setting: by its own flag, or because it is or may start an agent.
fn takes(command: &Command, setting: &Setting) -> bool {
    let all = ["monitor", "monitor-agent", "monitor-config", "monitor-run"];
    all.contains(&name(command))
        || command.get_arguments().any(|argument| argument.get_long() == Some(setting.flag))
}

fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn variables(command: &Command) -> Vec<(String, String)> {
    let taken: Vec<&Setting> = SETTINGS.iter().filter(|setting| takes(command, setting)).collect();
    let mut found = Vec::new();
    if !taken.is_empty() {
        found.push((FILE_ENV.to_owned(), "The file with settings, instead of the one below.".to_owned()));
    }
    if ["monitor", "monitor-agent"].contains(&name(command)) {
        let levels = "What the agent's log shows: error, warn, info (the default), debug or trace, or a list such as \
                      info,monitor::agent=debug. RUST_LOG is read if it is not set.";
        found.push((LOG_ENV.to_owned(), levels.to_owned()));
        found.push(("NO_COLOR".to_owned(), "If it is set, the log has no colors.".to_owned()));
    }
    if ["monitor", "monitor-run"].contains(&name(command)) {
        let outer = "The worker that this is started in, which is the owner of what is started. Set for each command \
                     that is run.";
        found.push(("MONITOR_WORKER_ID".to_owned(), outer.to_owned()));
    }
    for setting in taken {
        found.push((setting.env.to_owned(), format!("The setting {}: {}.", setting.key, setting.range())));
        for ray in setting.ray {
            let same = format!("Ray's name for the same; {} counts first.", setting.env);
            found.push((ray.name.to_owned(), same));
        }
    }
    if !found.is_empty() {
        found.push(("".to_owned(), "A variable that is set to nothing counts as not set.".to_owned()));
    }
    found
}

fn files(command: &Command) -> Vec<(String, String)> {
    let takes = |key: &str| SETTINGS.iter().any(|setting| setting.key == key && takes(command, setting));
    let mut found = Vec::new();
    if SETTINGS.iter().any(|setting| self::takes(command, setting)) {
        found.push((DEFAULT_FILE.to_owned(), "Settings, read if it exists.".to_owned()));
    }
    if takes("socket") {
        found.push((SYSTEM_SOCKET.to_owned(), "The control socket of root's agent.".to_owned()));
        let own = "That of another user's, in /run/user/UID if the variable is not set.";
        found.push(("$XDG_RUNTIME_DIR/monitor/monitor.sock".to_owned(), own.to_owned()));
    }
    if takes("journal") {
        found.push((SYSTEM_JOURNAL.to_owned(), "The journal of decisions of root's agent.".to_owned()));
    }
    found
}

fn see_also(command: &Command) -> String {
    if name(command) == "monitor" {
        return String::new();
    }
    let mut out = String::new();
    section(&mut out, "SEE ALSO", &[]);
    out.push_str("\\fBmonitor\\fR(1)\n");
    out
}

/// A heading, and what there is under it: a term and what it means, or without a term a paragraph.
fn section(out: &mut String, heading: &str, entries: &[(String, String)]) {
    if entries.is_empty() && !["NOTES", "SEE ALSO"].contains(&heading) {
        return;
    }
    let _ = writeln!(out, ".SH \"{heading}\"");
    for (term, meaning) in entries {
        let _ = if term.is_empty() {
            writeln!(out, ".PP\n{}", escape(meaning))
        } else {
            writeln!(out, ".TP\n\\fB{}\\fR\n{}", escape(term), escape(meaning))
        };
    }
}

/// Text that troff takes as it is.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = escaped.lines().map(|line| {
        // A line that begins with one of these is an instruction.
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        statuses(text)
    }

    #[test]
    fn each_exit_status_is_an_entry() {
        let status = |code: &str, text: &str| (code.to_owned(), text.to_owned());
        assert_eq!(
            pairs("0 done; 1 refused (by it; or not)."),
            [status("0", "done"), status("1", "refused (by it; or not)")]
        );
        assert_eq!(
            pairs("the command's; 2 usage"),
            [status("Otherwise", "the command's"), status("2", "usage")]
        );
        assert_eq!(pairs("").len(), 3);
    }

    #[test]
    fn nothing_in_a_text_is_an_instruction() {
        assert_eq!(escape(".SH a-b\n'x\n\\fB"), "\\&.SH a\\-b\n\\&'x\n\\efB");
    }
}
