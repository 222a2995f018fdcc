//! One flag for each setting, made from the table, for the subcommands that flatten [`ConfigFlags`]. clap checks
//! that a flag has its value and is given once; what the value must be is checked with the other sources.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::Config;
use crate::config::form::Shape;
use crate::config::setting::Setting;
use crate::config::source::Given;
use crate::config::table::SETTINGS;
use crate::config::values::{DEFAULT_FILE, FILE_ENV};

/// What the command line says about settings. `#[command(flatten)]` it.
#[derive(Debug, Clone, Default)]
pub struct ConfigFlags {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    given: BTreeMap<&'static str, Given>,
}

impl ConfigFlags {
    /// The value of this setting's flag.
    pub(super) fn given(&self, setting: &Setting) -> Option<Given> {
        self.given.get(setting.key).cloned()
    }

    /// Whether this setting's flag was given.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// A flag of a setting other than this one, if any was given.
    #[must_use]
    pub fn given_but_for(&self, key: &str) -> Option<&'static str> {
        let other = self.given.keys().find(|given| **given != key)?;
        SETTINGS.iter().find(|setting| setting.key == *other).map(|setting| setting.flag)
    }

    /// These flags, and a setting's with this value, for a subcommand that declares the flag itself.
    #[must_use]
    pub fn and(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.given.insert(key, Given::Text(value.into()));
        self
    }

    /// These flags, and a setting's that may be repeated with these values; with none it is not given.
    #[must_use]
    pub fn and_all(mut self, key: &'static str, values: Vec<OsString>) -> Self {
        if !values.is_empty() {
            self.given.insert(key, Given::Texts(values));
        }
        self
    }

    /// These flags, and this setting's with `given`.
    #[cfg(test)]
    pub(super) fn with(mut self, key: &'static str, given: Given) -> Self {
        self.given.insert(key, given);
        self
    }
}

const HEADING: &str = "Settings";
const FILE_ID: &str = "config";

impl Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE_ID)
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading(HEADING)
            .help(format!(
                "TOML file with settings [environment: {FILE_ENV}] [default: {DEFAULT_FILE} if it exists]"
            ));
        command.arg(file).args(SETTINGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(file) = matches.get_one::<PathBuf>(FILE_ID) {
            self.file = Some(file.clone());
        }
        for setting in SETTINGS {
            let Some(values) = matches.get_many::<OsString>(setting.key) else { continue };
            let mut values: Vec<OsString> = values.cloned().collect();
            let given = match setting.field.shape() {
                Shape::Many(_) => Given::Texts(values),
                Shape::One(_) | Shape::Switch => match values.pop() {
                    Some(value) => Given::Text(value),
                    None => continue,
                },
            };
            self.given.insert(setting.key, given);
        }
        Ok(())
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.key)
        .long(setting.flag)
        .value_parser(Words(setting.field.words()))
        // They are in the help as what is allowed.
        .hide_possible_values(true)
        .allow_negative_numbers(true)
        .help_heading(HEADING)
        .help(setting.doc)
        .long_help(long_help(setting));
    match setting.field.shape() {
        Shape::One(name) => argument.value_name(name).action(ArgAction::Set),
        Shape::Many(name) => argument.value_name(name).action(ArgAction::Append),
        Shape::Switch => argument
            .value_name("BOOL")
            .action(ArgAction::Set)
            .num_args(0..=1)
            // Otherwise `--dry-run COMMAND` would take the command for its value.
            .require_equals(true)
            .default_missing_value("true"),
    }
}

/// Takes any text, for the table to check, and tells shells the words that a setting has.
#[derive(Debug, Clone)]
struct Words(Vec<&'static str>);

impl TypedValueParser for Words {
    type Value = OsString;

    fn parse_ref(&self, _: &Command, _: Option<&Arg>, value: &OsStr) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        if self.0.is_empty() {
            return None;
        }
        Some(Box::new(self.0.iter().map(|word| PossibleValue::new(*word))))
    }
}

fn long_help(setting: &Setting) -> String {
    let mut variables = vec![setting.env];
    variables.extend(setting.ray.iter().map(|ray| ray.name));
    format!(
        "{} [allowed: {}] [environment: {}] [default: {}]",
        setting.doc,
        setting.field.range(),
        variables.join(", "),
        setting.field.text(&Config::defaults(0, None)),
    )
}
