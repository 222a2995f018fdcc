//! `monitor agent`: the daemon. Starts the loop, stops it on SIGTERM or SIGINT.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit;
use crate::agent::survival::service;
use crate::agent::{self, Begin, Role};
use crate::config::{self, ConfigFlags, Resolved};
use crate::control::client::{Client, ClientError};
use crate::control::listen::{Access, ListenError};
use crate::control::listener::Listener;
use crate::control::protocol::Op;
use crate::recording::Recorder;
use crate::rules::Rules;
use crate::worker::WorkerId;

/// Guard this node, or the cgroups that you name
///
/// Without --cgroup, the agent guards the node and every cgroup with a limit around a worker. With --cgroup, it guards
/// the named cgroups and what lies inside them, and the node only if --node is given too. It waits for a cgroup that
/// does not exist yet. It runs in the foreground until SIGTERM or SIGINT; on SIGHUP, as with `monitor reload`, it reads
/// its configuration again.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 ended by SIGTERM or SIGINT; 1 it cannot guard, or cannot listen on its socket; 2 a wrong setting."
)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    config: ConfigFlags,
    /// Record all input of the agent in FILE, for `monitor replay`; replaces an older FILE
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// Exit status: 0 after a signal; 1 if it cannot guard what it should or cannot listen; 2 for a bad setting.
///
/// # Errors
/// Why it cannot start.
pub(super) fn run(args: &AgentArgs) -> anyhow::Result<u8> {
    let resolved = match config::load(&args.config) {
        Ok(resolved) => resolved,
        Err(errors) => {
            super::ask::list(&errors);
            return Ok(exit::USAGE);
        }
    };
    let rules = match resolved.rules_from().load() {
        Ok(rules) => rules,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(exit::USAGE);
        }
    };
    // Before any thread is started.
    agent::survival::heap::bound();
    // Dropped last: then it writes what waits.
    let _log = crate::diagnostics::start(resolved.config.log_format);
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    agent::survival::prepare(&resolved.config.socket);
    let runtime = agent::runtime()?;
    runtime.block_on(guard((resolved, args.config.clone()), rules, args.record.as_deref()))?;
    Ok(exit::OK)
}

async fn guard(
    (resolved, flags): (Resolved, ConfigFlags),
    rules: Rules,
    record: Option<&Path>,
) -> anyhow::Result<()> {
    let config = &resolved.config;
    let recorder = record
        .map(|path| Recorder::start(path).with_context(|| format!("cannot record to {}", path.display())));
    let recorder = recorder.transpose()?;
    let path = config.socket.clone();
    let access = Access::of(config.socket_group.as_deref())?;
    let (listener, earlier) = match Listener::open(&path, access) {
        Err(live @ ListenError::Live { .. }) => match Earlier::find(&path).await {
            Some(earlier) => (Listener::replace(&path, access)?, Some(earlier)),
            None => return Err(live.into()),
        },
        opened => (opened?, None),
    };
    let role = earlier
        .as_ref()
        .map_or(Role::Daemon, |earlier| Role::After { workers: earlier.workers, last: earlier.last });
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let ready = || {
        agent::survival::lock();
        crate::diagnostics::say(&format!("monitor: listening on {}", path.display()));
        service::ready();
        if let Some(earlier) = earlier {
            tokio::spawn(earlier.end());
        }
    };
    agent::serve((resolved, flags), listener, shutdown, Begin { role, rules, recorder }, ready).await?;
    Ok(())
}

/// An agent inside a `monitor run`, which guards its workers until this one is ready.
struct Earlier {
    client: Client,
    workers: usize,
    /// The last number that one of them has.
    last: Option<WorkerId>,
}

impl Earlier {
    async fn find(path: &Path) -> Option<Self> {
        let mut client = Client::connect(path).await.ok()?;
        let status = client.call(Op::Status).await.ok()?;
        let workers = usize::try_from(status["workers"].as_u64()?).ok()?;
        if status["in_process"] != true {
            return None;
        }
        let listed = client.call(Op::Workers).await.ok()?;
        let numbers = listed.as_array()?.iter().filter_map(|worker| worker["id"].as_str()?.parse().ok());
        let last = numbers.max();
        Some(Self { client, workers, last })
    }

    async fn end(mut self) {
        match self.client.call(Op::GiveWay).await {
            // It may end before its answer is on the way.
            Ok(_) | Err(ClientError::Closed { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, "the agent inside a `monitor run` does not hand over its workers")
            }
        }
    }
}

fn stop_on_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        service::stopping();
        shutdown.cancel();
    });
    Ok(())
}
