//! `monitor run`: a command as a worker, from its first process to the end of its last retry (docs/behavior.md#retry).
//!
//! The runner starts commands, tells the agent about them, passes signals on and decides about retries by
//! [`crate::retry`]. It never kills anything. The command is the runner's child in the same process group, with
//! its own standard streams: a terminal works as if the runner were not there.
//!
//! If the runner dies, the command goes on and stays registered: it is guarded as before, but nobody retries
//! it. A command that is not yet running then never runs.

mod attempt;
mod backoff;
mod events;
pub mod gate;
mod held;
mod in_process;
mod kills;
mod link;
mod say;
mod signals;
pub mod stub;
mod workload;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use self::in_process::InProcessAgent;
pub use self::in_process::NoInProcessAgent;
use crate::cli::exit;
use crate::control::client::{Client, ClientError};
use crate::worker::{Kind, Times};

/// A command and how to run it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    /// Task or actor, with its budget.
    pub kind: Kind,
    /// Whether an exit code other than 0 counts as a crash, as death by a signal always does. Otherwise it is
    /// the command's own answer.
    pub codes_are_crashes: bool,
    /// The caller that created it; `None`: it is a group of its own.
    pub owner: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// How often a task is retried after kills for memory (docs/behavior.md#retry).
    pub oom_retries: Times,
    /// The base of the back-off (docs/behavior.md#retry); zero: none.
    pub oom_retry_base: Duration,
    /// Where to write what happens, one JSON object a line; the file is appended to.
    pub json_events: Option<PathBuf>,
    /// The agent's socket.
    pub socket: PathBuf,
    /// Whether an agent may be started here if none listens: not if the user named a socket.
    pub may_start_agent: bool,
}

/// Why a command was not run, or not again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The agent cannot be reached or refused the command: exit status 125.
    #[error("{0}")]
    Agent(#[from] ClientError),
    /// No agent listens and none can be started here: exit status 125.
    #[error(transparent)]
    NoAgent(#[from] NoInProcessAgent),
    /// The file for the events cannot be written.
    #[error("cannot write events to {path}: {source}")]
    Events {
        /// `--json-events`.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runner itself cannot work.
    #[error("cannot {step}: {source}")]
    Setup {
        /// What failed, as a verb with its object.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl RunError {
    /// The exit status of docs/behavior.md#interfaces.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Agent(_) | Self::NoAgent(_) => exit::AGENT,
            Self::Events { .. } | Self::Setup { .. } => exit::FAILED,
        }
    }
}

/// Runs the plan to its end and returns the exit status of docs/behavior.md#interfaces. Blocks; call it from the main
/// thread before any other thread exists, because it blocks the signals that it passes on.
///
/// # Errors
/// [`RunError`]; what went wrong with the command itself is an exit status instead.
pub fn run(plan: Plan) -> Result<u8, RunError> {
    let setup = |step| move |source| RunError::Setup { step, source };
    let signals = signals::block().map_err(setup("block signals"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(setup("start the runtime"))?;
    runtime.block_on(async {
        let events = events::Events::open(plan.json_events.as_deref())?;
        let signals = signals.listen().map_err(setup("listen to signals"))?;
        // The agent of this process, if there is one, lives as long as the workload.
        let (client, _agent) = tokio::select! {
            connected = connect(&plan) => connected?,
            status = stopped(&signals) => return Ok(status),
        };
        workload::Workload::new(plan, client, signals, events).run().await
    })
}

/// The exit status for a signal that asks to stop, once there is one.
async fn stopped(signals: &signals::Signals) -> u8 {
    loop {
        let received = signals.next().await;
        if received.asks_to_stop() {
            return received.status();
        }
    }
}

async fn connect(plan: &Plan) -> Result<(Client, Option<InProcessAgent>), RunError> {
    match Client::connect(&plan.socket).await {
        Err(ClientError::NoAgent { .. }) if plan.may_start_agent => {
            let (client, agent) = in_process::start(&plan.socket).await?;
            if agent.is_some() {
                let path = client.path().display();
                say::line(format_args!("no agent was listening: this process is the agent, on {path}"));
            }
            Ok((client, agent))
        }
        connected => Ok((connected?, None)),
    }
}
