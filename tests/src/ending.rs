//! How the programs that people start begin and end: the demo, the soak, the measurements.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cgroup;

/// 128 + SIGINT, as a shell says it.
const INTERRUPTED: u8 = 130;

/// From now on the signals that end a program set `stop` instead, so that it can clear up. `name`: how it was called.
///
/// # Errors
/// It could not do what it is for: without root.
pub fn prepare(stop: &Arc<AtomicBool>, name: &str) -> Result<()> {
    ensure!(
        cgroup::may_make(),
        "making cgroups and loading the kernel side need root: sudo -E env PATH=\"$PATH\" {name}"
    );
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(stop)).context("catching signals")?;
    }
    Ok(())
}

/// Says on stderr why it ended before its time, if it did. The exit status: what was `done`; 1 for an error; 130 if
/// somebody wanted it to `stop`, whatever came of it then.
pub fn status(stop: &AtomicBool, done: Result<ExitCode>) -> ExitCode {
    match done {
        _ if stop.load(Ordering::Relaxed) => {
            eprintln!("interrupted; everything that was started is gone");
            ExitCode::from(INTERRUPTED)
        }
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
