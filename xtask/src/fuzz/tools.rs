//! What fuzzing needs: a nightly compiler, which instruments, a C++ compiler for libFuzzer, and cargo-fuzz, which goes
//! into the project's own cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, in_path, output, run};
use crate::debian;
use crate::toolchain::{self, record};

/// The cargo-fuzz that this was tried with.
const VERSION: &str = "0.13.2";
/// Debian's C++ compiler.
const PACKAGES: [&str; 1] = ["g++"];

/// Where they are.
#[derive(Debug)]
pub(super) struct Tools {
    /// Rustup's name of a nightly.
    nightly: String,
    cargo_fuzz: PathBuf,
}

impl Tools {
    /// `cargo fuzz SUBCOMMAND` with the nightly, at a lower priority, to be completed.
    pub(super) fn cargo_fuzz(&self, subcommand: &str) -> Command {
        let mut command = Command::new("nice");
        command.args(["rustup", "run", &self.nightly]).arg(&self.cargo_fuzz).args(["fuzz", subcommand]);
        // Readers only: no target loads the kernel side. And no setting of the caller's cargo: this one is another.
        command.env("MONITOR_SKIP_EBPF", "1").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
        command
    }
}

/// Looks for them and installs what is missing.
pub(super) fn get() -> Result<Tools> {
    let nightly = toolchain::nightly()?.context(
        "fuzzing needs a nightly toolchain, which instruments the code: rustup toolchain install nightly \
         --profile minimal",
    )?;
    get_compiler()?;
    Ok(Tools { nightly, cargo_fuzz: get_cargo_fuzz()? })
}

fn get_compiler() -> Result<()> {
    if !in_path("c++").is_empty() {
        return Ok(());
    }
    let by_hand = || format!("Install a C++ compiler; on Debian, as root: apt-get install {}", PACKAGES[0]);
    if let Some(obstacle) = debian::obstacle() {
        bail!("{obstacle}. {}", by_hand());
    }
    debian::install("the C++ compiler that libFuzzer is built with", &PACKAGES).with_context(by_hand)
}

/// The user's own if there is one, else that of the cache, built there if it is not there.
fn get_cargo_fuzz() -> Result<PathBuf> {
    let works = |program: &PathBuf| output(Command::new(program).args(["fuzz", "--version"])).is_ok();
    if let Some(own) = in_path("cargo-fuzz").into_iter().find(works) {
        return Ok(own);
    }
    let cache = record::cache_dir()
        .with_context(|| format!("no cache folder: set one of {}", record::CACHE_VARIABLES.join(", ")))?;
    let root = cache.join(format!("cargo-fuzz-{VERSION}"));
    let program = root.join("bin/cargo-fuzz");
    if !works(&program) {
        let mut install = cargo();
        install
            .args(["install", "cargo-fuzz", "--version", VERSION, "--locked", "--force", "--root"])
            .arg(&root);
        run("Building cargo-fuzz (once, a minute or two)", &mut install)?;
    }
    Ok(program)
}
