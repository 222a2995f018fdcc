//! The shell around [`resolve`]: finds and reads the file, looks into the environment. It decides nothing about
//! values.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::file::ConfigFile;
use crate::config::flags::ConfigFlags;
use crate::config::resolve::{Resolved, resolve};
use crate::config::values::{DEFAULT_FILE, FILE_ENV};
use crate::config::warning;

/// A configuration is a few kB; the limit keeps a wrong path such as /dev/zero from filling the memory.
const FILE_LIMIT: u64 = 1 << 20;

/// The configuration of this process: from these flags, its environment and the file.
///
/// # Errors
///
/// Everything that is wrong in any of the sources; a file that can't be read does not hide the others' errors.
pub fn load(flags: &ConfigFlags) -> Result<Resolved, ConfigErrors> {
    let env = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty());
    let uid = rustix::process::geteuid().as_raw();
    match find_file(flags, env(FILE_ENV)) {
        Ok(file) => {
            let mut resolved = resolve(flags, &env, file.as_ref(), uid)?;
            let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
            resolved.warnings.extend(warning::unknown_variables(names));
            Ok(resolved)
        }
        Err(error) => Err(ConfigErrors::preceded_by(error, resolve(flags, &env, None, uid).err())),
    }
}

fn find_file(flags: &ConfigFlags, variable: Option<OsString>) -> Result<Option<ConfigFile>, ConfigError> {
    if let Some(path) = &flags.file {
        return read_file(path).map(Some);
    }
    if let Some(path) = variable {
        return read_file(Path::new(&path)).map(Some);
    }
    match read_file(Path::new(DEFAULT_FILE)) {
        Ok(file) => Ok(Some(file)),
        Err(ConfigError::FileMissing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a configuration file without looking at what it says.
///
/// # Errors
///
/// The `File...` variants of [`ConfigError`].
pub fn read_file(path: &Path) -> Result<ConfigFile, ConfigError> {
    let path = PathBuf::from(path);
    let bytes = match read_bytes(&path) {
        Ok(bytes) => bytes,
        Err(error) => return Err(unreadable(path, error)),
    };
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(ConfigError::FileTooLarge { path, limit: FILE_LIMIT });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(ConfigFile { path, text }),
        Err(error) => {
            let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = 1 + good.filter(|byte| **byte == b'\n').count();
            Err(ConfigError::FileNotUtf8 { path, line })
        }
    }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than allowed tells "too large" from "just fits".
    File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: PathBuf, error: io::Error) -> ConfigError {
    let kind = error.kind();
    if kind == ErrorKind::NotFound {
        ConfigError::FileMissing { path }
    } else if kind == ErrorKind::PermissionDenied {
        ConfigError::FileDenied { path }
    } else if kind == ErrorKind::IsADirectory {
        ConfigError::FileIsDirectory { path }
    } else {
        ConfigError::FileBroken { path, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_denied_and_broken_files_are_different_errors() {
        for (kind, message) in [
            (ErrorKind::NotFound, "f: no such file"),
            (ErrorKind::PermissionDenied, "f: permission denied"),
            (ErrorKind::IsADirectory, "f: it is a directory, not a file"),
        ] {
            assert_eq!(unreadable("f".into(), kind.into()).to_string(), message);
        }
        let broken = unreadable("f".into(), io::Error::other("disk on fire"));
        assert_eq!(broken.to_string(), "f: cannot be read: disk on fire");
    }

    #[test]
    fn the_flag_names_the_file_before_the_variable() {
        let dir = tempfile::tempdir().unwrap();
        let (by_flag, by_variable) = (dir.path().join("flag"), dir.path().join("variable"));
        std::fs::write(&by_flag, "").unwrap();
        std::fs::write(&by_variable, "").unwrap();
        let mut flags = ConfigFlags::default();
        flags.file = Some(by_flag.clone());
        let found = |flags, variable| find_file(flags, variable).unwrap().unwrap().path;
        assert_eq!(found(&flags, Some(by_variable.clone().into())), by_flag);
        assert_eq!(found(&ConfigFlags::default(), Some(by_variable.clone().into())), by_variable);
    }
}
