//! The init of a test VM (`cargo xtask vm`): mounts what the tests need, runs each test in a process of its own, writes
//! one line per event to the results port, and powers the machine off. It kills everything else in between, so it
//! refuses to be anything but pid 1 of a VM that was booted for it.

mod facts;
mod mounts;
mod run;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use monitor_tests::vm_line::Line;
use rustix::system::{RebootCommand, reboot};

/// On the kernel's command line: this machine is ours to switch off.
const MARK: &str = "monitor.vm=1";
/// The serial port that is not the kernel's console, as xtask plugs it in.
const RESULTS: &str = if cfg!(target_arch = "aarch64") { "/dev/ttyS0" } else { "/dev/ttyS1" };

/// Where events go.
pub(crate) struct Results(File);

impl Results {
    /// Writes one event. If the port is gone nobody listens and nothing is left to do about it.
    pub(crate) fn send(&mut self, line: &Line) {
        let _ = self.0.write_all(format!("{line}\n").as_bytes());
    }
}

fn main() -> ExitCode {
    if let Err(why) = entitled() {
        eprintln!("vm-init: {why:#}");
        return ExitCode::FAILURE;
    }
    match OpenOptions::new().write(true).open(RESULTS) {
        Ok(port) => {
            let mut results = Results(port);
            if let Err(error) = work(&mut results) {
                results.send(&Line::Trouble { what: format!("{error:#}") });
            }
            results.send(&Line::Done);
            // What is still in the port's buffer is lost when the machine goes off.
            let _ = rustix::termios::tcdrain(&results.0);
        }
        Err(error) => eprintln!("vm-init: {RESULTS}: {error}"),
    }
    let error = reboot(RebootCommand::PowerOff);
    eprintln!("vm-init: power off: {error:?}");
    // The kernel panics when pid 1 ends, and the watcher of the console sees it.
    ExitCode::FAILURE
}

/// Pid 1, of a machine with our mark.
fn entitled() -> Result<()> {
    if std::process::id() != 1 {
        bail!("this is the init of a test VM; it runs only as pid 1");
    }
    mounts::early()?;
    let cmdline = fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    if !cmdline.split_whitespace().any(|word| word == MARK) {
        bail!("the kernel was not booted with {MARK}");
    }
    Ok(())
}

fn work(results: &mut Results) -> Result<()> {
    for trouble in mounts::all() {
        results.send(&Line::Trouble { what: trouble });
    }
    facts::send(results);
    run::everything(results)
}
