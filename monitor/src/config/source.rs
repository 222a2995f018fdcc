//! Where a value comes from, and what was given there before it is understood. No parsing, no I/O.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The origin of a value, in the words that `monitor config` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line; the name without its dashes.
    Flag(&'static str),
    /// The environment; the variable's name, ours or Ray's.
    Environment(&'static str),
    /// The configuration file.
    File {
        /// As it was named, not made absolute.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// It is not set anywhere.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Source {
    /// How strong it is among others.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag(_) => 3,
        }
    }

    /// The source as an error message begins: `PATH:LINE` for a file, so that editors can jump there.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::File { path, line } => format!("{}:{line}", path.display()),
            Self::Flag(_) | Self::Environment(_) | Self::Default => self.to_string(),
        }
    }
}

/// A value as one source gives it. A flag or a variable is text that any form may interpret; a file has types,
/// and a wrong type there is an error even where the text would do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    /// From a flag or a variable.
    Text(OsString),
    /// From a flag that may be repeated.
    Texts(Vec<OsString>),
    /// File: an integer.
    Integer(i128),
    /// File: a float, NaN and infinity included.
    Float(f64),
    /// File: `true` or `false`.
    Boolean(bool),
    /// File: a string.
    String(String),
    /// File: an array of strings.
    Strings(Vec<String>),
    /// File: a type no setting takes, by its name.
    Other(&'static str),
}

impl Given {
    /// The type's name in the words of TOML; `text` where there are no types.
    #[must_use]
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Texts(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::String(_) => "a string",
            Self::Strings(_) => "an array of strings",
            Self::Other(name) => name,
        }
    }
}
