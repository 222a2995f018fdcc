//! What the subcommands that ask the agent share: where it is, one question, and output that survives a reader
//! that goes away.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::exit;
use crate::config::{self, ConfigErrors, ConfigFlags, SYSTEM_SOCKET, Warning};
use crate::control::client::{Client, ClientError};
use crate::control::protocol::Op;
use crate::printable::output;
use crate::runner::stub::SOCKET_VARIABLE;

/// Where the agent is, and in which form its answer is wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Ask {
    /// The agent's socket (a setting: see `monitor config`) [default: /run/monitor/monitor.sock, or the user's own]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Ask {
    /// The socket that is named by flag, environment or file; else root's, or this user's own if only that exists.
    fn path(&self) -> PathBuf {
        let flags = ConfigFlags::default();
        let flags = self.socket.iter().fold(flags, |flags, path| flags.and("socket", path));
        // Other faults of the configuration must not keep a user from asking the agent.
        socket_of(&flags).unwrap_or_else(|_| {
            let named =
                || std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
            self.socket.clone().or_else(named).unwrap_or_else(|| SYSTEM_SOCKET.into())
        })
    }

    pub(super) async fn connect(&self) -> Result<Client, ClientError> {
        let path = self.path();
        if self.named() { Client::connect_told(&path).await } else { Client::connect(&path).await }
    }

    /// Whether an agent was named.
    pub(super) fn named(&self) -> bool {
        self.socket.is_some()
    }

    /// Asks, and prints the answer as JSON or as `human` puts it; the exit status. An answer of another form, as an agent
    /// of another version may give, is printed as it came: what it said is better than nothing.
    pub(super) fn ask<T: DeserializeOwned>(&self, op: Op, human: impl Fn(&T) -> String) -> u8 {
        let answer = block_on(async { self.connect().await?.call(op).await });
        match answer {
            Ok(Ok(value)) if self.json => print(&format!("{value}\n")),
            Ok(Ok(value)) => match T::deserialize(&value) {
                Ok(answer) => print(&human(&answer)),
                Err(_) => print(&format!("{value:#}\n")),
            },
            Ok(Err(error)) => refused(&error),
            Err(error) => {
                complain(&error);
                exit::FAILED
            }
        }
    }
}

/// The socket that is named by these flags, environment or file; else root's, or this user's own if only that exists.
///
/// # Errors
/// What is wrong with the configuration.
pub(super) fn socket_of(flags: &ConfigFlags) -> Result<PathBuf, ConfigErrors> {
    let resolved = config::load(flags)?;
    let system = PathBuf::from(SYSTEM_SOCKET);
    let own = resolved.config.socket.clone();
    Ok(if resolved.is_given("socket") || (own.exists() && !system.exists()) { own } else { system })
}

/// Runs a future on a runtime of this thread.
pub(super) fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Says what is wrong; the exit status: 1 if the agent refused, 125 if there is none.
pub(super) fn refused(error: &ClientError) -> u8 {
    complain(error);
    if matches!(error, ClientError::Refused(_)) { exit::FAILED } else { exit::AGENT }
}

/// A line on stderr, in one write: parallel callers' lines do not mix.
pub(super) fn complain(error: &dyn fmt::Display) {
    let _ = io::stderr().write_all(output(&format!("monitor: {error}\n")).as_bytes());
}

/// Lines on stderr that begin with the place that they are about.
pub(super) fn list(errors: &dyn fmt::Display) {
    let _ = io::stderr().write_all(output(&format!("{errors}\n")).as_bytes());
}

/// What is allowed in a configuration but probably a mistake, a line each on stderr.
pub(super) fn warn<'w>(warnings: impl IntoIterator<Item = &'w Warning>) {
    warnings.into_iter().for_each(|warning| complain(&format_args!("warning: {warning}")));
}

/// Prints a value as one line of JSON; the exit status.
pub(super) fn print_json(value: &impl serde::Serialize) -> u8 {
    match serde_json::to_string(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => {
            complain(&error);
            exit::FAILED
        }
    }
}

/// Prints to stdout what can be shown; the exit status. A reader that went away (`| head`) is no failure.
pub(super) fn print(text: &str) -> u8 {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(output(text).as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => exit::OK,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            complain(&format_args!("cannot write to stdout: {error}"));
            exit::FAILED
        }
    }
}
