//! The agent inside the runner's process, for a first try and for machines without a service: on a thread of its
//! own, where the service would listen, and gone with the runner.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Begin, Role};
use crate::config::{self, ConfigFlags, Resolved};
use crate::control::client::Client;
use crate::control::listen::Access;
use crate::control::listener::Listener;
use crate::rules::Rules;
use crate::worker::WorkerId;

/// Why no agent can be started inside this process.
#[derive(Debug, thiserror::Error)]
#[error("no agent listens on {socket}, and none can be started here: {why}; {}", remedy())]
pub struct NoInProcessAgent {
    socket: PathBuf,
    why: String,
}

/// What to do. Root has no more rights to get: what is in its way is the place, as a read-only /run.
fn remedy() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "start `monitor agent`, or name a socket in a directory that can be written: MONITOR_SOCKET=PATH"
    } else {
        "start `monitor agent`, or run as root"
    }
}

/// An agent inside this process. It stops when this is dropped.
#[derive(Debug)]
pub(super) struct InProcessAgent {
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Connects to the agent of this user, or starts one inside this process, with the configuration that a service
/// would have. `asked` is where none listens, and the place for one of our own too if it was `named`; `last` is a
/// number that an agent gave that is gone.
///
/// # Errors
/// It is not possible; the error says why and names the remedy.
pub(super) async fn start(
    asked: &Path,
    named: bool,
    last: Option<WorkerId>,
) -> Result<(Client, Option<InProcessAgent>), NoInProcessAgent> {
    let impossible = |why: String| NoInProcessAgent { socket: asked.to_owned(), why };
    let mut flags = ConfigFlags::default();
    if named {
        flags = flags.and("socket", asked);
    }
    let resolved = config::load(&flags).map_err(|errors| impossible(errors.to_string()))?;
    let socket = resolved.config.socket.clone();
    // A user's own agent listens elsewhere than root's.
    if socket != asked
        && let Ok(client) = Client::connect(&socket).await
    {
        return Ok((client, None));
    }
    let (ready, started) = oneshot::channel();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let thread = std::thread::Builder::new()
        .name("agent".to_owned())
        .spawn(move || serve((resolved, flags), last, stop, ready))
        .map_err(|error| impossible(error.to_string()))?;
    let agent = InProcessAgent { shutdown, thread: Some(thread) };
    let failed = match started.await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some("its thread ended".to_owned()),
    };
    if let Some(why) = failed {
        // Another process was faster.
        return match Client::connect(&socket).await {
            Ok(client) => Ok((client, None)),
            Err(_) => Err(impossible(why)),
        };
    }
    let client = Client::connect(&socket).await.map_err(|error| impossible(error.to_string()))?;
    Ok((client, Some(agent)))
}

/// The thread. Tells through `ready` that it serves, or why it does not.
fn serve(
    (resolved, flags): (Resolved, ConfigFlags),
    last: Option<WorkerId>,
    shutdown: CancellationToken,
    ready: oneshot::Sender<Result<(), String>>,
) {
    let mut ready = Some(ready);
    let mut tell = |result| {
        if let Some(ready) = ready.take() {
            // The waiter is gone: the runner was told to stop.
            let _ = ready.send(result);
        }
    };
    let result = (|| {
        let runtime = agent::runtime()?;
        runtime.block_on(async {
            let config = &resolved.config;
            let access = Access::of(config.socket_group.as_deref())?;
            let listener = Listener::open(&config.socket, access)?;
            let role = Role::InProcess { last };
            // It guards what is started under it; rules are the daemon's.
            let begin = Begin { role, rules: Rules::none(), recorder: None };
            agent::serve((resolved, flags), listener, shutdown, begin, || tell(Ok(()))).await?;
            anyhow::Ok(())
        })
    })();
    if let Err(error) = result {
        tell(Err(format!("{error:#}")));
    }
}

impl InProcessAgent {
    /// It gave way to another agent, or failed.
    pub(super) fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for InProcessAgent {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            // It panicked: nothing is left to wait for.
            let _ = thread.join();
        }
    }
}
