//! A client of the control socket, as any user: registers processes that `monitor run` did not start. Blocking,
//! own code, so that the wire format itself is tested.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::clock::{PATIENCE, scaled};

/// A connection.
#[derive(Debug)]
pub struct Caller {
    lines: BufReader<UnixStream>,
    /// That came between answers.
    pushes: VecDeque<Value>,
    seq: u64,
}

impl Caller {
    /// Connects as root.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(scaled(PATIENCE)))?;
        Ok(Self { lines: BufReader::new(stream), pushes: VecDeque::new(), seq: 0 })
    }

    /// Connects as another user: the kernel records the uid. The way to the socket is opened to that user.
    ///
    /// # Errors
    /// Nobody listens, or this process may not become that user.
    pub fn connect_as(socket: &Path, uid: u32) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = socket.parent().context("a socket without a directory")?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
        let socket = socket.to_path_buf();
        let connecting = std::thread::spawn(move || {
            // SAFETY: takes numbers only. The raw call changes this thread alone, which ends after connecting.
            let status = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
            if status != 0 {
                return Err(std::io::Error::last_os_error()).context("becoming another user");
            }
            Self::connect(&socket)
        });
        connecting.join().map_err(|_| anyhow::anyhow!("the connecting thread panicked"))?
    }

    /// Registers a process as a task without limit of retries. The worker's id, as `w3`.
    ///
    /// # Errors
    /// It is gone, or the agent refuses: then with its code and message.
    pub fn register(&mut self, pid: u32, name: &str) -> Result<String> {
        self.register_with(pid, start_time(pid)?, name)
    }

    /// The same for a caller of this name.
    ///
    /// # Errors
    /// As [`Caller::register`].
    pub fn register_of(&mut self, pid: u32, name: &str, owner: &str) -> Result<String> {
        self.register_worker(pid, start_time(pid)?, name, Some(owner))
    }

    /// The same with a start time that may be wrong.
    ///
    /// # Errors
    /// As [`Caller::register`].
    pub fn register_with(&mut self, pid: u32, start_time: u64, name: &str) -> Result<String> {
        self.register_worker(pid, start_time, name, None)
    }

    fn register_worker(&mut self, pid: u32, start: u64, name: &str, owner: Option<&str>) -> Result<String> {
        let answer = self.call(&json!({"register": {"pid": pid, "start_time": start, "kind": "task",
            "max_retries": -1, "name": name, "owner": owner}}))?;
        answer["worker"].as_str().map(str::to_owned).with_context(|| format!("no worker in {answer}"))
    }

    /// The next push of this kind, as `verdict`; others are passed over.
    ///
    /// # Errors
    /// None comes, or the agent is gone.
    pub fn push(&mut self, kind: &str) -> Result<Value> {
        loop {
            let push = match self.pushes.pop_front() {
                Some(push) => push,
                None => self.line()?,
            };
            if push["push"] == kind {
                return Ok(push);
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("the agent closed the connection");
        }
        serde_json::from_str(&line).with_context(|| line.clone())
    }

    /// Sends a call; its answer.
    ///
    /// # Errors
    /// The agent refuses or is gone.
    pub fn call(&mut self, op: &Value) -> Result<Value> {
        self.seq += 1;
        let line = format!("{}\n", json!({"v": 1, "seq": self.seq, "op": op}));
        self.lines.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut answer = self.line()?;
            if answer.get("push").is_some() {
                self.pushes.push_back(answer);
                continue;
            }
            match answer.get("error") {
                Some(error) => bail!("{}: {}", error["code"], error["message"]),
                None => return Ok(answer["ok"].take()),
            }
        }
    }

    /// The same beside so many calls of this user that the agent may refuse it for that: then it tries again.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub fn insist(&mut self, op: &Value) -> Result<Value> {
        loop {
            match self.call(op) {
                Err(error) if error.to_string().contains("busy") => thread::sleep(Duration::from_millis(5)),
                answer => return answer,
            }
        }
    }
}

/// Field 22 of proc_pid_stat(5).
///
/// # Errors
/// There is no such process.
pub fn start_time(pid: u32) -> Result<u64> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let after = stat.rsplit_once(')').context("a strange stat file")?.1;
    after.split_ascii_whitespace().nth(19).context("no start time")?.parse().context("start time")
}
