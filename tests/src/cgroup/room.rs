//! Whether a sandbox can be had here at all.

use std::fs;

use anyhow::{Context, Result};
use monitor::units::Bytes;

/// Whether cgroups can be made: as root only.
#[must_use]
pub fn may_make() -> bool {
    rustix::process::geteuid().is_root()
}

/// Why a sandbox of this size, filled, is not to be had on this machine; none if it is.
#[must_use]
pub fn obstacle(limit: Bytes) -> Option<String> {
    if !may_make() {
        return Some("making cgroups needs root".into());
    }
    match available() {
        Ok(available) if available < limit => {
            Some(format!("it needs {limit}, and {available} are available"))
        }
        Ok(_) => None,
        Err(error) => Some(format!("{error:#}")),
    }
}

/// What the machine can give without swapping.
fn available() -> Result<Bytes> {
    let text = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 =
        line.context("/proc/meminfo has no MemAvailable")?.trim().trim_end_matches(" kB").parse()?;
    Ok(Bytes(kib << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused_with_the_sizes() {
        if may_make() {
            assert!(obstacle(Bytes(u64::MAX)).unwrap().contains("are available"));
            assert_eq!(obstacle(Bytes(1 << 20)), None);
        }
    }
}
