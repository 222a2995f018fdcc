//! `cargo xtask install`: installs the packages of target/dist into small systems of their own, as root: the Debian
//! package boots there with systemd, is upgraded, rolled back and purged; the RPM is installed and erased; the tarball is
//! unpacked and removed. Nothing of this machine changes but the cache. What is looked at inside says install/check.

mod tarball;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::command::{output, progress, step};
use crate::debian;
use crate::dist::{self, PACKAGE, TO, VERSION, packages};
use crate::toolchain::record;

/// What runs the tests, each with the package that brings it.
const TOOLS: [(&str, &str); 5] = [
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("systemd-analyze", "systemd"),
    ("lintian", "lintian"),
    ("rpm", "rpm"),
];
/// Besides a minimal system.
const PACKAGES: &str = "systemd,systemd-sysv,dbus";
/// A version that was never released: what is upgraded from.
const BEFORE: &str = "0.0.1";
/// The units, and what `systemd-analyze security` may give each at most, times ten.
const UNITS: [(&str, &str); 2] = [("monitor.service", "27"), ("monitor-ray.service", "33")];
/// Put into the system: from here, to there, and its mode.
const FILES: [(&str, &str, u32); 2] = [
    (include_str!("install/check"), "check/check", 0o755),
    (include_str!("install/check.service"), "etc/systemd/system/check.service", 0o644),
];
/// What an administrator edits.
const CONFIGURATION: &str = "/etc/monitor/monitor.toml";
/// Wanted at boot.
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/check.service";
/// What each check left, a line each: passed or failed, and its name.
const RESULTS: &str = "check/results";

/// Runs all of them; fails if one does.
pub(crate) fn run_install() -> Result<()> {
    if !debian::is_root() {
        bail!("systems are made and booted as root");
    }
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| crate::command::in_path(program).is_empty())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        debian::install("they make and boot the systems that packages are installed in", &missing)?;
    }
    let deb = made(&packages::file_name("deb", Architecture::X86_64, VERSION))?;
    let rpm = made(&packages::file_name("rpm", Architecture::X86_64, VERSION))?;
    let name = dist::name(Architecture::X86_64);
    lintian(&deb)?;
    let cache = record::cache_dir().context("no cache folder")?.join("install");
    let system = system(&cache)?;
    debian_package(&cache, &system, &deb)?;
    rpm_package(&cache, &system, &rpm)?;
    tarball::check(&cache, &system, &made(&format!("{name}.tar.gz"))?, &name)
}

fn made(name: &str) -> Result<PathBuf> {
    let path = fs::canonicalize(TO).unwrap_or_default().join(name);
    if !path.is_file() {
        bail!("no {TO}/{name}: run `cargo xtask dist` first");
    }
    Ok(path)
}

/// Debian's own checker, without any tag left.
fn lintian(deb: &Path) -> Result<()> {
    step("Checking the package with lintian");
    let mut lintian = Command::new("lintian");
    let said = lintian.args(["--no-cfg", "--allow-root"]).arg(deb).output().context("lintian")?;
    // What it finds is on its standard output, whatever its status.
    let found = [said.stdout, said.stderr].concat();
    if found.is_empty() { Ok(()) } else { bail!("lintian:\n{}", String::from_utf8_lossy(&found)) }
}

/// A minimal system with systemd, from the cache or made now.
fn system(cache: &Path) -> Result<PathBuf> {
    let release = debian::release()?;
    let system = cache.join(format!("system-{release}"));
    if system.is_dir() {
        return Ok(system);
    }
    step(&format!("Making a minimal Debian ({release})"));
    fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
    let made = tempfile::tempdir_in(cache)?;
    let root = made.path().join("root");
    output(
        Command::new("mmdebstrap")
            // The cache folder may be one that apt's own user cannot enter.
            .args(["--quiet", "--variant=minbase", "--aptopt=APT::Sandbox::User \"root\""])
            .args([&format!("--include={PACKAGES}"), &release])
            .arg(&root),
    )?;
    // Whole or not there.
    fs::rename(&root, &system).context("keeping the system")?;
    Ok(system)
}

/// A copy that may be changed; gone with the folder.
fn copy(cache: &Path, system: &Path) -> Result<(tempfile::TempDir, PathBuf)> {
    let work = tempfile::tempdir_in(cache)?;
    let root = work.path().join("root");
    output(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(system).arg(&root))?;
    Ok((work, root))
}

/// Boots, and lets install/check install, upgrade and purge.
fn debian_package(cache: &Path, system: &Path, deb: &Path) -> Result<()> {
    let (_work, root) = copy(cache, system)?;
    for (text, to, mode) in FILES {
        put(&root.join(to), text.as_bytes(), mode)?;
    }
    fs::create_dir_all(root.join(WANTED).parent().context(WANTED)?)?;
    std::os::unix::fs::symlink("../check.service", root.join(WANTED)).context(WANTED)?;
    fs::copy(deb, root.join("check/new.deb")).context("the package")?;
    before(deb, &root.join("check/old.deb"))?;
    step("Booting a system that installs, upgrades and purges the package");
    let mut nspawn = Command::new("systemd-nspawn");
    // No network, no machine manager: this machine may have no systemd.
    nspawn
        .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--capability=all", "--private-network"])
        .args(["--console=pipe", "--directory"])
        .arg(&root);
    let said = output(
        Command::new("timeout")
            .args(["--kill-after=10", "300"])
            .arg(nspawn.get_program())
            .args(nspawn.get_args()),
    );
    let results = fs::read_to_string(root.join(RESULTS)).unwrap_or_default();
    let (lines, good) = judge(&results);
    for line in &lines {
        if line.starts_with("passed") { progress(&format!("    {line}")) } else { eprintln!("{line}") }
    }
    if !good {
        bail!("the Debian package does not hold what it should; systemd-nspawn: {}", tail(&said));
    }
    println!("{PACKAGE} as a Debian package: {} checks passed", lines.len());
    Ok(())
}

