//! System calls of a program that a test answers in the kernel's place (seccomp_unotify(2)): they fail, say something
//! else, or take their time, from when the test says so until it says otherwise. The program knows nothing of it. Owns
//! the filter and its supervisor; what is answered the test decides.

mod listener;

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use rustix::io::Errno;

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// `SYS_...`
    pub number: i64,
    /// As the program gave them.
    pub args: [u64; 6],
    /// The thread that calls.
    thread: u32,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The kernel's own business.
    Pass,
    /// It fails, and nothing is done.
    Fail(Errno),
    /// It does not return, and nothing is done, until [`Calls::let_go`]. Otherwise only a signal ends it.
    Hang,
    /// A `read` or `pread64` finds this text in the file.
    Text(Vec<u8>),
}

impl Call {
    /// The thread that calls, as the test's pid namespace has it.
    #[must_use]
    pub fn by(&self) -> u32 {
        self.thread
    }

    /// What the descriptor in an argument is open on, as /proc has it: a path, or e.g. `anon_inode:[pidfd]`.
    #[must_use]
    pub fn file(&self, arg: usize) -> PathBuf {
        let link = format!("/proc/{}/fd/{}", self.thread, self.args[arg]);
        std::fs::read_link(link).unwrap_or_default()
    }

    /// The first number in what an argument points to: of bpf(2)'s attributes e.g. the program's type.
    #[must_use]
    pub fn first_word(&self, arg: usize) -> Option<u32> {
        let mut word = [0; 4];
        let memory = File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        memory.read_exact_at(&mut word, self.args[arg]).ok()?;
        Some(u32::from_ne_bytes(word))
    }

    /// Whether it reads (or syncs, or writes) a file of this name.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.file(0).file_name().is_some_and(|found| found == name)
    }
}

type Rule = Box<dyn FnMut(&Call) -> Answer + Send>;

struct Shared {
    rule: Mutex<Rule>,
    changed: AtomicU64,
    /// The ids of those that hang.
    hanging: Mutex<Vec<u64>>,
    /// Where answers go, once there is a program.
    listener: OnceLock<OwnedFd>,
}

/// The calls of one program. Until told otherwise all of them pass.
pub struct Calls(Arc<Shared>);

impl Calls {
    /// Has these calls (`SYS_...`) of what `command` starts answered here, and those of its children.
    ///
    /// # Errors
    /// No socket for the filter's descriptor.
    pub fn of(command: &mut Command, numbers: &[i64]) -> Result<Self> {
        let shared = Arc::new(Shared {
            rule: Mutex::new(Box::new(|_| Answer::Pass)),
            changed: AtomicU64::new(0),
            hanging: Mutex::new(Vec::new()),
            listener: OnceLock::new(),
        });
        let (mine, theirs) = listener::pair().context("a socket pair")?;
        let filter = listener::filter(numbers);
        // SAFETY: between fork and exec only seccomp(2) and sendmsg(2) are called, on memory and descriptors made
        // before: async-signal-safe, no allocation, no lock.
        unsafe {
            command.pre_exec(move || listener::install(&filter, &theirs));
        }
        let supervised = Arc::clone(&shared);
        std::thread::spawn(move || {
            // None: the command was dropped without being started.
            if let Some(listener) = listener::receive(&mine) {
                drop(mine);
                supervise(supervised.listener.get_or_init(|| listener), &supervised);
            }
        });
        Ok(Self(shared))
    }

    /// From now on calls are answered by this. It may take its time: until then the program waits.
    pub fn answer(&self, rule: impl FnMut(&Call) -> Answer + Send + 'static) {
        *self.0.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// From now on all pass.
    pub fn pass(&self) {
        self.answer(|_| Answer::Pass);
    }

    /// All calls that hang are the kernel's own business after all.
    pub fn let_go(&self) {
        let hanging = std::mem::take(&mut *self.0.hanging.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(listener) = self.0.listener.get() else { return };
        for id in hanging {
            listener::reply(listener, id, listener::Reply::Continue);
        }
    }

    /// How many did not pass up to now.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.0.changed.load(Ordering::Relaxed)
    }
}

/// Until the last process with the filter is gone.
fn supervise(listener: &OwnedFd, shared: &Shared) {
    let mut given = HashSet::new();
    while let Some((id, call)) = listener::next(listener) {
        let answer = (shared.rule.lock().unwrap_or_else(PoisonError::into_inner))(&call);
        if answer != Answer::Pass {
            shared.changed.fetch_add(1, Ordering::Relaxed);
        }
        let reply = match answer {
            Answer::Pass => listener::Reply::Continue,
            Answer::Hang => {
                shared.hanging.lock().unwrap_or_else(PoisonError::into_inner).push(id);
                continue;
            }
            Answer::Fail(errno) => listener::Reply::Fail(errno),
            Answer::Text(text) => match give(&call, &text, &mut given) {
                Ok(count) => listener::Reply::Value(count),
                Err(_) => listener::Reply::Fail(Errno::FAULT),
            },
        };
        listener::reply(listener, id, reply);
    }
}

/// Puts a text where the program wants what it reads. `read` has no offset: the second finds the end of the file.
fn give(call: &Call, text: &[u8], given: &mut HashSet<u64>) -> Result<i64> {
    let at = match call.number {
        libc::SYS_pread64 => usize::try_from(call.args[3])?,
        _ if given.remove(&call.args[0]) => text.len(),
        _ => {
            given.insert(call.args[0]);
            0
        }
    };
    let rest = text.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(usize::try_from(call.args[2])?)];
    let memory = File::options().write(true).open(format!("/proc/{}/mem", call.thread))?;
    memory.write_all_at(rest, call.args[1])?;
    Ok(i64::try_from(rest.len())?)
}
