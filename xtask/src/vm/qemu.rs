//! Runs one virtual machine in QEMU and feeds what it says into a column of the table. Software emulation on purpose:
//! it is there on every machine, also inside a container or another VM.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::console::Alarm;
use super::emulator::{Emulator, program};
use super::line::Line;
use super::table::Column;
use crate::architecture::Architecture;

/// `monitor.vm=1` is what vm-init wants to see before it takes the machine for its own. The rest makes boots quick
/// and equal: panics end the machine, no boot messages, no other security module.
const COMMAND_LINE: &str = "monitor.vm=1 panic=-1 quiet loglevel=5 mitigations=off audit=0 apparmor=0";
/// Among a machine's arguments: its clock counts instructions, one for each nanosecond, whatever else this machine does.
const COUNT: &str = "monitor.icount=1";
/// The machine, its console, and the port of the results, which is named in vm-init.
const X86_64: (&[&str], &str) =
    (&["-cpu", "max,-la57", "-machine", "q35"], "console=ttyS0 tsc=reliable no_timer_check");
const AARCH64: (&[&str], &str) = (&["-cpu", "max", "-machine", "virt"], "console=ttyAMA0");

/// What to boot.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    /// QEMU.
    pub(super) emulator: &'a Emulator,
    /// A bzImage, or an Image of ARM's.
    pub(super) kernel: &'a Path,
    /// An initramfs with vm-init.
    pub(super) initrd: &'a Path,
    /// More for the kernel's command line.
    pub(super) arguments: &'a [String],
    /// In MiB.
    pub(super) memory: u32,
    /// From start to power off.
    pub(super) deadline: Duration,
    /// What its console says lands here.
    pub(super) console: &'a Path,
}

/// Something heard from the machine.
enum Heard {
    Console(String),
    Complaint(String),
    Result(String),
    ConsoleEnded,
}

/// Kills QEMU whatever way the run ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine<'_> {
    /// Boots, listens until the machine goes off, is unwell or the deadline passes. `work` takes the socket.
    pub(super) fn run(&self, work: &Path, column: &mut Column) -> Result<()> {
        let socket = work.join("results");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let mut command = self.command(&socket);
        let mut running = Running(command.spawn().context("cannot start QEMU")?);
        let (sender, receiver) = channel();
        if let Some(console) = running.0.stdout.take() {
            listen(console, sender.clone(), Heard::Console, Some(Heard::ConsoleEnded));
        }
        if let Some(complaints) = running.0.stderr.take() {
            listen(complaints, sender.clone(), Heard::Complaint, None);
        }
        thread::spawn(move || {
            if let Ok((results, _)) = listener.accept() {
                listen(results, sender, Heard::Result, None);
            }
        });
        let console = File::create(self.console).with_context(|| self.console.display().to_string())?;
        self.follow(&receiver, &socket, console, column);
        Ok(())
    }

    fn command(&self, socket: &Path) -> Command {
        // This machine of ARM's has one serial port; another one is plugged in.
        let ((machine, console), port): (_, &[&str]) = match self.emulator.architecture() {
            Architecture::X86_64 => (X86_64, &["-serial", "chardev:results"]),
            Architecture::Aarch64 => (AARCH64, &["-device", "pci-serial,chardev=results"]),
        };
        let mut command = self.emulator.command();
        let accelerator: &[&str] = if self.arguments.iter().any(|argument| argument == COUNT) {
            &["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]
        } else {
            &["-accel", "tcg,thread=multi"]
        };
        command
            .args(accelerator)
            .args(["-smp", "2"])
            .args(machine)
            .args(["-m", &self.memory.to_string()])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-nic", "none"])
            .args(["-serial", "stdio"])
            .args(["-chardev", &format!("socket,id=results,path={}", socket.display())])
            .args(port)
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initrd)
            .args(["-append", &format!("{console} {COMMAND_LINE} {}", self.arguments.join(" "))])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn follow(&self, heard: &Receiver<Heard>, socket: &Path, mut console: File, column: &mut Column) {
        let end = Instant::now() + self.deadline;
        loop {
            match heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Heard::Result(text)) => match Line::parse(&text) {
                    Some(line) => column.event(line),
                    None => column.trouble(format!("not understood: {text:?}")),
                },
                Ok(Heard::Console(text)) => {
                    // For whom an alarm is not enough; a full disk is no fault of the kernel's.
                    let _ = writeln!(console, "{text}");
                    let alarm = Alarm::in_line(&text);
                    column.console(&text, alarm);
                    if alarm.is_some_and(Alarm::is_fatal) {
                        return;
                    }
                }
                Ok(Heard::Complaint(text)) => {
                    column.trouble(format!("{}: {text}", program(self.emulator.architecture())))
                }
                // A QEMU that ended before it connected would leave us waiting for the results: connect in its place.
                Ok(Heard::ConsoleEnded) => drop(UnixStream::connect(socket)),
                Err(RecvTimeoutError::Timeout) => {
                    return column.trouble(format!("not done within {:?}", self.deadline));
                }
                // Console and results ended: the machine is off.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Sends each line from a thread of its own, until the other side ends; then `last`.
fn listen(
    from: impl Read + Send + 'static,
    to: Sender<Heard>,
    kind: fn(String) -> Heard,
    last: Option<Heard>,
) {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if to.send(kind(line)).is_err() {
                return;
            }
        }
        // Nobody listens any more: nothing left to say.
        let _ = last.map(|last| to.send(last));
    });
}
