//! What is installed and where, the same in every package and tarball. Puts it into a folder as it will lie in the
//! system; knows nothing of package formats.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{PACKAGE, VERSION};
use crate::command::output;

/// Kept as they are in the repository: from, to, and whether an administrator may edit it.
const COPIED: [(&str, &str, Kind); 6] = [
    ("deploy/packaging/lintian-overrides", "/usr/share/lintian/overrides/memory-monitor", Kind::File),
    ("deploy/monitor.service", "/usr/lib/systemd/system/monitor.service", Kind::File),
    ("deploy/monitor-ray.service", "/usr/lib/systemd/system/monitor-ray.service", Kind::File),
    ("deploy/packaging/monitor.toml", "/etc/monitor/monitor.toml", Kind::Configuration),
    ("examples/monitor.toml", "/usr/share/doc/memory-monitor/examples/monitor.toml", Kind::File),
    ("deploy/packaging/copyright", "/usr/share/doc/memory-monitor/copyright", Kind::File),
];
/// Makes a mount namespace for Ray of users without privileges; built beside the other binary.
pub(super) const FOR_RAY: &str = "monitor-ray-run";
/// Folders of which every file is taken, where there are such: from, to, and the files' mode.
const FOLDERS: [(&str, &str, u32); 4] = [
    ("deploy/prometheus", "/usr/share/memory-monitor/prometheus", 0o644),
    ("deploy/grafana", "/usr/share/memory-monitor/grafana", 0o644),
    // To be read: the binary has them in it.
    ("monitor/src/rules/presets", "/usr/share/memory-monitor/presets", 0o644),
    ("examples/hooks", "/usr/share/doc/memory-monitor/examples/hooks", 0o755),
];
/// Shells to install completions for, with the place that each reads.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "/usr/share/bash-completion/completions/monitor"),
    ("zsh", "/usr/share/zsh/vendor-completions/_monitor"),
    ("fish", "/usr/share/fish/vendor_completions.d/monitor.fish"),
];

/// What becomes of a file on upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Replaced.
    File,
    /// Replaced unless it was edited.
    Configuration,
}

/// A file as it will be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Absolute, in the system.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) kind: Kind,
}

/// All of them, below a folder.
#[derive(Debug)]
pub(super) struct Files {
    /// Stands for `/`.
    pub(super) root: PathBuf,
    /// By path.
    pub(super) entries: Vec<Entry>,
}

impl Files {
    /// Puts all into `work`: `binary` is what is installed, `native` runs here and tells its manual and completions.
    pub(super) fn stage(work: &Path, binary: &Path, native: &Path, epoch: u64) -> Result<Self> {
        let mut files = Self { root: work.join("root"), entries: Vec::new() };
        files.put("/usr/bin/monitor", 0o755, Kind::File, &read(binary)?)?;
        // Without a capability: that is an administrator's to give.
        let for_ray = binary.with_file_name(FOR_RAY);
        files.put(&format!("/usr/lib/monitor/{FOR_RAY}"), 0o755, Kind::File, &read(&for_ray)?)?;
        for (from, to, kind) in COPIED {
            files.put(to, 0o644, kind, &read(Path::new(from))?)?;
        }
        for (from, to, mode) in FOLDERS {
            files.folder(Path::new(from), to, mode)?;
        }
        for (shell, to) in COMPLETIONS {
            let script = output(Command::new(native).args(["completions", shell]))?;
            files.put(to, 0o644, Kind::File, format!("{script}\n").as_bytes())?;
        }
        let pages = work.join("man");
        output(Command::new(native).arg("man").arg(&pages))?;
        for name in names(&pages)? {
            let page = compressed(&read(&pages.join(&name))?)?;
            files.put(&format!("/usr/share/man/man1/{name}.gz"), 0o644, Kind::File, &page)?;
        }
        let changelog = debian_changelog(&date(epoch)?);
        let to = format!("/usr/share/doc/{PACKAGE}/changelog.Debian.gz");
        files.put(&to, 0o644, Kind::File, &compressed(changelog.as_bytes())?)?;
        let to = format!("/usr/share/doc/{PACKAGE}/changelog.gz");
        files.put(&to, 0o644, Kind::File, &compressed(&read(Path::new("CHANGELOG.md"))?)?)?;
        files.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Where an entry lies now.
    pub(super) fn here(&self, entry: &Entry) -> PathBuf {
        self.root.join(entry.path.trim_start_matches('/'))
    }

    fn folder(&mut self, from: &Path, to: &str, mode: u32) -> Result<()> {
        if !from.is_dir() {
            return Ok(());
        }
        for name in names(from)? {
            // Those that hold the others against what they should say.
            let for_tests = name.ends_with("_test.yml");
            if from.join(&name).is_file() && !for_tests {
                self.put(&format!("{to}/{name}"), mode, Kind::File, &read(&from.join(&name))?)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &str, mode: u32, kind: Kind, content: &[u8]) -> Result<()> {
        let entry = Entry { path: path.to_owned(), mode, kind };
        let here = self.here(&entry);
        if let Some(above) = here.parent() {
            fs::create_dir_all(above).with_context(|| above.display().to_string())?;
        }
        fs::write(&here, content).with_context(|| here.display().to_string())?;
        self.entries.push(entry);
        Ok(())
    }
}

/// File names of a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// By gzip, without name and time.
pub(super) fn compressed(content: &[u8]) -> Result<Vec<u8>> {
    let plain = tempfile::NamedTempFile::new()?;
    fs::write(plain.path(), content)?;
    let out = Command::new("gzip").args(["-9", "--no-name", "--stdout"]).arg(plain.path()).output();
    let out = out.context("gzip")?;
    anyhow::ensure!(out.status.success(), "gzip: {}", out.status);
    Ok(out.stdout)
}

/// As mail has it.
fn date(epoch: u64) -> Result<String> {
    output(Command::new("date").env("LC_ALL", "C").args([
        "--utc",
        "--rfc-email",
        &format!("--date=@{epoch}"),
    ]))
}

fn debian_changelog(date: &str) -> String {
    format!(
        "{PACKAGE} ({VERSION}-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {}  {date}\n",
        super::packages::MAINTAINER
    )
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
