//! The note that `cargo xtask setup` leaves for monitor/build.rs, which includes this very file: one format, one
//! lookup order. Reads one small file and the environment; installs nothing, starts no process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use serde::{Deserialize, Serialize};

/// Overrides the toolchain of the note: a name that `rustup run` takes.
pub(crate) const TOOLCHAIN_VARIABLE: &str = "MONITOR_EBPF_TOOLCHAIN";
/// Overrides the linker of the note: a path.
pub(crate) const LINKER_VARIABLE: &str = "MONITOR_BPF_LINKER";
/// The variables that name the cache folder, first that is set wins; see [`cache_dir`].
pub(crate) const CACHE_VARIABLES: [&str; 3] = ["MONITOR_CACHE_DIR", "XDG_CACHE_HOME", "HOME"];

/// What the kernel side is built with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EbpfToolchain {
    /// A toolchain of rustup that carries rust-src, by its name there.
    pub(crate) toolchain: String,
    /// It is no nightly: unstable features need `RUSTC_BOOTSTRAP=1`.
    pub(crate) bootstrap: bool,
    /// The bpf-linker binary.
    pub(crate) linker: PathBuf,
}

/// Why there is no toolchain to build with. The text completes "the kernel side cannot be built: ...".
#[derive(Debug)]
pub(crate) enum Missing {
    /// Neither a cache folder nor a home is known.
    NoCache,
    /// Setup has not run: nothing at this path.
    NoNote(PathBuf),
    /// The note is there and cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The note is not in the format of this version.
    Malformed(PathBuf, toml::de::Error),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCache => write!(f, "none of {} is set", CACHE_VARIABLES.join(", ")),
            Self::NoNote(path) => {
                write!(f, "there is no eBPF toolchain yet (no {})", path.display())
            }
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Malformed(path, error) => {
                write!(f, "{} is not understood: {}", path.display(), error.message())
            }
        }
    }
}

/// `$MONITOR_CACHE_DIR`, `$XDG_CACHE_HOME/monitor` or `~/.cache/monitor`. An empty variable counts as unset.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    cache_dir_from(|name| env::var_os(name).filter(|value| !value.is_empty()))
}

fn cache_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let [own, xdg, home] = CACHE_VARIABLES;
    variable(own)
        .map(PathBuf::from)
        .or_else(|| variable(xdg).map(|dir| Path::new(&dir).join("monitor")))
        .or_else(|| variable(home).map(|dir| Path::new(&dir).join(".cache/monitor")))
}

/// Where the note lies in the cache folder.
pub(crate) fn note_in(cache: &Path) -> PathBuf {
    cache.join("ebpf-toolchain.toml")
}

impl EbpfToolchain {
    /// The note, with the overrides of the environment applied. With both overrides set no note is needed.
    pub(crate) fn load() -> Result<Self, Missing> {
        let toolchain = env::var(TOOLCHAIN_VARIABLE).ok().filter(|name| !name.is_empty());
        let linker = env::var_os(LINKER_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        if let (Some(toolchain), Some(linker)) = (&toolchain, &linker) {
            // Nobody noted whether it is a nightly; for one, the permission changes nothing.
            return Ok(Self { toolchain: toolchain.clone(), bootstrap: true, linker: linker.clone() });
        }
        let mut found = Self::read(&note_in(&cache_dir().ok_or(Missing::NoCache)?))?;
        if let Some(toolchain) = toolchain {
            found.toolchain = toolchain;
            found.bootstrap = true;
        }
        if let Some(linker) = linker {
            found.linker = linker;
        }
        Ok(found)
    }

    fn read(path: &Path) -> Result<Self, Missing> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Missing::NoNote(path.to_owned()));
            }
            Err(error) => return Err(Missing::Unreadable(path.to_owned(), error)),
        };
        toml::from_str(&text).map_err(|error| Missing::Malformed(path.to_owned(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_names_the_cache() {
        let all = [("MONITOR_CACHE_DIR", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        for (skipped, expected) in
            [(0, Some("/a")), (1, Some("/b/monitor")), (2, Some("/c/.cache/monitor")), (3, None)]
        {
            let set = &all[skipped..];
            let dir = cache_dir_from(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()));
            assert_eq!(dir.as_deref(), expected.map(Path::new));
        }
    }

    #[test]
    fn a_note_of_another_format_is_not_taken_for_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        let note = note_in(dir.path());
        assert!(matches!(EbpfToolchain::read(&note), Err(Missing::NoNote(path)) if path == note));
        fs::write(&note, "toolchain = 'x'\nbootstrap = true\nlinker = '/l'\nextra = 1\n").unwrap();
        assert!(matches!(EbpfToolchain::read(&note), Err(Missing::Malformed(..))));
        let whole = EbpfToolchain { toolchain: "x".into(), bootstrap: true, linker: "/l".into() };
        fs::write(&note, toml::to_string(&whole).unwrap()).unwrap();
        assert_eq!(EbpfToolchain::read(&note).unwrap(), whole);
    }
}
