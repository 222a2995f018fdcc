//! `cargo xtask release --dry-run`: whether everything that a release needs is there. Changes, tags and sends nothing:
//! a release is the commit that this holds for, with its tag.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::chart;
use crate::command::output;
use crate::dist::{TO, VERSION};

/// What the user typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only look (nothing else is done by this command)
    #[arg(long)]
    dry_run: bool,
}

/// One thing that a release needs: what, and what is wrong.
type Check = (&'static str, Result<(), String>);

/// Prints each with its outcome, and fails if one does not hold.
pub(crate) fn run_release(options: &Options) -> Result<()> {
    if !options.dry_run {
        bail!("only --dry-run: to release, tag the commit that it holds for as v{VERSION}");
    }
    let checks = [
        ("the working tree is committed", committed()),
        ("the tag is free", tag_is_free()),
        ("CHANGELOG.md has the version and its date", changelog(&text("CHANGELOG.md"), VERSION)),
        ("Cargo.lock has the version", lock(&text("Cargo.lock"), VERSION)),
        (
            "the chart has the version",
            chart::check_version(&text("deploy/helm/monitor/Chart.yaml")).map_err(|e| e.to_string()),
        ),
        (
            "the container file has the version",
            names(&text("deploy/Containerfile"), &format!("ARG VERSION={VERSION}")),
        ),
        ("SECURITY.md says which versions are supported", names(&text("SECURITY.md"), "Supported versions")),
        (
            "CONTRIBUTING.md says which Rust is needed",
            names(&text("CONTRIBUTING.md"), env!("CARGO_PKG_RUST_VERSION")),
        ),
        ("target/dist is whole, of this version, and of this commit", made()),
    ];
    let bad = report(&checks);
    if bad > 0 {
        bail!("{bad} of {} do not hold", checks.len());
    }
    println!("Ready: git tag v{VERSION}");
    Ok(())
}

fn report(checks: &[Check]) -> usize {
    for (what, outcome) in checks {
        match outcome {
            Ok(()) => println!("ok      {what}"),
            Err(why) => println!("missing {what}: {why}"),
        }
    }
    checks.iter().filter(|(_, outcome)| outcome.is_err()).count()
}

/// Empty if it cannot be read: then it says nothing that it should.
fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn names(text: &str, wanted: &str) -> Result<(), String> {
    if text.contains(wanted) { Ok(()) } else { Err(format!("no {wanted:?} in it")) }
}

fn committed() -> Result<(), String> {
    match output(Command::new("git").args(["status", "--porcelain"])) {
        Ok(changed) if changed.is_empty() => Ok(()),
        Ok(changed) => Err(format!("{} files are not", changed.lines().count())),
        Err(error) => Err(error.to_string()),
    }
}

fn tag_is_free() -> Result<(), String> {
    let tag = format!("v{VERSION}");
    match output(Command::new("git").args(["tag", "--list", &tag])) {
        Ok(found) if found.is_empty() => Ok(()),
        Ok(_) => Err(format!("{tag} is taken: raise the version in Cargo.toml")),
        Err(error) => Err(error.to_string()),
    }
}

/// A heading `## [1.2.3] - 2026-01-31`, and something below it.
fn changelog(text: &str, version: &str) -> Result<(), String> {
    let head = format!("## [{version}] - ");
    let mut lines = text.lines();
    let Some(date) = lines.find_map(|line| line.strip_prefix(&head)) else {
        return Err(format!("no heading \"{head}YYYY-MM-DD\""));
    };
    let shape: String = date.trim().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if shape != "0000-00-00" {
        return Err(format!("{date:?} is no date as 2026-01-31"));
    }
    if lines.take_while(|line| !line.starts_with("## ")).any(|line| line.starts_with("- ")) {
        Ok(())
    } else {
        Err("nothing stands below the heading".into())
    }
}

fn lock(text: &str, version: &str) -> Result<(), String> {
    names(text, &format!("name = \"monitor\"\nversion = \"{version}\"\n"))
}

/// The sums are right, all parts are there, and the time in it is that of the last commit.
fn made() -> Result<(), String> {
    let folder = Path::new(TO);
    let sums =
        fs::read_to_string(folder.join("SHA256SUMS")).map_err(|_| "run `cargo xtask dist`".to_owned())?;
    output(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(folder))
        .map_err(|error| error.to_string())?;
    complete(&sums, VERSION)?;
    let commit =
        output(Command::new("git").args(["log", "-1", "--format=%ct"])).map_err(|e| e.to_string())?;
    let of = fs::read_to_string(folder.join("SOURCE_DATE_EPOCH")).unwrap_or_default();
    if of.trim() == commit {
        Ok(())
    } else {
        Err("it was made of another commit: run `cargo xtask dist`".into())
    }
}

/// Every kind of file for every architecture, in the list of sums.
fn complete(sums: &str, version: &str) -> Result<(), String> {
    let parts = [
        "x86_64-linux.tar.gz",
        "aarch64-linux.tar.gz",
        "amd64.deb",
        "arm64.deb",
        "x86_64.rpm",
        "aarch64.rpm",
        "x86_64.apk",
        "aarch64.apk",
        "x86_64-linux.cdx.json",
        "aarch64-linux.cdx.json",
        ".tgz",
        ".whl",
    ];
    for part in parts {
        if !sums.lines().any(|line| line.contains(version) && line.ends_with(part)) {
            return Err(format!("no {part} of {version}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_needs_its_heading_with_a_date_and_something_below() {
        assert!(changelog("## [1.0.0] - 2026-01-31\n\n- new\n", "1.0.0").is_ok());
        let why = |text: &str| changelog(text, "1.0.0").unwrap_err();
        assert!(why("## [Unreleased]\n- new\n").contains("no heading"));
        assert!(why("## [1.0.0] - soon\n- new\n").contains("no date"));
        assert!(why("## [1.0.0] - 2026-01-31\n\n## [0.9.0] - 2025-01-31\n- old\n").contains("nothing"));
    }

    #[test]
    fn a_part_of_another_version_does_not_count() {
        let all: String = [
            "x86_64-linux.tar.gz",
            "aarch64-linux.tar.gz",
            "amd64.deb",
            "arm64.deb",
            "x86_64.rpm",
            "aarch64.rpm",
            "x86_64.apk",
            "aarch64.apk",
            "x86_64-linux.cdx.json",
            "aarch64-linux.cdx.json",
            "m.tgz",
            "py3-none-any.whl",
        ]
        .map(|part| format!("00  m-1.0.0-{part}\n"))
        .concat();
        assert!(complete(&all, "1.0.0").is_ok());
        assert_eq!(
            complete(&all.replace("1.0.0-arm64.deb", "0.9.0-arm64.deb"), "1.0.0").unwrap_err(),
            "no arm64.deb of 1.0.0"
        );
        assert!(lock("name = \"monitor\"\nversion = \"1.0.0\"\n", "1.0.0").is_ok());
        assert!(lock("name = \"monitor\"\nversion = \"1.0.1\"\n", "1.0.0").is_err());
    }
}
