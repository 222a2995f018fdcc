//! Everything that can be wrong with a configuration. Each error names its place, its key and what is allowed;
//! all errors of one start are collected in [`ConfigErrors`].

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::source::Source;

/// Why one given value is not taken. What *is* allowed follows from the setting and is added by
/// [`ConfigError::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A variable that is set to nothing, or an empty string.
    #[error("it is empty")]
    Empty,
    /// Bytes that are no text, where text is needed.
    #[error("{0} is not UTF-8")]
    NotUtf8(String),
    /// Text that does not read as the kind of value wanted.
    #[error("{given} is not {expected}")]
    NotA {
        /// What was given, quoted and cut.
        given: String,
        /// With its article: `a whole number`.
        expected: &'static str,
    },
    /// The file has another type there.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// With its article.
        expected: &'static str,
        /// With its article.
        found: &'static str,
    },
    /// The right kind, outside the allowed range.
    #[error("{0} is out of range")]
    OutOfRange(String),
}

/// One thing that is wrong. `Display` is the whole message, on one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that its setting does not take.
    #[error("{}: {key}: {refusal}; allowed: {range}", from.place())]
    Refused {
        /// The setting.
        key: &'static str,
        /// The source that gave the value.
        from: Source,
        /// What is wrong with it.
        refusal: Refusal,
        /// What the setting takes.
        range: String,
    },
    /// A key in the file that no setting has.
    #[error("{}:{line}: {key}: unknown key{}", path.display(), did_you_mean(*suggestion))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// As written.
        key: String,
        /// The setting with the nearest name, if one is near.
        suggestion: Option<&'static str>,
    },
    /// A `[[rule]]` of the file is none.
    #[error("{message}")]
    Rule {
        /// From 1.
        line: usize,
        /// File, line, key, what is wrong and what is allowed.
        message: String,
    },
    /// The file is not TOML there; a key given twice counts.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// The node is not guarded and no cgroup is named: there is nothing to do.
    #[error("{}: node: false leaves nothing to guard; name a cgroup with cgroups, or guard the node", from.place())]
    NothingGuarded {
        /// The source that said not to guard the node.
        from: Source,
    },
    /// Two settings of the same source that say opposite things.
    #[error("{}: mode: {mode} contradicts {other}; remove one of them", from.place())]
    Contradiction {
        /// The source that gave the mode.
        from: Source,
        /// The mode.
        mode: &'static str,
        /// What else was set, and where.
        other: String,
    },
    /// The file that was asked for does not exist.
    #[error("{}: no such file", path.display())]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// It exists and may not be read.
    #[error("{}: permission denied", path.display())]
    FileDenied {
        /// The file.
        path: PathBuf,
    },
    /// A directory where a file is wanted.
    #[error("{}: it is a directory, not a file", path.display())]
    FileIsDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// More than a configuration can reasonably be; a wrong path, most likely.
    #[error("{}: larger than {limit} bytes, so it is not a configuration file", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// TOML is UTF-8.
    #[error("{}:{line}: not UTF-8", path.display())]
    FileNotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first wrong byte, from 1.
        line: usize,
    },
    /// Any other failure to read it.
    #[error("{}: cannot be read: {error}", path.display())]
    FileBroken {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|key| format!("; did you mean {key}?")).unwrap_or_default()
}

impl ConfigError {
    /// The line of the file it is about; `None` for the other sources.
    fn line(&self) -> Option<usize> {
        match self {
            Self::Refused { from, .. } | Self::Contradiction { from, .. } | Self::NothingGuarded { from } => {
                match from {
                    Source::File { line, .. } => Some(*line),
                    Source::Flag(_) | Source::Environment(_) | Source::Default => None,
                }
            }
            Self::UnknownKey { line, .. }
            | Self::Rule { line, .. }
            | Self::Syntax { line, .. }
            | Self::FileNotUtf8 { line, .. } => Some(*line),
            Self::FileMissing { .. }
            | Self::FileDenied { .. }
            | Self::FileIsDirectory { .. }
            | Self::FileTooLarge { .. }
            | Self::FileBroken { .. } => None,
        }
    }
}

/// All that is wrong with one start, never empty. `Display` has one error on each line: those of the file in the
/// order of its lines, then the others in the order of the settings.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok(value)` if there are no errors.
    pub(super) fn unless_empty<T>(mut errors: Vec<ConfigError>, value: T) -> Result<T, Self> {
        if errors.is_empty() {
            return Ok(value);
        }
        errors.sort_by_key(|error| error.line().unwrap_or(usize::MAX));
        Err(Self(errors))
    }

    /// These errors, and `first` before them.
    pub(super) fn preceded_by(first: ConfigError, others: Option<Self>) -> Self {
        Self(std::iter::once(first).chain(others.into_iter().flat_map(|o| o.0)).collect())
    }

    /// The errors one by one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
