//! `cargo xtask setup`: gets what the kernel side is built with and notes where it is. Idempotent: what is there
//! and works is kept. Never touches a toolchain or a bpf-linker of the user's.

mod linker;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::command::{progress, run, step};
use crate::debian;
use crate::toolchain::record::{self, EbpfToolchain, LINKER_VARIABLE, TOOLCHAIN_VARIABLE};
use crate::toolchain::{self, Fit, LINKED};

/// Debian 12's newer rustc, which comes with the sources of core. Its cargo is needed too: `-Z build-std` works
/// only with a cargo and a rustc of one release.
const TOOLCHAIN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "cargo-web"];

/// The toolchain of the note if all of it still works, else what [`run_setup`] gets.
pub(crate) fn ensure() -> Result<EbpfToolchain> {
    match EbpfToolchain::load() {
        Ok(found) if toolchain::examine(&found.toolchain).is_ok() && linker::works(&found.linker) => {
            Ok(found)
        }
        Ok(_) | Err(_) => run_setup(),
    }
}

/// Looks for both parts, installs what is missing, and writes the note.
pub(crate) fn run_setup() -> Result<EbpfToolchain> {
    if !toolchain::rustup_works() {
        bail!("rustup is needed: see https://rustup.rs, and open a new shell after installing it");
    }
    let cache = record::cache_dir()
        .with_context(|| format!("no cache folder: set one of {}", record::CACHE_VARIABLES.join(", ")))?;
    let fit = get_toolchain()?;
    if fit.name == LINKED {
        debian::warn_if_first_in_path();
    }
    let linker = match env::var_os(LINKER_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => linker::get(&cache)?,
    };
    if !linker::works(&linker) {
        bail!("{} does not run: remove it and run `cargo xtask setup` again", linker.display());
    }
    let found = EbpfToolchain { toolchain: fit.name, bootstrap: fit.bootstrap, linker };
    write_note(&cache, &found)?;
    step(&format!(
        "The kernel side is built with toolchain {} and {}",
        found.toolchain,
        found.linker.display()
    ));
    Ok(found)
}

fn get_toolchain() -> Result<Fit> {
    if let Some(name) = env::var(TOOLCHAIN_VARIABLE).ok().filter(|name| !name.is_empty()) {
        return toolchain::examine(&name).with_context(|| format!("{TOOLCHAIN_VARIABLE}={name}"));
    }
    let (found, unfit) = toolchain::find()?;
    if let Some(fit) = found {
        return Ok(fit);
    }
    step("No toolchain of rustup can build for BPF:");
    for line in unfit {
        progress(&format!("    {line}"));
    }
    link_debians()
}

/// Gets Debian's rustc and cargo, whatever else there is: those that Debian has other architectures' libraries for.
pub(crate) fn debians_toolchain() -> Result<()> {
    match toolchain::examine(LINKED) {
        Ok(_) if debian::missing(&TOOLCHAIN_PACKAGES).is_empty() => Ok(()),
        Ok(_) | Err(_) => link_debians().map(drop),
    }
}

/// Makes Debian's rustc a toolchain of rustup, so that it is called like any other and only by its name.
fn link_debians() -> Result<Fit> {
    let missing = debian::missing(&TOOLCHAIN_PACKAGES);
    if !missing.is_empty() {
        if let Some(obstacle) = debian::obstacle() {
            bail!("{obstacle}. {}", by_hand(&missing));
        }
        debian::install("a Rust compiler with the sources of core, which is compiled for BPF", &missing)
            .with_context(|| by_hand(&missing))?;
    }
    run(
        "Linking Debian's toolchain into rustup",
        Command::new("rustup").args(["toolchain", "link", LINKED, "/usr"]),
    )?;
    toolchain::examine(LINKED).with_context(|| format!("the linked toolchain {LINKED}"))
}

fn by_hand(packages: &[&str]) -> String {
    format!(
        "Do one of these by hand, then run `cargo xtask setup` again:\n  \
         - anywhere: rustup component add rust-src\n  \
         - on Debian 12, as root: apt-get update && apt-get install --no-install-recommends {}",
        packages.join(" ")
    )
}

/// The build script reruns when the note changes, so an equal one is left alone.
fn write_note(cache: &Path, found: &EbpfToolchain) -> Result<()> {
    let path = record::note_in(cache);
    let text =
        format!("# Written by `cargo xtask setup`, read by monitor/build.rs.\n{}", toml::to_string(found)?);
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}
