//! apt with lists, cache and sources of its own: fetches Debian's packages and unpacks them into a folder. The system's
//! sources stay as they are, and nothing is installed. apt checks the signatures against Debian's keyring.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

use anyhow::{Context, Result, bail};

use crate::command::{output, step};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suites to read the lists of.
#[derive(Debug, Clone)]
pub(crate) struct Suites {
    /// Those of the main archive.
    pub(crate) main: Vec<String>,
    /// Those of the archive of security updates.
    pub(crate) security: Vec<String>,
}

impl Suites {
    /// A release as it is on a machine that runs it.
    pub(crate) fn of_release(release: &str) -> Self {
        let security = vec![format!("{release}-security")];
        Self { main: vec![release.to_owned(), format!("{release}-updates")], security }
    }
}

/// apt with its own state.
#[derive(Debug)]
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// Reads the lists of `suites` into `dir`, from the mirrors that the system is configured for.
    pub(crate) fn open(dir: &Path, suites: &Suites) -> Result<Self> {
        Self::with(dir, suites, &[])
    }

    /// As [`Apt::open`], for another architecture, of which this system has nothing.
    pub(crate) fn open_for(dir: &Path, suites: &Suites, architecture: &str) -> Result<Self> {
        let options = [
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            "Dir::State::status=/dev/null".into(),
        ];
        Self::with(dir, suites, &options)
    }

    fn with(dir: &Path, suites: &Suites, more: &[String]) -> Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!("no {KEYRING}: the packages come from Debian, signed (package debian-archive-keyring)");
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(folder)).with_context(|| dir.display().to_string())?;
        }
        let repositories = output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        fs::write(dir.join("sources.list"), sources(&repositories, suites)?)?;
        let at = |place: &str| dir.join(place).display().to_string();
        let options = [
            format!("Dir::State={}", at("")),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::SourceList={}", at("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".into(),
            "Dir::Cache::pkgcache=".into(),
            "Dir::Cache::srcpkgcache=".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            // The folder may be one that apt's own user cannot write to.
            "APT::Sandbox::User=root".into(),
            // Nothing is installed, so another apt's lock need not be waited for.
            "Debug::NoLocking=true".into(),
        ];
        let options = options.into_iter().chain(more.iter().cloned());
        let apt = Self { options: options.flat_map(|option| ["-o".to_owned(), option]).collect() };
        step(&format!("Reading Debian's package lists ({})", suites.main.join(", ")));
        output(apt.command("apt-get").args(["update", "-qq"]))?;
        Ok(apt)
    }

    /// One of apt's programs, with this state.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    /// Fetches one package and unpacks it into `to`, which exists.
    pub(crate) fn fetch(&self, name: &str, version: &str, to: &Path) -> Result<()> {
        self.fetch_as(&format!("{name}={version}"), to)
    }

    fn fetch_as(&self, which: &str, to: &Path) -> Result<()> {
        let packages = tempfile::tempdir_in(to)?;
        output(self.command("apt-get").args(["download", "-qq", which]).current_dir(packages.path()))?;
        unpack(packages.path(), to)
    }

    /// Fetches the newest version of one package and unpacks it into `to`, which exists.
    pub(crate) fn fetch_newest(&self, name: &str, to: &Path) -> Result<()> {
        self.fetch_as(name, to)
    }

    /// Fetches packages and what they depend on that this system does not have, and unpacks all into `to`, which
    /// exists.
    pub(crate) fn fetch_with_missing(&self, names: &[&str], to: &Path) -> Result<()> {
        let packages = tempfile::tempdir_in(to)?;
        fs::create_dir(packages.path().join("partial"))?;
        let archives = format!("Dir::Cache::archives={}", packages.path().display());
        // It may plan to remove what conflicts: a plan that it does not carry out.
        output(
            self.command("apt-get")
                .args(["-o", &archives, "install", "--download-only", "--yes", "-qq"])
                .arg("--no-install-recommends")
                .args(names),
        )?;
        unpack(packages.path(), to)
    }
}

/// Unpacks the packages of a folder.
fn unpack(packages: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(packages)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(to))?;
        }
    }
    Ok(())
}

/// The folders below `root` that hold shared libraries, as `lib/x86_64-linux-gnu`. One that cannot be read has none.
pub(crate) fn library_folders(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left: Vec<PathBuf> = ["lib", "usr/lib"].iter().map(|top| root.join(top)).collect();
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Packages link folders only to each other's: not followed, so that no circle holds us up.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            } else if is_library(&entry.file_name().to_string_lossy()) {
                found.insert(folder.clone());
            }
        }
    }
    found
}

/// `libx.so`, `libx.so.1`; not `x.so.conf`.
fn is_library(name: &str) -> bool {
    name.split_once(".so").is_some_and(|(_, version)| {
        version.is_empty()
            || version.starts_with('.') && version[1..].starts_with(|c: char| c.is_ascii_digit())
    })
}

/// A sources.list for `suites` at the mirrors that `repositories` names, one a line.
fn sources(repositories: &str, suites: &Suites) -> Result<String> {
    // Other repositories than Debian's may be there; one of a certain day has the date behind.
    let mirror = |name: &str| repositories.lines().find(|uri| uri.split('/').any(|part| part == name));
    let lines = |uri: Option<&str>, suites: &[String]| {
        let line = |uri: &str, suite: &String| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n");
        uri.map(|uri| suites.iter().map(|suite| line(uri, suite)).collect::<String>()).unwrap_or_default()
    };
    let text = lines(mirror("debian"), &suites.main) + &lines(mirror("debian-security"), &suites.security);
    if text.is_empty() {
        bail!("apt is configured for no Debian mirror to fetch packages from");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_is_read_from_the_mirror_that_has_it() {
        let suites = Suites::of_release("trixie");
        let list =
            sources("http://other/node/\nhttp://m/debian-security/\nhttp://m/debian/20250520/\n", &suites);
        let list = list.unwrap();
        assert!(list.contains(" http://m/debian/20250520/ trixie main"), "{list}");
        assert!(list.contains(" http://m/debian/20250520/ trixie-updates main"), "{list}");
        assert!(list.contains(" http://m/debian-security/ trixie-security main"), "{list}");
        assert!(sources("http://other/node/\n", &suites).is_err());
    }
}
