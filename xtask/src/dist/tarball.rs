//! The tarball: the files as they lie in a system, for machines without a package manager.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::files::{Files, compressed};
use crate::command::output;

/// What lies at its top besides.
const PAPERS: [&str; 5] = ["README.md", "CHANGELOG.md", "LICENSE", "LICENSE-APACHE", "LICENSE-MIT"];

/// Writes `NAME.tar.gz` into `to`. `NAME/` is its one folder.
pub(super) fn write(files: &Files, name: &str, to: &Path, epoch: u64) -> Result<()> {
    let work = tempfile::tempdir()?;
    let top = work.path().join(name);
    fs::create_dir(&top)?;
    for paper in PAPERS {
        put(Path::new(paper), &top.join(paper), 0o644)?;
    }
    for entry in &files.entries {
        put(&files.here(entry), &top.join(entry.path.trim_start_matches('/')), entry.mode)?;
    }
    pack(work.path(), name, &to.join(format!("{name}.tar.gz")), epoch)
}

/// Packs the folder `name` of `above` into `to`: owner root, one time, sorted.
pub(super) fn pack(above: &Path, name: &str, to: &Path, epoch: u64) -> Result<()> {
    let packed = tempfile::NamedTempFile::new()?;
    output(
        Command::new("tar")
            .args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mode=u+rwX,go+rX,go-w", &format!("--mtime=@{epoch}")])
            .arg("--file")
            .arg(packed.path())
            .arg("--directory")
            .arg(above)
            .arg(name),
    )?;
    fs::write(to, compressed(&fs::read(packed.path())?)?).with_context(|| to.display().to_string())
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(above) = to.parent() {
        fs::create_dir_all(above)?;
    }
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}
