//! docs/operating.md has every line that can be logged as a warning or an error, and every alert.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

#[path = "support/sources.rs"]
mod sources;

use sources::{rust_files, workspace};

/// What stands between the parenthesis that `text` begins after and its end, and the string literals in it.
fn literals(text: &str) -> Vec<String> {
    let (mut depth, mut found) = (1, Vec::new());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '"' => {
                let mut literal = String::new();
                while let Some(c) = characters.next() {
                    match c {
                        '"' => break,
                        '\\' => match characters.next() {
                            // A line that goes on: its indentation is none of the text.
                            Some('\n') => {
                                let rest = characters.as_str().trim_start();
                                characters = rest.chars();
                            }
                            Some(escaped) => literal.push(escaped),
                            None => break,
                        },
                        c => literal.push(c),
                    }
                }
                found.push(literal);
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// The messages of a source: the last literal of each `warn!` and `error!`.
fn messages(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for level in ["tracing::warn!(", "tracing::error!("] {
        for (at, _) in source.match_indices(level) {
            found.extend(literals(&source[at + level.len()..]).pop());
        }
    }
    found
}

/// A message as the document has it: `...` for what is filled in.
fn as_documented(message: &str) -> String {
    let (mut text, mut inside) = (String::new(), false);
    for c in message.chars() {
        match c {
            '{' => {
                inside = true;
                text.push_str("...");
            }
            '}' => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text
}

#[test]
fn every_warning_and_error_is_in_the_run_book() {
    let book = std::fs::read_to_string(workspace().join("docs/operating.md")).unwrap();
    let (mut missing, mut checked) = (Vec::new(), 0);
    for path in rust_files(&workspace().join("monitor/src")) {
        for message in messages(&std::fs::read_to_string(&path).unwrap()) {
            let message = message.replace("{LOG_ENV}", "MONITOR_LOG");
            let documented = as_documented(&message);
            // Made elsewhere: "Lines from elsewhere".
            if documented == "..." {
                continue;
            }
            checked += 1;
            if !book.contains(&format!("`{documented}`")) {
                missing.push(format!("{}: {documented}", path.display()));
            }
        }
    }
    assert!(checked > 40, "only {checked} found");
    assert!(missing.is_empty(), "not in docs/operating.md:\n{}", missing.join("\n"));
}

#[test]
fn every_note_that_is_a_warning_is_in_the_run_book() {
    let book = std::fs::read_to_string(workspace().join("docs/operating.md")).unwrap();
    let source = workspace().join("monitor/src/agent/shell/notes.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let warn = source.find("tracing::warn!").unwrap();
    // Between the arrow of the arm before and this arm's own.
    let own = source[..warn].rfind("=>").unwrap();
    let before = source[..own].rfind("=>").unwrap();
    let names = source[before..own].split("Note::").skip(1);
    let mut checked = 0;
    for name in names {
        let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
        let mut word = String::new();
        for c in name.chars() {
            if c.is_uppercase() && !word.is_empty() {
                word.push('_');
            }
            word.push(c.to_ascii_lowercase());
        }
        assert!(book.contains(&format!("| `{word}` |")), "the note {word} is not in docs/operating.md");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} found");
}

#[test]
fn every_alert_has_its_part_in_the_run_book_and_every_part_its_alert() {
    let book = std::fs::read_to_string(workspace().join("docs/operating.md")).unwrap();
    let alerts = std::fs::read_to_string(workspace().join("deploy/prometheus/alerts.yml")).unwrap();
    let named: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(named.len() >= 12, "{named:?}");
    for name in &named {
        assert!(book.contains(&format!("\n### {name}\n")), "{name} is not in docs/operating.md");
        let anchor = format!("docs/operating.md#{}\"", name.to_lowercase());
        assert!(alerts.contains(&anchor), "{name} does not lead to its part");
    }
    for part in book.lines().filter_map(|line| line.strip_prefix("### Monitor")) {
        assert!(named.contains(&&*format!("Monitor{part}")), "there is no alert Monitor{part}");
    }
}

#[test]
fn every_kind_of_line_in_the_journal_is_in_the_run_book() {
    let book = std::fs::read_to_string(workspace().join("docs/operating.md")).unwrap();
    let source = std::fs::read_to_string(workspace().join("monitor/src/report/fields.rs")).unwrap();
    let is_id = |part: &&str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ids: Vec<&str> = source.split('"').filter(is_id).collect();
    assert!(ids.len() >= 20, "{ids:?}");
    for (at, id) in ids.iter().enumerate() {
        assert!(book.contains(&format!("| `{id}` |")), "{id} is not in docs/operating.md");
        assert!(!ids[..at].contains(id), "{id} is there twice");
    }
}

#[test]
fn the_chart_has_the_same_alerts() {
    let of = |path: &str| std::fs::read_to_string(workspace().join(path)).unwrap();
    let same = of("deploy/helm/monitor/alerts.yml") == of("deploy/prometheus/alerts.yml");
    assert!(same, "run `cargo xtask chart --write`");
}

#[test]
fn messages_are_found_as_they_are_written() {
    let source =
        "tracing::warn!(a = %b(\"x\"), \"one {two} (three) \\\"q\\\"\"); tracing::error!(\"f\\\n    g\");";
    assert_eq!(messages(source), ["one {two} (three) \"q\"", "fg"]);
    assert_eq!(as_documented("a {b:?}: {c}"), "a ...: ...");
}
