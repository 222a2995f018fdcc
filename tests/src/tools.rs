//! Programs that some tests need and that are no part of a system as a rule: in `PATH`, or in the cache folder, where
//! `cargo xtask tools` puts them. Fetches nothing.

use std::env;
use std::path::PathBuf;

/// The program of this name in `PATH`.
#[must_use]
pub fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The cache folder of `cargo xtask`.
#[must_use]
pub fn cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MONITOR_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("monitor")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/monitor")))
}

/// This file below the cache folder of `cargo xtask`, if it is there.
#[must_use]
pub fn in_cache(file: &str) -> Option<PathBuf> {
    Some(cache()?.join(file)).filter(|path| path.is_file())
}

/// The Python of an environment that `cargo xtask tools` made, if that is whole.
#[must_use]
pub fn python(environment: &str) -> Option<PathBuf> {
    in_cache(&format!("python/{environment}/whole"))?;
    in_cache(&format!("python/{environment}/bin/python"))
}
