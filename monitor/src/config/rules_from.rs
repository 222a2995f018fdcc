//! Where a configuration says that rules are written. Reads none of them.

use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigFile, Resolved};
use crate::rules::files::{DEFAULT_DIRECTORY, DIRECTORY, Sources};

impl Resolved {
    /// Where it says that rules are.
    #[must_use]
    pub fn rules_from(&self) -> Sources {
        self.config.rules_from(self.file.as_ref())
    }
}

impl Config {
    /// The same for the settings of a file.
    #[must_use]
    pub fn rules_from(&self, file: Option<&ConfigFile>) -> Sources {
        let beside = |file: &ConfigFile| file.path.parent().unwrap_or(Path::new("")).join(DIRECTORY);
        let directory = self.rules.clone().or_else(|| file.map(beside));
        Sources {
            directory: Some(directory.unwrap_or_else(|| PathBuf::from(DEFAULT_DIRECTORY))),
            directory_named: self.rules.is_some(),
            configuration: file.map(|file| (file.path.clone(), file.text.clone())),
            presets: self.presets.clone(),
            mode: self.rules_mode,
        }
    }
}
