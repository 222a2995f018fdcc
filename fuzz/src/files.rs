//! Files for readers that take no bytes: they open what the kernel shows as a file, and this stands in for it.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use monitor::memory::{Defect, ReadError};
use tempfile::TempDir;

/// A directory of its own, in memory where the machine has such. Gone with this value.
pub struct Files {
    dir: TempDir,
}

impl Files {
    /// With these files in it.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("monitor-fuzz-").tempdir_in(parent).unwrap();
        let made = Self { dir };
        for (path, text) in files {
            fs::create_dir_all(made.path(path).parent().unwrap()).unwrap();
            fs::write(made.path(path), text).unwrap();
        }
        made
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn open(&self, file: &str) -> Contents {
        let path = self.path(file);
        Contents(RefCell::new(
            OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap(),
        ))
    }
}

/// A file whose contents change.
pub struct Contents(RefCell<File>);

impl Contents {
    pub fn set(&self, data: &[u8]) {
        let mut file = self.0.borrow_mut();
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(data).unwrap();
    }
}

/// An error about a file of lines `key<separator>value` names one of `keys` and what is really so: missing is not
/// there, malformed is. Only a file as a whole has no key.
pub fn names_the_key(error: &ReadError, data: &[u8], keys: &[&str], separator: u8) {
    match error {
        ReadError::Missing { key: Some(key), .. } => {
            assert!(keys.contains(key) && values(data, key, separator).next().is_none(), "{error}");
        }
        ReadError::Malformed { key: Some(key), what, .. } => {
            assert!(keys.contains(key), "{error}");
            let cut_off = data.split(|byte| *byte == b'\n').any(|line| line == key.as_bytes());
            let found = values(data, key, separator).count();
            assert!(found > 0 || cut_off, "{error}");
            assert!(*what != Defect::Twice || found > 1, "{error}");
        }
        ReadError::Malformed { key: None, what, .. } => {
            assert!(*what == Defect::Empty && data.is_empty() || *what == Defect::TooLong, "{error}");
        }
        other => panic!("{other}"),
    }
}

/// The value of a key that must be there once, as a number.
pub fn value(data: &[u8], key: &str, separator: u8, unit: &str) -> Option<u64> {
    let mut found = values(data, key, separator);
    let value = std::str::from_utf8(found.next()?).unwrap();
    assert_eq!(found.next(), None, "{key} twice");
    Some(value.trim_start().strip_suffix(unit).unwrap().parse().unwrap())
}

fn values<'d>(data: &'d [u8], key: &str, separator: u8) -> impl Iterator<Item = &'d [u8]> {
    let start: Vec<u8> = key.bytes().chain([separator]).collect();
    data.split(|byte| *byte == b'\n').filter_map(move |line| line.strip_prefix(&start[..]))
}
