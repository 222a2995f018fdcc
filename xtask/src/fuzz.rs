//! `cargo xtask fuzz`: gives each reader bytes that libFuzzer makes up, for a while, and says what came of it. The
//! targets, and what must hold, are in `fuzz/`.

mod tally;
mod tools;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::command::{run, step};
use tally::Tally;
use tools::Tools;

/// The folder of the targets, a workspace of its own.
const FUZZ: &str = "fuzz";

/// What to run, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which targets; all if none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// For how long each
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Installs what is missing, builds, and runs one target after the other, all of them even if one finds something.
pub(crate) fn run_fuzz(options: &Options) -> Result<()> {
    let targets = chosen(&options.targets, all_targets()?)?;
    let tools = tools::get()?;
    for target in &targets {
        // One by one: linking nine at once takes as much memory as the rest of the build.
        run(&format!("Building {target}"), tools.cargo_fuzz("build").arg(target))?;
    }
    let mut table = Vec::new();
    for target in &targets {
        table.push((target, fuzz(&tools, target, options.seconds)?));
    }
    println!("{:<14} {:>12} {:>9} {:>9} {:>9}", "target", "executions", "corpus", "new", "coverage");
    for (target, Tally { executions, seeds, corpus, coverage, .. }) in &table {
        println!(
            "{target:<14} {executions:>12} {corpus:>9} {:>9} {coverage:>9}",
            corpus.saturating_sub(*seeds)
        );
    }
    let crashes: Vec<&str> = table.iter().filter_map(|(_, tally)| tally.crash.as_deref()).collect();
    if crashes.is_empty() {
        return Ok(());
    }
    bail!(
        "found what does not hold. Mend it, and put the file into {FUZZ}/corpus/TARGET:\n  {}",
        crashes.join("\n  ")
    );
}

/// The targets that there are.
fn all_targets() -> Result<Vec<String>> {
    let directory = Path::new(FUZZ).join("fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("rs")) {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn chosen(wanted: &[String], all: Vec<String>) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    Ok(if wanted.is_empty() { all } else { wanted.to_vec() })
}

/// Runs one. New input is kept apart from the seeds, below `fuzz/target`: what is in the repository was chosen.
fn fuzz(tools: &Tools, target: &str, seconds: u32) -> Result<Tally> {
    step(&format!("{target}, for {seconds} s"));
    let found = Path::new(FUZZ).join("target/corpus").join(target);
    let artifacts = Path::new(FUZZ).join("artifacts").join(target);
    for directory in [&found, &artifacts] {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let seeds = Path::new(FUZZ).join("corpus").join(target);
    let mut command = tools.cargo_fuzz("run");
    command.arg(target).args([&found, &seeds]).arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={}", longest(target)));
    // A slow input is a fault too: the agent's loop and its users wait for these readers.
    command.args(["-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    let words = dictionary(target);
    if words.is_file() {
        command.arg(format!("-dict={}", words.display()));
    }
    let before = fs::read_dir(&artifacts)?.count();
    let out = command.stdin(Stdio::null()).stdout(Stdio::inherit()).output().context("cargo fuzz")?;
    let said = String::from_utf8_lossy(&out.stderr);
    let mut tally = Tally::read(&said);
    if !out.status.success() {
        eprintln!("{said}");
        if tally.crash.is_none() && fs::read_dir(&artifacts)?.count() == before {
            bail!("the target {target} failed without an input that shows it: {}", out.status);
        }
        tally.crash.get_or_insert_with(|| artifacts.display().to_string());
    }
    Ok(tally)
}

/// The longest input to try, in bytes: a seed of the format has room. A longer one takes time and shows nothing more.
fn longest(target: &str) -> usize {
    if target == "control_line" { 1 << 10 } else { 4 << 10 }
}

fn dictionary(target: &str) -> PathBuf {
    Path::new(FUZZ).join("dictionaries").join(target)
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn a_target_that_is_not_there_is_refused_by_name() {
        let all = || vec!["btf".to_owned(), "record".to_owned()];
        assert_eq!(chosen(&[], all()).unwrap(), all());
        assert_eq!(chosen(&["record".to_owned()], all()).unwrap(), ["record"]);
        let error = chosen(&["ftb".to_owned()], all()).unwrap_err().to_string();
        assert_eq!(error, "there is no target ftb; there are btf, record");
    }
}
