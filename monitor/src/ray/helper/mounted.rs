//! What the helper knows of a mount namespace in which files of the agent's are in place.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::kill::Process;
use crate::ray::enter;
use crate::ray::feed::Kind;
use crate::ray::settings::Settings;
use crate::units::{Bytes, Pid};

/// A namespace in which files of ours are in place.
pub(super) struct Mounted {
    /// The raylets that read them.
    pub(super) raylets: Vec<Reader>,
    /// Those that were detached while others stayed: they see the files all the same.
    pub(super) left: Vec<Reader>,
    /// Whose they are.
    pub(super) user: u32,
    pub(super) id: u64,
    pub(super) namespace: OwnedFd,
    pub(super) root: OwnedFd,
    pub(super) files: Files,
    /// The kernel's own files of the usage and the statistics, as far as there are any.
    pub(super) real: Vec<OwnedFd>,
    pub(super) kind: Kind,
    pub(super) total: Bytes,
}

/// The files, open to write. Locked as long as this process lives.
pub(super) struct Files {
    pub(super) usage: OwnedFd,
    pub(super) stat: OwnedFd,
}

/// A raylet.
pub(super) struct Reader {
    pub(super) process: Process,
    /// Since when it runs.
    pub(super) start_time: u64,
    /// What its log and its environment said, and when they were read.
    pub(super) said: Option<(Settings, Instant)>,
}

impl Mounted {
    /// All raylets that were ever attached here, as far as they are known to live.
    pub(super) fn all(&self) -> impl Iterator<Item = &Reader> {
        self.raylets.iter().chain(&self.left)
    }

    /// What a raylet said lately.
    pub(super) fn said(&self, pid: Pid, start_time: u64, lately: Duration) -> Option<(Settings, Instant)> {
        let is_it = |one: &&Reader| (one.process.pid(), one.start_time) == (pid, start_time);
        let said = self.all().find(is_it)?.said;
        said.filter(|(_, at)| at.elapsed() < lately)
    }

    /// One more raylet reads the files, or the same one again.
    pub(super) fn add(&mut self, raylet: Reader) {
        let pid = raylet.process.pid();
        self.raylets.retain(|one| one.process.pid() != pid);
        self.left.retain(|one| one.process.pid() != pid && !one.process.ended());
        self.raylets.push(raylet);
    }

    /// A raylet is detached. True: no other is attached.
    pub(super) fn leave(&mut self, pid: Pid) -> bool {
        self.left.extend(self.raylets.extract_if(.., |one| one.process.pid() == pid));
        self.raylets.is_empty()
    }

    /// No raylet that was ever attached here is left.
    pub(super) fn has_no_raylet(&self) -> bool {
        self.all().all(|one| one.process.ended())
    }

    /// Makes the file say what the kernel's says. A file above the raylet's line would make it kill at each reading.
    pub(super) fn show_truth(&self) {
        if let Some(usage) = self.real.first() {
            // The kernel's file cannot be read if its cgroup is gone, and its raylets with it.
            let _ = enter::show_truth(self.kind, usage, self.real.get(1), &self.files.usage);
        }
    }

    #[cfg(test)]
    pub(super) fn of_test(id: u64, user: u32) -> Self {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        Self {
            raylets: Vec::new(),
            left: Vec::new(),
            user,
            id,
            namespace: file(),
            root: file(),
            files: Files { usage: file(), stat: file() },
            real: vec![file(), file()],
            kind: Kind::V1,
            total: Bytes(1 << 30),
        }
    }
}

/// One that waits until its files are taken away: that failed.
pub(super) struct Leaving {
    pub(super) mounted: Mounted,
    /// Of which kind, or `all`.
    pub(super) what: &'static str,
    /// When it is tried again.
    pub(super) next: Instant,
    /// It was said that it failed.
    pub(super) told: bool,
}
