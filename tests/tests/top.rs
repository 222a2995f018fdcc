//! `monitor top` on a terminal of its own, as a person uses it: keys, an agent that goes and comes back, and a terminal
//! that is closed.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::die_with_parent;
use monitor_tests::{sandbox, worker};

/// A program on a terminal of 80 by 24. Dropped, it is killed.
struct Screen {
    child: Child,
    master: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

/// The two ends of a new terminal.
fn terminal() -> (File, OwnedFd) {
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: both numbers are written by the call; the name and the settings are not asked for; the size outlives it.
    let done = unsafe {
        libc::openpty(
            &mut master,
            &mut slave,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::from_ref(&size),
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call made both descriptors, and nobody else has them.
    unsafe {
        // No child of this test holds the terminal open.
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

/// Starts it in a session of its own, with a terminal whose other end is returned.
fn on_a_terminal(mut command: Command) -> (Child, File) {
    let (master, slave) = terminal();
    let end = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm");
    // SAFETY: only system calls, in the child, before it executes: a session of its own, with this terminal.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    die_with_parent(&mut command);
    (command.spawn().unwrap(), master)
}

/// What is written, without the sequences that move the cursor and color: where nothing changes, not even spaces are
/// written anew, so that they are left out too.
fn letters(written: &str) -> String {
    let (mut left, mut characters) = (String::new(), written.chars());
    while let Some(c) = characters.next() {
        if c == '\u{1b}' {
            if characters.next() == Some('[') {
                characters.find(|c| ('@'..='~').contains(c));
            }
        } else if !c.is_whitespace() {
            left.push(c);
        }
    }
    left
}

impl Screen {
    fn start(command: Command) -> Self {
        let (child, master) = on_a_terminal(command);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, heard) = (master.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut chunk) {
                heard.lock().unwrap().extend(&chunk[..read]);
            }
        });
        Self { child, master, shown }
    }

    /// Waits until this text was written since the last time.
    fn shows(&self, text: &str) {
        let found = wait_for(&format!("{text:?} on the screen"), PATIENCE, || {
            let mut shown = self.shown.lock().unwrap();
            let found = letters(&String::from_utf8_lossy(&shown)).contains(&letters(text));
            if found {
                shown.clear();
            }
            Ok(found.then_some(()))
        });
        found.unwrap_or_else(|error| {
            panic!("{error:#}: {}", String::from_utf8_lossy(&self.shown.lock().unwrap()))
        });
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("it to end", PATIENCE, || Ok(child.try_wait()?)).unwrap()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn top(agent: &Agent) -> Screen {
    Screen::start(agent.command("top").unwrap())
}

fn run_hog(agent: &Agent, sandbox: &Sandbox) {
    worker::outgrow(agent, sandbox, &["--name", "greedy", "--owner", "o"]).unwrap();
}

#[test]
fn it_shows_a_kill_and_its_report_and_an_agent_that_goes_and_comes_back() {
    let sandbox = sandbox!(128);
    let mut agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5"]).unwrap();
    let mut screen = top(&agent);
    screen.shows("No workers are registered");
    run_hog(&agent, &sandbox);
    screen.shows("greedy");
    screen.press("r");
    screen.shows("Out of memory in");
    screen.press("\u{1b}");
    agent
        .restart_after(|| {
            screen.shows("NOT HEARD");
            Ok(())
        })
        .unwrap();
    screen.shows("protects");
    screen.press("?");
    screen.shows("choose a worker");
    screen.press("q");
    screen.press("q");
    assert_eq!(screen.ended().code(), Some(0));
}

#[test]
fn it_ends_with_its_terminal() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let (mut child, mut master) = on_a_terminal(agent.command("top").unwrap());
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("protects") {
        let mut chunk = [0; 4096];
        let read = master.read(&mut chunk).unwrap();
        shown.extend(&chunk[..read]);
    }
    // Nobody else has this end: the terminal is gone.
    drop(master);
    let ended = wait_for("it to end", PATIENCE, || Ok(child.try_wait()?));
    if ended.is_err() {
        let _ = child.kill();
    }
    ended.unwrap();
}

#[test]
fn one_frame_needs_no_terminal_and_a_screen_does() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    let once = agent.command("top").unwrap().arg("--once").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(once.stdout).unwrap();
    assert!(
        once.status.success() && text.lines().count() == 24 && text.contains(&sandbox.domain()),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
    let without = agent.command("top").unwrap().stdin(Stdio::null()).output().unwrap();
    assert_eq!(without.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&without.stderr).contains("--once"));
}
