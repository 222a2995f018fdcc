//! `cargo xtask dist`: what a person installs, in target/dist: static binaries, packages, tarballs, the Python
//! client's wheel, the chart, bills of materials, sums. The same commit gives the same bytes: every time in there is that of the commit.

mod binary;
mod bom;
mod files;
pub(crate) mod packages;
mod tarball;
mod wheel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::command::{output, step};
use crate::{chart, setup};
use files::Files;

/// What it is called where there are many programs; the binary is `monitor`.
pub(crate) const PACKAGE: &str = "memory-monitor";
/// The one version of everything.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where all lands.
pub(crate) const TO: &str = "target/dist";

/// What the user typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Build for these only
    #[arg(long, value_name = "ARCH", value_delimiter = ',', default_values = ["x86_64", "aarch64"])]
    pub(crate) arch: Vec<Architecture>,
    /// Package this binary for x86_64 instead of building one: to try packaging. No release is made of it
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
}

/// Makes all of it anew.
pub(crate) fn run_dist(options: &Options) -> Result<()> {
    setup::ensure()?;
    let epoch = epoch()?;
    let to = Path::new(TO);
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| TO.to_owned())?;
    }
    fs::create_dir_all(to).with_context(|| TO.to_owned())?;
    // The manual and the completions are the same for all, and only this machine's own binary runs here.
    let native = match &options.binary {
        Some(binary) => binary.clone(),
        None => binary::build(Architecture::X86_64, epoch)?,
    };
    for &architecture in &options.arch {
        let binary = match architecture {
            Architecture::X86_64 => native.clone(),
            Architecture::Aarch64 => binary::build(architecture, epoch)?,
        };
        let work = tempfile::tempdir().context("a temporary folder")?;
        let files = Files::stage(work.path(), &binary, &native, epoch)?;
        let name = name(architecture);
        keep(&binary, &to.join(&name))?;
        tarball::write(&files, &name, to, epoch)?;
        packages::write(&files, architecture, work.path(), to, epoch)?;
        bom::write(architecture, &to.join(format!("{name}.cdx.json")), epoch)?;
    }
    let chart = to.join(format!("monitor-{VERSION}.tgz"));
    tarball::pack(Path::new("deploy/helm"), "monitor", &chart, epoch)?;
    wheel::write(to, epoch)?;
    keep(Path::new(chart::MANIFESTS), &to.join(format!("{PACKAGE}-{VERSION}-kubernetes.yaml")))?;
    sums(to)?;
    fs::write(to.join("SOURCE_DATE_EPOCH"), format!("{epoch}\n"))?;
    step(&format!("Wrote {TO}"));
    for (name, size) in listing(to)? {
        println!("{size:>10}  {name}");
    }
    Ok(())
}

/// What the binary of a release is called, and its tarball without the ending.
pub(crate) fn name(architecture: Architecture) -> String {
    format!("{PACKAGE}-{VERSION}-{}-linux", architecture.name())
}

/// Builds the static binary, and nothing else; its path.
pub(crate) fn build(architecture: Architecture) -> Result<PathBuf> {
    binary::build(architecture, epoch()?)
}

/// Seconds of the time that everything gets: `SOURCE_DATE_EPOCH`, else that of the last commit.
fn epoch() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => text,
        Ok(_) | Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]))
            .context("the time of the last commit (or set SOURCE_DATE_EPOCH)")?,
    };
    text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH: {text:?} is no number of seconds"))
}

fn keep(binary: &Path, to: &Path) -> Result<()> {
    fs::copy(binary, to).with_context(|| to.display().to_string()).map(drop)
}

/// Names and sizes, by name.
fn listing(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
    }
    found.sort();
    Ok(found)
}

/// SHA256SUMS of all that is in `folder`, for `sha256sum --check`.
fn sums(folder: &Path) -> Result<()> {
    let names: Vec<PathBuf> = listing(folder)?.into_iter().map(|(name, _)| name.into()).collect();
    if names.is_empty() {
        bail!("nothing was made");
    }
    let mut text = output(Command::new("sha256sum").args(names).current_dir(folder))?;
    text.push('\n');
    fs::write(folder.join("SHA256SUMS"), text).context("SHA256SUMS")
}