/// Lines of the results, and whether all passed and the last was reached.
fn judge(results: &str) -> (Vec<&str>, bool) {
    let done = results.lines().last() == Some("done");
    let lines: Vec<&str> = results.lines().filter(|line| *line != "done").collect();
    let good = done
        && lines.iter().any(|line| line.starts_with("passed"))
        && lines.iter().all(|line| line.starts_with("passed"));
    (lines, good)
}

fn tail(said: &Result<String>) -> String {
    match said {
        Ok(text) => {
            text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("{error:#}"),
    }
}

/// The same package as if it were an older version with another configuration file.
fn before(deb: &Path, to: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let tree = work.path().join("tree");
    output(Command::new("dpkg-deb").arg("--raw-extract").arg(deb).arg(&tree))?;
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    fs::write(&control, text.replacen(&format!("Version: {VERSION}-1"), &format!("Version: {BEFORE}-1"), 1))?;
    let configuration = tree.join(&CONFIGURATION[1..]);
    let text = fs::read_to_string(&configuration)?;
    fs::write(&configuration, format!("# Of an older version.\n{text}"))?;
    // Its sums are no longer those of the files.
    let sums = tree.join("DEBIAN/md5sums");
    if sums.exists() {
        fs::remove_file(sums)?;
    }
    output(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&tree).arg(to))?;
    Ok(())
}

/// Installs, verifies and erases it where nothing runs. Says what it left.
fn rpm_package(cache: &Path, system: &Path, rpm: &Path) -> Result<()> {
    step("Installing and erasing the RPM");
    let (_work, root) = copy(cache, system)?;
    let rpm_in = |arguments: &[&str]| {
        let mut command = Command::new("rpm");
        command.arg("--root").arg(&root).args(["--dbpath", "/var/lib/rpm"]).args(arguments);
        command
    };
    let before = paths(&root)?;
    output(&mut rpm_in(&["--initdb"]))?;
    // There is no RPM database of this system's own packages to depend on.
    output(rpm_in(&["--install", "--nodeps"]).arg(rpm))?;
    output(&mut rpm_in(&["--verify", PACKAGE]))?;
    let version = output(Command::new("chroot").arg(&root).args(["/usr/bin/monitor", "--version"]))?;
    if !version.contains(VERSION) {
        bail!("the installed binary says {version:?}");
    }
    // Outside of a running system: verified by the very systemd that would start it.
    for (unit, exposure) in UNITS {
        for check in [vec!["verify"], vec!["security", "--offline=yes", "--threshold", exposure]] {
            let mut analyze = Command::new("chroot");
            analyze.arg(&root).arg("systemd-analyze").args(&check);
            output(analyze.arg(format!("/usr/lib/systemd/system/{unit}")))?;
        }
    }
    // What docs/installing.md says of an upgrade, and of a roll-back, which is one to an older version.
    let configuration = root.join(&CONFIGURATION[1..]);
    let edited = fs::read_to_string(&configuration)? + "usage_threshold = 0.91\n";
    fs::write(&configuration, &edited)?;
    put(&root.join("var/lib/monitor/journal.jsonl"), b"", 0o600)?;
    output(rpm_in(&["--upgrade", "--replacepkgs", "--oldpackage", "--nodeps"]).arg(rpm))?;
    if fs::read_to_string(&configuration)? != edited {
        bail!("an upgrade of the RPM takes an edited configuration away");
    }
    output(&mut rpm_in(&["--erase", PACKAGE]))?;
    let left = ours(&before, &root)?;
    let expected = [
        "/etc/monitor",
        "/etc/monitor/monitor.toml.rpmsave",
        "/var/lib/monitor",
        "/var/lib/monitor/journal.jsonl",
    ];
    if left != expected {
        bail!("erased, the RPM leaves {}; expected: {}", left.join(", "), expected.join(", "));
    }
    println!("{PACKAGE} as an RPM: installed, verified, upgraded and erased");
    Ok(())
}

/// What is there of ours and was not before. Folders of shells, which any package makes, stay; systemd-analyze leaves some
/// of its own.
fn ours(before: &[String], root: &Path) -> Result<Vec<String>> {
    let ours = |path: &String| path.contains("monitor") && !path.starts_with("/var/lib/rpm");
    let mut left: Vec<String> =
        paths(root)?.into_iter().filter(|path| ours(path) && !before.contains(path)).collect();
    left.sort();
    Ok(left)
}

/// Every path of a system.
fn paths(root: &Path) -> Result<Vec<String>> {
    let found = output(Command::new("find").arg(root).args(["-xdev", "-printf", "/%P\\n"]))?;
    Ok(found.lines().map(str::to_owned).collect())
}

fn put(to: &Path, content: &[u8], mode: u32) -> Result<()> {
    if let Some(above) = to.parent() {
        fs::create_dir_all(above)?;
    }
    fs::write(to, content).with_context(|| to.display().to_string())?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn all_must_pass_and_the_end_must_be_reached() {
        assert!(judge("passed a\npassed b\ndone\n").1);
        assert_eq!(judge("passed a\ndone\n").0, ["passed a"]);
        assert!(!judge("passed a\nfailed b\n  why\ndone\n").1);
        assert!(!judge("passed a\n").1);
        assert!(!judge("done\n").1 && !judge("").1);
    }
}
