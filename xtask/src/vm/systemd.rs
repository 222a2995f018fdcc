//! `cargo xtask vm --systemd`: a small Debian with systemd, in which the unit of deploy/ starts the agent. Makes the
//! system and its initramfs; what is looked at in there says systemd/check. No network inside, nothing installed here.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::initramfs::stripped;
use super::programs;
use crate::command::{in_path, run, step};
use crate::debian;

/// Besides what debootstrap calls a minimal system.
const PACKAGES: &str = "systemd,systemd-sysv";
/// What only makes the initramfs larger.
const LEFT_OUT: [&str; 6] =
    ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/lib/apt", "var/cache", "usr/share/zoneinfo"];
/// What is put into the system beside the agent, as text and where to.
const FILES: [(&str, &str); 9] = [
    ("/init", include_str!("systemd/init")),
    ("/vm/check", include_str!("systemd/check")),
    ("/vm/delegated", include_str!("systemd/delegated")),
    ("/etc/systemd/system/check.service", include_str!("systemd/check.service")),
    ("/etc/systemd/system/monitor.service", include_str!("../../../deploy/monitor.service")),
    ("/etc/systemd/system/monitor-ray.service", include_str!("../../../deploy/monitor-ray.service")),
    ("/vm/raylet.sh", include_str!("../../../tests/ray/raylet.sh")),
    ("/etc/systemd/system/monitor.service.d/check.conf", include_str!("systemd/unit.conf")),
    // Without one systemd takes this for the first boot, and enables whatever is there.
    ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
];
/// Units that are started, and those that are not: nobody logs in.
const LINKS: [(&str, &str); 3] = [
    ("/etc/systemd/system/multi-user.target.wants/monitor.service", "../monitor.service"),
    ("/etc/systemd/system/multi-user.target.wants/check.service", "../check.service"),
    ("/etc/systemd/system/getty.target", "/dev/null"),
];
/// MiB: the system is in it twice while it moves out of the initramfs.
pub(super) const MEMORY: u32 = 2048;

/// Writes the initramfs to `to`; the system is kept below `cache`.
pub(super) fn build(cache: &Path, to: &Path) -> Result<()> {
    let system = system(cache)?;
    let file = File::create(to).with_context(|| to.display().to_string())?;
    let mut archive = Archive::new(BufWriter::new(file));
    let left_out = |path: &str| LEFT_OUT.contains(&path) || FILES.iter().any(|(to, _)| to[1..] == *path);
    archive.tree(&system, &left_out).context("packing the system")?;
    archive.folder("/sysroot")?;
    // The kernel opens it for init.
    archive.device("/dev/console", (5, 1))?;
    for (path, content) in FILES {
        archive.file(path, content.as_bytes())?;
    }
    for (path, target) in LINKS {
        archive.symlink(path, target)?;
    }
    for name in ["monitor", "hog"] {
        let program = programs::binary(name)?;
        archive.file(&format!("/usr/bin/{name}"), &stripped(&program)?)?;
    }
    archive.finish().context("writing the initramfs")
}

/// A minimal system, from the cache or made now.
fn system(cache: &Path) -> Result<PathBuf> {
    let release = debian::release()?;
    let system = cache.join(format!("system-{release}"));
    if system.is_dir() {
        return Ok(system);
    }
    if let Some(obstacle) = debian::obstacle() {
        bail!("a Debian with systemd cannot be made: {obstacle}");
    }
    if in_path("debootstrap").is_empty() {
        debian::install("it makes the system that systemd runs in", &["debootstrap"])?;
    }
    fs::create_dir_all(cache)?;
    let made = tempfile::tempdir_in(cache)?;
    step(&format!("Making a minimal Debian ({release})"));
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), &release]).arg(made.path());
    run("Debian's packages, signatures checked; about 100 MB", &mut debootstrap)?;
    // Whole or not there.
    fs::rename(made.path(), &system).context("keeping the system")?;
    Ok(system)
}
