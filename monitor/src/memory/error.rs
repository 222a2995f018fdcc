//! Why a reading is unknown. Every variant names the file; no variant ever stands for a number.

use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// The longest text a reading takes. `memory.stat` is at most a page by the kernel's own rule
/// (mm/memcontrol.c, `SEQ_BUF_SIZE`), meminfo about 1.6 KB.
pub(crate) const CAPACITY: usize = 8192;

/// Why something could not be read. Cheap to clone, and made without a heap allocation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file does not exist, or it exists and lacks the key.
    #[error("{}{} is missing", path.display(), in_key(*key))]
    Missing {
        /// The file.
        path: Arc<Path>,
        /// The key in it; `None`: the file itself.
        key: Option<&'static str>,
    },
    /// The file is there and does not hold what the kernel writes into it.
    #[error("{}{}: {what}", path.display(), in_key(*key))]
    Malformed {
        /// The file.
        path: Arc<Path>,
        /// The key in it, if the defect is in the value of one.
        key: Option<&'static str>,
        /// What is wrong.
        what: Defect,
    },
    /// No permission.
    #[error("{}: permission denied", path.display())]
    Denied {
        /// The file.
        path: Arc<Path>,
    },
    /// The cgroup was removed, or the process ended, while it was being read. A normal result.
    #[error("{}: no longer exists", path.display())]
    Gone {
        /// The file or directory.
        path: Arc<Path>,
    },
    /// There is no hierarchy with the memory controller here.
    #[error("{}: no cgroup hierarchy with the memory controller", path.display())]
    NoController {
        /// The directory that was searched.
        path: Arc<Path>,
    },
    /// The process is in a cgroup that the mounted hierarchy does not show (another cgroup namespace).
    #[error("{}: {cgroup} lies outside the mounted cgroup hierarchy", path.display())]
    Outside {
        /// The process's `cgroup` file.
        path: Arc<Path>,
        /// What it says, lossily decoded.
        cgroup: Arc<str>,
    },
    /// The read failed in a way that none of the above describes.
    #[error("{}: {errno}", path.display())]
    Broken {
        /// The file.
        path: Arc<Path>,
        /// The kernel's error.
        errno: Errno,
    },
}

fn in_key(key: Option<&'static str>) -> String {
    key.map(|key| format!(": {key}")).unwrap_or_default()
}

impl ReadError {
    /// The variant for a failed system call on `path`.
    pub(crate) fn from_errno(path: &Arc<Path>, errno: Errno) -> Self {
        let path = Arc::clone(path);
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing { path, key: None },
            Errno::ACCESS | Errno::PERM => Self::Denied { path },
            // ENODEV: a file of a removed cgroup; ESRCH: a file of a process that ended.
            Errno::NODEV | Errno::SRCH => Self::Gone { path },
            errno => Self::Broken { path, errno },
        }
    }

    /// The variant for a failed standard-library call on `path`.
    pub(crate) fn from_io(path: &Path, error: &std::io::Error) -> Self {
        Self::from_errno(&path.into(), Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// Whether the file itself, not a key in it, is missing.
    #[must_use]
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::Missing { key: None, .. })
    }

    /// Whether what was read has ceased to exist: a normal result, not a fault.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// What is wrong with the contents of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// Something other than decimal digits.
    #[error("is not a whole number of bytes, 0 or more")]
    NotANumber,
    /// More bytes than `i64::MAX`: no kernel counts so far.
    #[error("is larger than any size of memory")]
    TooLarge,
    /// A line of meminfo that does not end in ` kB`.
    #[error("does not end in the unit kB")]
    NoUnit,
    /// The same key on two lines: which one holds?
    #[error("appears twice")]
    Twice,
    /// More text than the kernel writes into any of these files.
    #[error("is longer than the {} bytes that are read", CAPACITY)]
    TooLong,
    /// Each number is one, but they cannot be true together.
    #[error("{0}")]
    Impossible(&'static str),
}

/// A fault in a file's text, before it is known which file it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The key is not there.
    Missing(&'static str),
    /// The key, or without one the whole file, is wrong.
    Malformed(Option<&'static str>, Defect),
}

impl Flaw {
    pub(crate) fn at(self, path: &Arc<Path>) -> ReadError {
        let path = Arc::clone(path);
        match self {
            Self::Missing(key) => ReadError::Missing { path, key: Some(key) },
            Self::Malformed(key, what) => ReadError::Malformed { path, key, what },
        }
    }
}

impl From<Defect> for Flaw {
    fn from(what: Defect) -> Self {
        Self::Malformed(None, what)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Errno::NOENT, "/f is missing")]
    #[case(Errno::NOTDIR, "/f is missing")]
    #[case(Errno::ACCESS, "/f: permission denied")]
    #[case(Errno::PERM, "/f: permission denied")]
    #[case(Errno::NODEV, "/f: no longer exists")]
    #[case(Errno::SRCH, "/f: no longer exists")]
    #[case(Errno::IO, "/f: Input/output error (os error 5)")]
    fn each_kind_of_failure_has_its_own_sentence(#[case] errno: Errno, #[case] sentence: &str) {
        assert_eq!(ReadError::from_errno(&Path::new("/f").into(), errno).to_string(), sentence);
    }

    #[test]
    fn only_what_was_removed_is_gone() {
        let error = |errno| ReadError::from_errno(&Path::new("/f").into(), errno);
        assert!(error(Errno::NODEV).is_gone() && !error(Errno::NOENT).is_gone());
        assert!(error(Errno::NOENT).is_missing_file() && !error(Errno::NODEV).is_missing_file());
        assert!(!Flaw::Missing("key").at(&Path::new("/f").into()).is_missing_file());
    }
}
