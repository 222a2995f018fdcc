//! Rules of the repository that the compiler does not know: the pure rooms stay pure, every file says what it
//! owns, no file outgrows a head, and the tests that documents name exist. An offender is named with its file and line.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

#[path = "support/sources.rs"]
mod sources;

use std::fmt::Write as _;
use std::path::Path;

use sources::{rust_files, workspace};

/// What the pure crate must not depend on. That it has no `std` of its own, the compiler sees to.
const IMPURE: [&str; 6] = ["tokio", "aya", "rustix", "libc", "nix", "signal-hook"];

/// The most lines that a file may have, not counting its tests.
const MAX_LINES: usize = 500;

fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap().display().to_string()
}

/// The lines of a file with their numbers, up to its test module, which comes last. A declaration of a test
/// module in a file of its own, `mod tests;`, ends nothing.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<_> = text.lines().collect();
    let end = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'))
        .unwrap_or(lines.len());
    (1..).zip(lines).take(end)
}

#[test]
fn the_pure_crate_has_no_std_and_depends_on_nothing_impure() {
    let core = workspace().join("monitor/core");
    let library = std::fs::read_to_string(core.join("src/lib.rs")).unwrap();
    assert!(library.contains("#![cfg_attr(not(test), no_std)]"), "monitor-core has std");
    let manifest = std::fs::read_to_string(core.join("Cargo.toml")).unwrap();
    let of_the_library = manifest.split("[dev-dependencies]").next().unwrap();
    for name in IMPURE {
        assert!(!of_the_library.contains(&format!("{name}.workspace")), "monitor-core depends on {name}");
    }
}

#[test]
fn every_file_says_what_it_owns_and_none_is_too_long() {
    let files = rust_files(&workspace());
    assert!(files.len() > 10, "only {} files found", files.len());
    let mut offenders = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            writeln!(offenders, "{}:1: does not begin with //! and what it owns", shown(&file)).unwrap();
        }
        // Tests are not counted, wherever they stand.
        let of_tests = file.parent().is_some_and(|parent| parent.ends_with("tests"));
        let lines = if of_tests { 0 } else { code(&text).count() };
        if lines > MAX_LINES {
            writeln!(offenders, "{}:{MAX_LINES}: goes on to {lines} lines without tests", shown(&file))
                .unwrap();
        }
    }
    assert!(offenders.is_empty(), "\n{offenders}");
}

/// The documents that say of each threat or fault which test shows it.
const NAME_TESTS: [&str; 2] = ["SECURITY.md", "docs/faults.md"];

/// What a line of Markdown names as code, in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests, modules and files that a document names, with their lines: all that looks like a path of Rust, and in a
/// table with "test" as its last column all that is there.
fn tests_named(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut of_tests = false;
    for (number, line) in (1..).zip(text.lines()) {
        let last = line.strip_suffix('|').and_then(|row| row.rsplit('|').next()).map(str::trim);
        of_tests = last.is_some_and(|last| last == "test" || of_tests);
        let whole = last.filter(|_| of_tests).unwrap_or_default();
        let named = |word: &&str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:./".contains(c);
            word.chars().all(plain) && (word.contains("::") || quoted(whole).any(|other| other == *word))
        };
        found.extend(quoted(line).filter(named).map(|word| (number, word)));
        let files = whole.split([' ', ',', '(', ')']).filter(|word| word.ends_with(".rs"));
        found.extend(files.map(|word| (number, word)));
    }
    found
}

/// Whether `name` is a test in a file that its path leads to, or such a file, or a module. `...` stands for the rest
/// of a long name.
fn exists(name: &str, sources: &[(String, String)]) -> bool {
    let path = name.replace("::", "/");
    let leads = |file: &str, path: &str| {
        let file = file.strip_suffix(".rs").unwrap_or(file);
        format!("/{file}/").contains(&format!("/{path}/"))
    };
    // A module of tests stands in its file, as a rule.
    let module = path.strip_suffix(".rs").or(path.strip_suffix("/tests")).unwrap_or(&path);
    let (rooms, test) = path.rsplit_once('/').unwrap_or(("", &path));
    let begin = match test.strip_suffix("...") {
        Some(begin) => format!("fn {begin}"),
        None => format!("fn {test}("),
    };
    sources.iter().any(|(file, text)| {
        let here = rooms.is_empty() || leads(file, rooms.trim_end_matches("/tests"));
        leads(file, module)
            || here
                && text.lines().any(|line| line.trim_start().trim_start_matches("async ").starts_with(&begin))
    })
}

#[test]
fn the_tests_that_documents_name_exist() {
    let sources: Vec<_> = rust_files(&workspace())
        .into_iter()
        .map(|file| (shown(&file), std::fs::read_to_string(&file).unwrap()))
        .collect();
    let mut offenders = String::new();
    for document in NAME_TESTS {
        let text = std::fs::read_to_string(workspace().join(document)).unwrap();
        let named = tests_named(&text);
        assert!(named.len() > 40, "{document} names only {}", named.len());
        for (number, name) in named.into_iter().filter(|(_, name)| !exists(name, &sources)) {
            writeln!(offenders, "{document}:{number}: there is no {name}").unwrap();
        }
    }
    assert!(offenders.is_empty(), "\n{offenders}");
}

#[test]
fn a_test_that_does_not_exist_is_found_out() {
    let text = "see `a::b`, `C::d` and `c_d`\n| x | test |\n|---|---|\n| `x_y` | `one_two`, three.rs (unit) |\n\n| `z` |\n";
    assert_eq!(tests_named(text), [(1, "a::b"), (4, "one_two"), (4, "three.rs")]);
    let source = |file: &str, text: &str| (file.to_owned(), text.to_owned());
    let sources = [
        source("tests/tests/kill.rs", "#[test]\nfn it_dies() {}\n"),
        source("monitor/src/agent/core.rs", "mod tests {\n    async fn it_lives() {}\n}\n"),
    ];
    for name in [
        "kill::it_dies",
        "it_dies",
        "kill::it_d...",
        "kill.rs",
        "agent::core",
        "agent::core::tests",
        "it_lives",
    ] {
        assert!(exists(name, &sources), "{name}");
    }
    for name in ["kill::it_lives", "it_die", "kill::it_x...", "kills.rs", "agent::cor", "core::kill", "dies"]
    {
        assert!(!exists(name, &sources), "{name}");
    }
}

#[test]
fn the_end_of_a_files_code_is_its_test_module() {
    let text = "one\n#[cfg(test)]\nmod tests;\ntwo\n#[cfg(test)]\nmod tests {\n    more\n}\n";
    assert_eq!(code(text).map(|(number, _)| number).collect::<Vec<_>>(), [1, 2, 3, 4]);
}
