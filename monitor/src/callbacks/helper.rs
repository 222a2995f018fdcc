//! The helper process: runs the commands that it is told of, one after the other, and tells what came of each. It ends
//! when the agent's end of its standard input is closed.

use std::io::{self, BufRead as _, Write as _};

use super::{Call, command};

/// Runs it to its end.
///
/// # Errors
/// The pipes fail, or the kernel refuses what the helper needs.
pub(crate) fn run() -> io::Result<()> {
    // A process that loses its parent becomes this process's child, so that nothing of a command stays behind.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut stdout = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let Ok(call) = serde_json::from_str::<Call>(&line?) else { continue };
        let done = command::run(&call);
        serde_json::to_writer(&mut stdout, &done)?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
    }
    Ok(())
}
