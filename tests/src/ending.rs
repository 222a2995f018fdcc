//! How the programs that tests and people start end: the demo, the soak, the measurements.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

/// 128 + SIGINT, as a shell says it.
const INTERRUPTED: u8 = 130;

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
