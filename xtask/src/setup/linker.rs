//! Gets bpf-linker into the project's own cache. Its LLVM must be at least the compiler's; see
//! [`crate::toolchain::LLVM`].

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, output, run};
use crate::debian;
use crate::toolchain::LLVM;
use crate::toolchain::record::LINKER_VARIABLE;

/// Newer ones may need a newer rustc than the workspace does.
const VERSION: &str = "0.13.0";
/// Where Debian puts LLVM 22.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// The headers and libraries of LLVM.
const PACKAGES: [&str; 1] = ["llvm-22-dev"];

/// Whether the binary runs: after an upgrade of the system its libraries may be gone.
pub(super) fn works(linker: &Path) -> bool {
    output(Command::new(linker).arg("--version")).is_ok()
}

/// The binary in the cache, built there if there is none that runs.
pub(super) fn get(cache: &Path) -> Result<PathBuf> {
    let root = cache.join(format!("bpf-linker-{VERSION}-llvm-{LLVM}"));
    let binary = root.join("bin/bpf-linker");
    if works(&binary) {
        return Ok(binary);
    }
    let missing = debian::missing(&PACKAGES);
    if !missing.is_empty() {
        if let Some(obstacle) = debian::obstacle() {
            bail!("{obstacle}. {}", by_hand(&missing));
        }
        debian::install("the LLVM that bpf-linker turns the compiler's output into BPF with", &missing)
            .with_context(|| by_hand(&missing))?;
    }
    let mut install = cargo();
    install
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}"), "--root"])
        .arg(&root);
    run("Building bpf-linker, the linker of the kernel side (once, a minute or two)", &mut install)?;
    Ok(binary)
}

fn by_hand(packages: &[&str]) -> String {
    format!(
        "Do one of these by hand, then run `cargo xtask setup` again:\n  \
         - on Debian 12, as root: apt-get update && apt-get install --no-install-recommends {}\n  \
         - anywhere: install LLVM {LLVM} with its headers, then\n    \
           LLVM_PREFIX=/where/it/is cargo install bpf-linker --version {VERSION} --locked --no-default-features \
         --features llvm-{LLVM} --root /some/folder\n    \
           and set {LINKER_VARIABLE}=/some/folder/bin/bpf-linker",
        packages.join(" ")
    )
}
