//! Commands that an operator has run when something happened (`on_kill`, `on_approach`). A helper process runs them: it
//! is started before memory runs out, shares nothing with the agent but two pipes, and sees to it that a command neither
//! hangs nor stays behind.
//!
//! Owns what is said over the pipes. Decides nothing, and is never on the way to a kill: that is `agent/callbacks`.

mod command;
pub(crate) mod helper;
mod trust;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;

/// Whether a command can be run: its program is there, and nobody but root and the agent's own user can change it. It is
/// checked again each time.
fn check(command: &[String]) -> Result<(), String> {
    let Some(program) = command.first() else { return Err("it is empty".to_owned()) };
    trust::check(Path::new(program)).map_err(|why| format!("{program}: {why}"))
}

/// The commands that a configuration has.
pub(crate) fn commands(config: &Config) -> impl Iterator<Item = (&'static str, &[String])> {
    let settings = [("on_kill", &config.on_kill), ("on_approach", &config.on_approach)];
    settings.into_iter().filter_map(|(setting, command)| Some((setting, command.as_deref()?)))
}

/// Those of them that cannot be run, and why.
pub(crate) fn unusable(config: &Config) -> impl Iterator<Item = (&'static str, String)> {
    commands(config).filter_map(|(setting, command)| Some((setting, check(command).err()?)))
}

/// The hidden subcommand that the agent starts.
pub(crate) const SUBCOMMAND: &str = "__callbacks";

/// A command to run: a line from the agent to the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// For the log: `on_kill` or `on_approach`.
    pub(crate) setting: String,
    /// The program by its absolute path, and its arguments. No shell.
    pub(crate) command: Vec<String>,
    /// Its whole environment, besides `PATH`.
    pub(crate) environment: BTreeMap<String, String>,
    /// What it reads.
    pub(crate) input: Value,
    /// After this it is ended.
    pub(crate) limit_ms: u64,
}

/// What came of it: a line from the helper to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// As in the call.
    pub(crate) setting: String,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// How many processes it had left behind, which were killed.
    pub(crate) left: usize,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// With this exit code.
    Code(i32),
    /// By this signal, of somebody else.
    Signal(i32),
    /// Its time was up, and it was killed.
    TimedOut,
    /// It could not be run.
    NotRun(String),
}
