//! `monitor run`: a command as a worker, from its first process to the end of its last retry.
//!
//! The runner starts commands, tells the agent about them, passes signals on and decides about retries by
//! [`crate::retry`]. It never kills anything. The command is the runner's child in the same process group, with
//! its own standard streams: a terminal works as if the runner were not there.
//!
//! If the runner dies, the command goes on and stays registered: it is guarded as before, but not retried. A command
//! that is not yet running then never runs; and one that was started within a worker ends with its runner, because the
//! worker that owns it was killed, most likely.

mod attempt;
mod backoff;
mod events;
pub mod held_start;
mod in_process;
mod input;
mod kills;
mod link;
mod orphans;
mod reach;
mod say;
mod signals;
mod stopped;
pub mod stub;
pub mod witness;
mod workload;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

pub use self::in_process::NoInProcessAgent;
pub use self::reach::{IfNoAgent, Socket};
use self::reach::{Reach, Reached, Unreached};
pub use self::signals::{Inherited, end_as};
use crate::admission::Admission;
use crate::control::client::{Client, ClientError};
use crate::exit_status as exit;
use crate::retry::{Exit, Waits};
use crate::units::Bytes;
use crate::worker::{Kind, LastTask, Times};

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
    /// It was started within a worker, and ends when its runner is killed.
    pub ends_with_runner: bool,
    /// The lower dies first.
    pub priority: i32,
    /// What one attempt needs, as it was said.
    pub memory: Option<Bytes>,
    /// What becomes of it as the last task of its owner.
    pub last_task: LastTask,
    /// Which starts wait for room; `None`: as the agent is set.
    pub admission: Option<Admission>,
    /// It lives on when the worker that owns it is gone.
    pub detached: bool,
    /// A name for people.
    pub name: Option<String>,
    /// How often a task is retried after kills for memory.
    pub oom_retries: Times,
    /// The first waits of the back-offs; zero: none.
    pub waits: Waits,
    /// The exit status if it was killed for memory and is not retried.
    pub oom_exit_code: u8,
    /// Where to write what happens, one JSON object a line; the file is appended to.
    pub json_events: Option<PathBuf>,
    /// The agent's socket.
    pub socket: Socket,
    /// What happens if no agent listens there.
    pub if_no_agent: IfNoAgent,
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

impl From<Unreached> for RunError {
    fn from(error: Unreached) -> Self {
        match error {
            Unreached::Agent(error) => Self::Agent(error),
            Unreached::Start(error) => Self::NoAgent(error),
        }
    }
}

/// Runs the plan to its end and returns how the runner is to end (docs/behavior.md#interfaces). Blocks; call it from the main
/// thread before any other thread exists, because it blocks the signals that it passes on.
///
/// # Errors
/// [`RunError`]; what went wrong with the command itself is an exit status instead.
pub fn run(plan: Plan) -> Result<Exit, RunError> {
    let setup = |step| move |source| RunError::Setup { step, source };
    let signals = signals::block().map_err(setup("block signals"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(setup("start the runtime"))?;
    runtime.block_on(async {
        let events = events::Events::open(plan.json_events.as_deref())?;
        let signals = signals.listen().map_err(setup("listen to signals"))?;
        let mut reach = Reach::new(plan.socket.clone(), plan.if_no_agent);
        let client = tokio::select! {
            connected = connect(&mut reach) => connected?,
            exit = stopped(&signals) => return Ok(exit),
        };
        workload::Workload::new(plan, reach, client, signals, events).run().await
    })
}

/// The end by a signal that asks to stop, once there is one.
async fn stopped(signals: &signals::Signals) -> Exit {
    loop {
        let received = signals.next().await;
        if received.ends_the_runner() {
            return received.exit();
        }
    }
}

/// `None`: no agent listens, and the command runs without.
async fn connect(reach: &mut Reach) -> Result<Option<Client>, RunError> {
    match reach.or_start(None).await {
        Ok(Reached { client, started }) => {
            if started {
                let path = client.path().display();
                say::line(format_args!("no agent was listening: this process is the agent, on {path}"));
            }
            Ok(Some(client))
        }
        Err(Unreached::Agent(error @ ClientError::NoAgent { .. })) if reach.may_be_unguarded() => {
            say::line(format_args!("{error}; until then the command runs unguarded (--if-no-agent=run)"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
