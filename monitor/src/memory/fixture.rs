//! Copies of the fixture trees of `tests/fixtures`, for tests to damage. Tests only.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{CgroupPath, DomainReader, Hierarchy, Level, ReadError, Roots};

/// A mebibyte, the unit of all numbers in the trees.
pub(super) const MIB: u64 = 1 << 20;

/// A tree with `proc` and `cgroup` in it.
pub(super) struct Tree {
    dir: TempDir,
    pub(super) roots: Roots,
}

impl Tree {
    /// A copy of `tests/fixtures/NAME`.
    pub(super) fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name), dir.path());
        let roots = Roots { procfs: dir.path().join("proc"), cgroupfs: dir.path().join("cgroup") };
        Self { dir, roots }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(super) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        fs::write(self.path(file), text).unwrap();
    }

    pub(super) fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).unwrap();
    }

    /// Replaces `from` by `to` in a file.
    pub(super) fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        self.write(file, text.replacen(from, to, 1));
    }

    pub(super) fn hierarchy(&self) -> Result<Hierarchy, ReadError> {
        Hierarchy::find(&self.roots.cgroupfs, &self.roots.procfs)
    }

    pub(super) fn node(&self, count_swap: bool) -> Result<DomainReader, ReadError> {
        DomainReader::node(&self.roots, Some(&self.hierarchy()?), count_swap)
    }

    pub(super) fn cgroup(&self, path: &str, count_swap: bool) -> Result<DomainReader, ReadError> {
        DomainReader::cgroup(&self.roots, &self.hierarchy()?, &cgroup(path), count_swap)
    }

    /// One reading of the cgroup `path`.
    pub(super) fn read(&self, path: &str, count_swap: bool) -> Result<Level, ReadError> {
        self.cgroup(path, count_swap)?.read()
    }
}

pub(super) fn cgroup(path: &str) -> CgroupPath {
    path.parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
