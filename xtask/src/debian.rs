//! Debian's packages: what is installed, installing what is missing. Knows nothing of what they are for.

pub(crate) mod apt;

use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::command::{in_path, output, run, step};

/// Those of `packages` that are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &str| {
        output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
            .is_ok_and(|status| status == "installed")
    };
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

/// Why apt can install nothing here; `None` if it can.
pub(crate) fn obstacle() -> Option<String> {
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian =
        os.lines().any(|line| line == "ID=debian" || line.starts_with("ID_LIKE=") && line.contains("debian"));
    if !debian || in_path("apt-get").is_empty() {
        Some("this system is not Debian".into())
    } else if !is_root() {
        Some("installing packages needs root".into())
    } else {
        None
    }
}

/// Whether apt can fetch packages here, without installing them: this needs no root.
pub(crate) fn can_fetch() -> bool {
    ["apt-get", "apt-cache", "dpkg-deb"].iter().all(|program| !in_path(program).is_empty())
}

/// The name of this machine's release: programs that are linked here find their C library there.
pub(crate) fn release() -> Result<String> {
    let os = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let name = os.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no release")?.trim_matches('"').to_owned())
}

/// Whether this process has the effective user id 0.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

/// Installs `packages` because of `why`, and removes nothing for it.
pub(crate) fn install(why: &str, packages: &[&str]) -> Result<()> {
    step(&format!("Installing {}: {why}", packages.join(" ")));
    run("Reading Debian's package lists", Command::new("apt-get").args(["update", "-qq"]))?;
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        // --no-remove: Debian's own rustup or rustc conflicts with some of these; better to fail than to take it away.
        .args(["install", "--yes", "--no-install-recommends", "--no-remove", "-o", "Dpkg::Use-Pty=0"])
        .args(packages);
    run("Installing the packages", &mut apt)?;
    let left = missing(packages);
    if !left.is_empty() {
        bail!("apt-get reported success, yet {} is not installed", left.join(" "));
    }
    Ok(())
}

/// Debian's cargo and rustc come to /usr/bin. Warns where they would be found before rustup's.
pub(crate) fn warn_if_first_in_path() {
    let found = in_path("cargo");
    let of_debian = |path: &std::path::Path| path.starts_with("/usr/bin") || path.starts_with("/bin");
    if let Some(first) = found.first().filter(|first| of_debian(first)) {
        let cargo_home = env::var("CARGO_HOME").unwrap_or_else(|_| "~/.cargo".into());
        eprintln!(
            "warning: PATH finds {} before rustup's cargo; put {cargo_home}/bin first in PATH",
            first.display()
        );
    }
}
