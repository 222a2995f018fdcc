//! Where the binaries are that tests start. Builds nothing: `cargo xtask test` and `cargo xtask demo` build first.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Names another `monitor` than the one beside the tests.
pub const MONITOR_VARIABLE: &str = "MONITOR_TEST_BINARY";

/// The `monitor` that is tested.
///
/// # Errors
/// It is not built.
pub fn monitor() -> Result<PathBuf> {
    match std::env::var_os(MONITOR_VARIABLE) {
        Some(path) => Ok(path.into()),
        None => beside("monitor", "cargo build -p monitor"),
    }
}

/// The program that makes mount namespaces for users without privileges.
///
/// # Errors
/// It is not built.
pub fn monitor_ray_run() -> Result<PathBuf> {
    beside("monitor-ray-run", "cargo build -p monitor")
}

/// The worker that touches memory: [`crate::hog`].
///
/// # Errors
/// It is not built.
pub fn hog() -> Result<PathBuf> {
    beside("hog", "cargo build -p monitor-tests --bins")
}

/// The soak: `src/bin/soak/`.
///
/// # Errors
/// It is not built.
pub fn soak() -> Result<PathBuf> {
    beside("soak", "cargo build -p monitor-tests --bins")
}

/// In the profile's directory: this executable lies there, or as a test in its `deps`.
fn beside(name: &str, build: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this executable is")?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!("no {name} beside {}: {build}", own.parent().unwrap_or(Path::new("/")).display()),
    }
}
