//! How the programs that people start begin and end: the demo, the soak, the measurements.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cgroup;

/// 128 + SIGINT, as a shell says it.
const INTERRUPTED: u8 = 130;

/// From now on the signals that end a program set `stop` instead, so that it can clear up.
fn catch_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(stop)).context("catching signals")?;
    }
    Ok(())
}

/// The whole of a program: what it does is `play`, which ends early when the flag is set that it is given, leaves nothing
/// behind, and says whether all was as it must be. `name`: how it was called. The exit status: 130 if somebody wanted it
/// to end, whatever came of it then; else that of [`status`].
pub fn perform(name: &str, play: impl FnOnce(&Arc<AtomicBool>) -> Result<bool>) -> ExitCode {
    perform_unprivileged(|stop| {
        ensure!(
            cgroup::may_make(),
            "making cgroups and loading the kernel side need root: sudo -E env PATH=\"$PATH\" {name}"
        );
        play(stop)
    })
}

/// The same of a program that anybody may run.
pub fn perform_unprivileged(play: impl FnOnce(&Arc<AtomicBool>) -> Result<bool>) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let done = catch_signals(&stop).and_then(|()| play(&stop));
    if stop.load(Ordering::Relaxed) {
        eprintln!("interrupted; everything that was started is gone");
        return ExitCode::from(INTERRUPTED);
    }
    status(done)
}

/// 0: all was as it must be; 1: it was not, or there was an error, which is said on stderr.
pub fn status(done: Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
