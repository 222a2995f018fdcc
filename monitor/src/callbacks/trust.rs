//! Whether a program is one that only root, or the agent's own user, can change: no other user may write what runs with
//! the agent's rights.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// For the group, and for all others.
const OTHERS_WRITE: u32 = 0o022;

/// In a directory with this bit users can rename only their own files.
const STICKY: u32 = 0o1000;

/// Looks at the program and at every directory on the way to it, links followed.
///
/// # Errors
/// What is wrong, as a sentence.
pub(super) fn check(program: &Path) -> Result<(), String> {
    if !program.is_absolute() {
        return Err("it is no absolute path".to_owned());
    }
    let real = program.canonicalize().map_err(|error| error.to_string())?;
    let own = rustix::process::geteuid().as_raw();
    for (at, path) in real.ancestors().enumerate() {
        let found =
            fs::symlink_metadata(path).map_err(|error: io::Error| format!("{}: {error}", path.display()))?;
        if at == 0 && !found.is_file() {
            return Err("it is no regular file".to_owned());
        }
        if found.uid() != 0 && found.uid() != own {
            return Err(format!("{} belongs to user {}", path.display(), found.uid()));
        }
        let sticky = found.is_dir() && found.mode() & STICKY != 0;
        if found.mode() & OTHERS_WRITE != 0 && !sticky {
            return Err(format!("users other than its owner may write {}", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_that_others_can_change_is_not_run() {
        let dir = tempfile::Builder::new().tempdir().unwrap();
        let program = dir.path().join("p");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let mode =
            |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&program, 0o755);
        assert_eq!(check(&program), Ok(()));
        mode(&program, 0o775);
        assert!(check(&program).unwrap_err().contains("may write"));
        mode(&program, 0o755);
        mode(dir.path(), 0o777);
        assert!(check(&program).unwrap_err().contains("may write"));
        mode(dir.path(), 0o700);
        assert!(check(Path::new("p")).unwrap_err().contains("absolute"));
        assert!(check(dir.path()).unwrap_err().contains("regular file"));
        assert!(check(&dir.path().join("gone")).is_err());
    }
}
