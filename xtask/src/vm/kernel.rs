//! Fetches Debian's cloud kernels and keeps one of each series in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, str};

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::command::{output, step};
use crate::debian::apt::{Apt, Suites};

/// The suites that carry several series and have small package lists.
const SUITES: [&str; 1] = ["trixie-backports"];
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];

/// A kernel as the user names it: `6.12`, or `6.12+lockdown=integrity` to boot it with an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Version and patch level, `6.12`.
    pub(crate) series: String,
    /// Added to the kernel's command line.
    pub(crate) arguments: Vec<String>,
}

impl str::FromStr for Spec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('+').map(str::to_owned);
        let series = parts.next().unwrap_or_default();
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match series.split_once('.') {
            Some((version, patch)) if number(version) && number(patch) => {
                Ok(Self { series, arguments: parts.collect() })
            }
            Some(_) | None => {
                bail!("{text:?} is no kernel series: expected one as 6.12 or 6.12+lockdown=integrity")
            }
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.series)?;
        self.arguments.iter().try_for_each(|argument| write!(f, "+{argument}"))
    }
}

/// A kernel in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// A bzImage.
    pub(crate) image: PathBuf,
    /// Debian's package and its version.
    pub(crate) package: String,
}

/// The kernels in the cache, and apt to fetch more.
#[derive(Debug)]
pub(crate) struct Kernels {
    cache: PathBuf,
    architecture: Architecture,
    /// Opened when the first kernel is to be fetched: it reads package lists over the network.
    apt: Option<Apt>,
}

impl Kernels {
    /// Kernels are kept below `cache`.
    pub(crate) fn new(cache: PathBuf, architecture: Architecture) -> Self {
        Self { cache, architecture, apt: None }
    }

    /// The newest build of `series`; one in the cache is good enough unless `update`.
    pub(crate) fn get(&mut self, series: &str, update: bool) -> Result<Kernel> {
        let dir = self.cache.join(self.folder("kernels")).join(series);
        let image = dir.join("vmlinuz");
        let note = dir.join("package");
        if !update && let (true, Ok(package)) = (image.is_file(), fs::read_to_string(&note)) {
            return Ok(Kernel { image, package });
        }
        let apt = match self.apt.take() {
            Some(apt) => apt,
            None => {
                let lists = self.cache.join(self.folder("apt"));
                Apt::open_for(&lists, &suites(), self.architecture.debian())?
            }
        };
        let architecture = self.architecture;
        let apt = self.apt.insert(apt);
        let (name, version) = newest(apt, series, architecture)?;
        let package = format!("{name} {version}");
        step(&format!("Fetching {package}"));
        let unpacked = tempfile::tempdir_in(&self.cache)?;
        apt.fetch(&name, &version, unpacked.path())?;
        let found = find_image(unpacked.path())?.with_context(|| format!("no vmlinuz in {package}"))?;
        fs::create_dir_all(&dir)?;
        // The note says that the image is whole and which it is: gone before the image changes, back after.
        if note.exists() {
            fs::remove_file(&note)?;
        }
        fs::rename(found, &image).context("keeping the kernel")?;
        fs::write(note, &package)?;
        Ok(Kernel { image, package })
    }
}

impl Kernels {
    /// Of this architecture; the first one's have no name behind.
    fn folder(&self, name: &str) -> String {
        match self.architecture {
            Architecture::X86_64 => name.to_owned(),
            Architecture::Aarch64 => format!("{name}-aarch64"),
        }
    }
}

fn suites() -> Suites {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Suites { main: owned(&SUITES), security: owned(&SECURITY_SUITES) }
}

fn find_image(dir: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = find_image(&entry.path())? {
                return Ok(Some(found));
            }
        } else if kind.is_file() && entry.file_name().to_string_lossy().starts_with("vmlinuz") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Package and version of the newest build of `series`.
fn newest(apt: &Apt, series: &str, architecture: Architecture) -> Result<(String, String)> {
    // 6.19 and later have the image in linux-binary-*; linux-image-* then holds nothing.
    let (series_pattern, name) = (series.replace('.', "\\."), architecture.debian());
    let pattern = format!("^linux-(image|binary)-{series_pattern}\\.[0-9].*cloud-{name}$");
    let found = output(apt.command("apt-cache").args(["search", "--names-only", &pattern]))?;
    let names: Vec<&str> = found.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let mut newest: Option<(String, String)> = None;
    if !names.is_empty() {
        let records = output(apt.command("apt-cache").arg("show").args(names))?;
        for (name, version) in images(&records) {
            let newer = match &newest {
                Some((_, best)) => is_newer(&version, best)?,
                None => true,
            };
            if newer {
                newest = Some((name, version));
            }
        }
    }
    newest.with_context(|| {
        format!("no kernel {series} in {}", [&SUITES[..], &SECURITY_SUITES].concat().join(", "))
    })
}

fn is_newer(version: &str, than: &str) -> Result<bool> {
    let compared = Command::new("dpkg").args(["--compare-versions", version, "gt", than]).status();
    Ok(compared.context("dpkg")?.success())
}

/// Package and version of those records that are large enough to hold an image: some are empty, for dependencies only.
fn images(records: &str) -> Vec<(String, String)> {
    const IMAGE_BYTES: u64 = 5_000_000;
    let of_record = |record: &str| {
        let field = |key: &str| {
            record.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned())
        };
        let size: u64 = field("Size:")?.parse().ok()?;
        (size > IMAGE_BYTES).then_some((field("Package:")?, field("Version:")?))
    };
    records.split("\n\n").filter_map(of_record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_a_series_and_arguments() {
        let spec: Spec = "6.12+lockdown=integrity+psi=0".parse().unwrap();
        assert_eq!((spec.series.as_str(), spec.arguments.len()), ("6.12", 2));
        assert_eq!(spec.to_string(), "6.12+lockdown=integrity+psi=0");
        for bad in ["", "6", "6.", "six.one", "+psi=0", "6.12.3", "../6.1"] {
            assert!(bad.parse::<Spec>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn packages_without_an_image_are_left_out() {
        let records = "Package: linux-image-7.1\nVersion: 7.1-1\nSize: 1500\n\nPackage: linux-binary-7.1\nVersion: 7.1-1\nSize: 13000000\n";
        assert_eq!(images(records), [("linux-binary-7.1".to_owned(), "7.1-1".to_owned())]);
    }
}
