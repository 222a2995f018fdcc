//! `monitor agent`: the daemon. Starts the loop, stops it on SIGTERM or SIGINT.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit;
use crate::agent;
use crate::agent::survival::service;
use crate::config::{self, ConfigFlags, Resolved};
use crate::control::door::Door;
use crate::control::listen::Access;
use crate::recording::Recorder;

/// Guard this node, or the cgroups that are named
///
/// Without --cgroup it guards the node and every cgroup with a limit that a worker is in; with --cgroup only the
/// cgroups named and those with limits inside them, unless --node is given too. A cgroup that does not exist yet is
/// waited for. Runs in the foreground until SIGTERM or SIGINT.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 ended by SIGTERM or SIGINT; 1 it cannot guard what it should, or cannot listen; 2 a bad setting."
)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    config: ConfigFlags,
    /// Write all that the agent's core is told to FILE, for `monitor replay`; the file is made anew
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
    // Before any thread is started.
    agent::survival::heap::bound();
    // Dropped last: then it writes what waits.
    let _log = crate::diagnostics::start();
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    agent::survival::prepare(&resolved.config.socket);
    let runtime = agent::runtime()?;
    runtime.block_on(guard(resolved, args.record.as_deref()))?;
    Ok(exit::OK)
}

async fn guard(resolved: Resolved, record: Option<&Path>) -> anyhow::Result<()> {
    let config = &resolved.config;
    let recorder = record
        .map(|path| Recorder::start(path).with_context(|| format!("cannot record to {}", path.display())));
    let recorder = recorder.transpose()?;
    let path = config.socket.clone();
    let door = Door::open(&path, Access::of(config.socket_group.as_deref())?)?;
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let ready = || {
        agent::survival::lock();
        crate::diagnostics::say(&format!("monitor: listening on {}", path.display()));
        service::ready();
    };
    agent::serve(resolved, door, shutdown, recorder, ready).await?;
    Ok(())
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
