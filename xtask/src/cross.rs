//! What builds for aarch64 on another machine: Debian's rustc, its standard library for arm64, and a cross linker. The
//! compiler is the one that setup installs; the rest is unpacked into the cache.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::command::{self, output, step};
use crate::debian::apt::{Apt, Suites, library_folders};
use crate::toolchain::{self, record};
use crate::{debian, setup};

/// Debian's standard library, of one version with its compiler.
const STANDARD_LIBRARY: &str = "libstd-rust-web-dev";
/// Links; and the C library to link with, which the first only recommends.
const LINKER_PACKAGES: [&str; 2] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
const LINKER: &str = "aarch64-linux-gnu-gcc";

/// Between the flags in `CARGO_ENCODED_RUSTFLAGS`.
pub(crate) const SEPARATOR: &str = "\u{1f}";

/// Cargo for one architecture, and flags for the compiler, without which it does not find what it links.
pub(crate) fn cargo_for(architecture: Architecture) -> Result<(Command, Vec<String>)> {
    match architecture {
        Architecture::X86_64 => Ok((command::cargo(), Vec::new())),
        Architecture::Aarch64 => aarch64(),
    }
}

fn aarch64() -> Result<(Command, Vec<String>)> {
    setup::debians_toolchain()?;
    let cache = record::cache_dir().context("no cache folder")?.join("cross-aarch64");
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let sysroot = sysroot(&cache)?;
    let linker = linker(&cache)?;
    let mut cargo = Command::new("rustup");
    cargo
        .args(["run", toolchain::LINKED, "cargo"])
        // Of the cargo that runs this.
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("MONITOR_SKIP_EBPF")
        .env("LD_LIBRARY_PATH", joined(library_folders(&linker)));
    let flags = vec![
        format!("--sysroot={}", sysroot.join("usr").display()),
        format!("-Clinker={}", linker.join("usr/bin").join(LINKER).display()),
    ];
    Ok((cargo, flags))
}

fn joined(folders: BTreeSet<PathBuf>) -> OsString {
    folders.into_iter().map(OsString::from).collect::<Vec<_>>().join(OsString::from(":").as_os_str())
}

/// The standard library for arm64, of the version of the compiler that is installed.
fn sysroot(cache: &Path) -> Result<PathBuf> {
    let version = output(Command::new("dpkg-query").args(["-W", "-f=${Version}\\n", STANDARD_LIBRARY]))
        .context("the version of Debian's rustc")?;
    let version = version.lines().next().unwrap_or_default();
    let folder = cache.join(format!("rust-{version}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    step(&format!("Fetching {STANDARD_LIBRARY} {version} for arm64"));
    let apt = Apt::open_for(&cache.join("apt"), &Suites::of_release(&debian::release()?), "arm64")?;
    unpacked(cache, &folder, |to| apt.fetch(STANDARD_LIBRARY, version, to))
        .with_context(|| format!("{STANDARD_LIBRARY} {version} for arm64: is the installed one up to date?"))
}

fn linker(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("linker");
    let works = |folder: &Path| {
        let mut linker = Command::new(folder.join("usr/bin").join(LINKER));
        linker.arg("-print-file-name=libc.a").env("LD_LIBRARY_PATH", joined(library_folders(folder)));
        // A file that it does not find it names without a folder.
        output(&mut linker).is_ok_and(|path| path.trim().contains('/'))
    };
    if works(&folder) {
        return Ok(folder);
    }
    step(&format!("Fetching {}", LINKER_PACKAGES.join(" and ")));
    let apt = Apt::open(&cache.join("apt-linker"), &Suites::of_release(&debian::release()?))?;
    unpacked(cache, &folder, |to| apt.fetch_with_missing(&LINKER_PACKAGES, to))?;
    if !works(&folder) {
        bail!(
            "the {LINKER} that was fetched does not start, or finds no C library: remove {}",
            folder.display()
        );
    }
    Ok(folder)
}

/// Fetches into `folder`: whole or not there.
fn unpacked(cache: &Path, folder: &Path, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let made = tempfile::tempdir_in(cache)?;
    fetch(made.path())?;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::rename(made.keep(), folder).with_context(|| folder.display().to_string())?;
    Ok(folder.to_owned())
}
