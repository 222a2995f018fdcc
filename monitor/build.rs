//! Builds the kernel side (package monitor-ebpf) into `$OUT_DIR/monitor` and sets `cfg(ebpf_object)`, so that
//! the library can take it with
//! `aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/monitor"))`.
//!
//! With `MONITOR_SKIP_EBPF=1` (editors, a quick clippy) there is no object and no cfg: the library compiles, and
//! says so when it is asked to load. Installs nothing: that is `cargo xtask setup`.

#[path = "../xtask/src/toolchain/record.rs"]
mod record;

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use aya_build::{Package, Toolchain};
use record::{CACHE_VARIABLES, EbpfToolchain, LINKER_VARIABLE, TOOLCHAIN_VARIABLE};

const SKIP_VARIABLE: &str = "MONITOR_SKIP_EBPF";

/// What the outer build may set for its own compiler and what must not reach the one for BPF. aya-build itself
/// sets the flags, the target and the target folder, and drops clippy's wrapper.
const NOT_FOR_BPF: [&str; 6] = [
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_BUILD_DIR",
];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(ebpf_object)");
    for variable in CACHE_VARIABLES.into_iter().chain([SKIP_VARIABLE, TOOLCHAIN_VARIABLE, LINKER_VARIABLE]) {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // Any rerun-if line switches cargo's own watch of the package off, so this file is named too.
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os(SKIP_VARIABLE).is_some_and(|value| !value.is_empty() && value != "0") {
        return;
    }
    if let Some(cache) = record::cache_dir() {
        println!("cargo::rerun-if-changed={}", record::note_in(&cache).display());
    }
    match EbpfToolchain::load().map_err(|missing| missing.to_string()).and_then(check) {
        Ok(found) => build(&found),
        Err(what) => println!(
            "cargo::error=the kernel side cannot be built: {what}; run `cargo xtask setup` (or set \
             {SKIP_VARIABLE}=1 to build without the kernel side)"
        ),
    }
}

/// The parts are still where the note says: without this a removed one shows as a linker error far below.
fn check(found: EbpfToolchain) -> Result<EbpfToolchain, String> {
    if !found.linker.is_file() {
        return Err(format!("bpf-linker is not at {}", found.linker.display()));
    }
    let sysroot = Command::new("rustup")
        .args(["run", &found.toolchain, "rustc", "--print", "sysroot"])
        .output()
        .map_err(|error| format!("rustup does not start: {error}"))?;
    if !sysroot.status.success() {
        return Err(format!("rustup has no working toolchain {:?}", found.toolchain));
    }
    let sysroot = String::from_utf8_lossy(&sysroot.stdout);
    if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
        return Err(format!("the toolchain {:?} has no rust-src", found.toolchain));
    }
    Ok(found)
}

fn build(found: &EbpfToolchain) {
    for (name, _) in env::vars_os() {
        let profile = name.to_string_lossy().starts_with("CARGO_PROFILE_");
        if profile || NOT_FOR_BPF.iter().any(|variable| OsStr::new(variable) == name) {
            // SAFETY: this build script has one thread so far; aya-build starts its own later.
            unsafe { env::remove_var(&name) };
        }
    }
    // Else every line cargo prints about its progress becomes a warning of this build, each time anew.
    set("CARGO_TERM_QUIET", "true");
    set("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &found.linker);
    set("CARGO_TARGET_BPFEB_UNKNOWN_NONE_LINKER", &found.linker);
    if found.bootstrap {
        set("RUSTC_BOOTSTRAP", "1");
    }
    println!("cargo::rerun-if-changed=../monitor-common");
    if let Err(error) = share_target() {
        println!("cargo::warning=the kernel side is built once more for this variant: {error}");
    }
    let package = Package { name: "monitor-ebpf", root_dir: "../monitor-ebpf", ..Package::default() };
    match aya_build::build_ebpf([package], Toolchain::Custom(&found.toolchain)) {
        Ok(()) => println!("cargo::rustc-cfg=ebpf_object"),
        Err(error) => println!("cargo::error=the kernel side did not build: {error:#}"),
    }
}

/// Cargo gives each variant of this package (features, profiles, clippy) an `OUT_DIR` of its own, and aya-build builds in
/// there. The kernel side is the same for all, so that all are led to one target folder beside theirs.
fn share_target() -> io::Result<()> {
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    // It is TARGET/PROFILE/build/PACKAGE/out.
    let Some(target) = out.ancestors().nth(4) else { return Ok(()) };
    let (shared, own) = (target.join("ebpf"), out.join("aya-build"));
    fs::create_dir_all(&shared)?;
    if own.is_symlink() {
        if fs::read_link(&own)? == shared {
            return Ok(());
        }
        // A target folder that was copied leads to the one that it is a copy of.
        fs::remove_file(&own)?;
    } else if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    symlink(shared, own)
}

fn set(name: &str, value: impl AsRef<OsStr>) {
    // SAFETY: as above, one thread so far.
    unsafe { env::set_var(name, value) };
}
