//! The listening socket as the server has it: it accepts, and looks now and then whether its file is still there. A
//! clean-up of the directory can remove the agent's file without the agent noticing; then the agent binds it again, by
//! the rules of the start. The agent's loop says when to look: a timer here would wake an agent that has nothing to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::listen::{Access, ListenError, SocketFile, bind, replace};

/// The socket in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListenerView {
    /// Its file.
    pub path: PathBuf,
    /// How often the file was found gone, or another's.
    pub lost: u64,
    /// Why new callers do not find the agent; null: they do.
    pub error: Option<String>,
}

/// What the agent's loop has of a [`Listener`]: has it look, and hears what it found.
#[derive(Debug, Default)]
pub struct ListenerHandle {
    look: Notify,
    view: Mutex<ListenerView>,
}

impl ListenerHandle {
    /// Has the server look whether the socket's file is there, as soon as it has nothing else to do.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// What the last look found.
    #[must_use]
    pub fn view(&self) -> ListenerView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// See the module. Dropped, it removes its file.
#[derive(Debug)]
pub struct Listener {
    // Before the listener: while that is open no other file gets its file's inode.
    file: SocketFile,
    listener: UnixListener,
    handle: Arc<ListenerHandle>,
}

impl Listener {
    /// Listens at `path`.
    ///
    /// # Errors
    /// As [`bind`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, as [`bind`].
    pub fn open(path: &Path, access: Access) -> Result<Self, ListenError> {
        Ok(Self::of(path, bind(path, access)?))
    }

    /// The same, in the place of an agent that listens there and is about to end.
    ///
    /// # Errors
    /// As [`replace`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, as [`replace`].
    pub fn replace(path: &Path, access: Access) -> Result<Self, ListenError> {
        Ok(Self::of(path, replace(path, access)?))
    }

    fn of(path: &Path, (listener, file): (UnixListener, SocketFile)) -> Self {
        let view = ListenerView { path: path.to_owned(), ..ListenerView::default() };
        let handle = Arc::new(ListenerHandle { look: Notify::new(), view: Mutex::new(view) });
        Self { file, listener, handle }
    }

    /// What tells it to look.
    #[must_use]
    pub fn handle(&self) -> Arc<ListenerHandle> {
        Arc::clone(&self.handle)
    }

    /// The next connection. Looks after the file meanwhile, when told to.
    pub(super) async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                biased;
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
                () = self.handle.look.notified() => self.look(),
            }
        }
    }

    /// Connections that are open have no part in this: they go on.
    fn look(&mut self) {
        let mut view = self.handle.view.lock().unwrap_or_else(PoisonError::into_inner);
        if self.file.is_there() {
            view.error = None;
            return;
        }
        view.lost += u64::from(view.error.is_none());
        match self.file.bind_anew() {
            Ok(listener) => {
                let path = self.file.path().display();
                tracing::warn!("the control socket's file was gone: the agent listens at {path} again");
                view.error = None;
                drop(view);
                self.listener = listener;
            }
            Err(error) => {
                let error = error.to_string();
                // Said once for each reason: the next look is seconds away.
                if view.error.as_ref() != Some(&error) {
                    tracing::error!(
                        "new callers find no agent: the control socket's file is gone, and {error}"
                    );
                }
                view.error = Some(error);
            }
        }
    }
}
