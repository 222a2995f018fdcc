//! What the subcommands that look into a decision journal share: which one, and reading it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ask::{self, Ask, complain};
use super::exit;
use crate::config::{self, ConfigFlags};
use crate::control::protocol::Op;
use crate::engine::KillId;
use crate::journal::{self, Past};

/// The kills of a journal. What is skipped is said; `None`: it cannot be read, which is said too.
pub(super) fn read(path: &Path) -> Option<BTreeMap<KillId, Past>> {
    match journal::read(path) {
        Ok((kills, skipped)) => {
            skipped.iter().for_each(|skipped| complain(skipped));
            Some(kills)
        }
        Err(error) => {
            complain(&error);
            None
        }
    }
}

/// Says that a journal has no such kill; the exit status.
pub(super) fn no_such_kill(path: &Path, kill: KillId) -> u8 {
    complain(&format_args!("{}: there is no kill {kill} in this journal", path.display()));
    exit::FAILED
}

/// The journal of the agent that answers; if none does and none was named, that of the configuration. `None`: there
/// is none, which is said.
pub(super) fn journal(ask: &Ask) -> Option<PathBuf> {
    let status = ask::block_on(async { ask.connect().await?.call(Op::Status).await });
    let found = match status {
        Ok(Ok(status)) => status["journal"]["path"].as_str().map(PathBuf::from),
        Ok(Err(error)) if ask.named() => {
            complain(&error);
            return None;
        }
        Ok(Err(_)) | Err(_) => {
            config::load(&ConfigFlags::default()).ok().and_then(|resolved| resolved.config.journal)
        }
    };
    if found.is_none() {
        complain(&"the agent keeps no journal; name one with --journal FILE");
    }
    found
}
