//! What is known of a process, as plain facts, and what of them no rule may override.

use alloc::sync::Arc;
use core::cell::OnceCell;
use core::fmt;

use serde::Serialize;

use super::Rules;
use super::pattern::{Hits, PatternKey};
use super::place::Place;
use crate::units::{Bytes, Pid};

/// Why a process is never a worker, whatever the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Never {
    /// Process 1.
    Init,
    /// It has no memory of its own.
    KernelThread,
    /// The agent, a process that serves it, or one of their ancestors.
    Agent,
    /// Root excluded it from the kernel's own killer: `oom_score_adj` is -998 or lower, or the kubelet's for pods that
    /// the node needs.
    OomScore,
    /// Its users differ, as those of a set-user-id program do (su, sudo), and one of them is root or a service's: it acts
    /// for another user.
    SetUserId,
}

impl Never {
    /// The name under which it is listed.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Init => "system:init",
            Self::KernelThread => "system:kernel-thread",
            Self::Agent => "system:agent",
            Self::OomScore => "system:oom-score-adj",
            Self::SetUserId => "system:set-user-id",
        }
    }

    /// Whether a cgroup that holds such a process is spared. Anybody can start a set-user-id program and let it wait: it lives
    /// on, and nothing else with it.
    #[must_use]
    pub fn spares_its_cgroup(self) -> bool {
        match self {
            Self::Init | Self::Agent | Self::OomScore => true,
            // A kernel thread has no memory, and is in the root only.
            Self::KernelThread | Self::SetUserId => false,
        }
    }
}

/// On whose behalf a process runs, by its real user: the user who started it, whatever program it executes. An ordinary
/// user can make a program do anything (`LD_PRELOAD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whose {
    /// Root, the user of a service, or the user who runs the monitor.
    System,
    /// An ordinary user, but a process of root's or a service's forked it and it executed nothing since: what sshd leaves in
    /// a session.
    ForkedBySystem,
    /// An ordinary user, or it is not known.
    User,
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Init => "it is process 1",
            Self::KernelThread => "it is a kernel thread",
            Self::Agent => "it is the agent, serves it, or is one of its ancestors",
            Self::OomScore => "its oom_score_adj is that of what the system needs",
            Self::SetUserId => "its users differ (set-user-id program)",
        })
    }
}

/// What is known of one process. What is not known matches nothing.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// The process.
    pub pid: Pid,
    /// Its parent.
    pub parent: Option<Pid>,
    /// The kernel's name of it, which it can change.
    pub comm: &'f [u8],
    /// Its command line, arguments separated by one space, which it can change.
    pub title: &'f [u8],
    /// The path of its executable.
    pub exe: Option<&'f [u8]>,
    /// Whether the executable is the very file that this path names on the agent's own file system, and only root can
    /// change what the path names. Without it `exe` protects nothing.
    pub exe_trusted: bool,
    /// Its real user.
    pub uid: Option<u32>,
    /// On whose behalf it runs.
    pub whose: Whose,
    /// The name of that user.
    pub user: Option<&'f str>,
    /// What it holds.
    pub memory: Option<Bytes>,
    /// The name of the Kubernetes pod whose cgroup it is in.
    pub pod: Option<&'f str>,
    /// Why it is never a worker.
    pub never: Option<Never>,
    /// The rule that had it before, while it ran the same program: what it can change itself does not take it away from that
    /// rule (`Rules::judge`).
    pub kept: Option<&'f str>,
}

impl Facts<'static> {
    /// A process of which nothing is known.
    #[must_use]
    pub fn of(pid: Pid) -> Self {
        Self {
            pid,
            parent: None,
            comm: b"",
            title: b"",
            exe: None,
            exe_trusted: false,
            uid: None,
            whose: Whose::User,
            user: None,
            memory: None,
            pod: None,
            never: None,
            kept: None,
        }
    }
}

/// A process, and which patterns it matches, as far as that was looked up.
#[derive(Debug)]
pub struct Profile<'f> {
    pub(super) facts: Facts<'f>,
    pub(super) place: Arc<Place>,
    hits: [OnceCell<Hits>; PatternKey::ALL.len()],
}

impl<'f> Profile<'f> {
    /// The process with these facts, in this place.
    #[must_use]
    pub fn new(facts: Facts<'f>, place: Arc<Place>) -> Self {
        Self { facts, place, hits: Default::default() }
    }

    /// Its facts.
    #[must_use]
    pub fn facts(&self) -> &Facts<'f> {
        &self.facts
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What the patterns of `key` are held against; of a cgroup the whole path.
    pub(super) fn text(&self, key: PatternKey) -> Option<&[u8]> {
        match key {
            PatternKey::Cgroup => Some(self.place.path()),
            PatternKey::Comm => Some(self.facts.comm),
            PatternKey::Title => Some(self.facts.title),
            PatternKey::Exe => self.facts.exe,
        }
    }

    /// The first of these patterns that its name, title or executable matches.
    pub(super) fn hit(
        &self,
        rules: &Rules,
        key: PatternKey,
        patterns: &core::ops::Range<usize>,
    ) -> Option<usize> {
        let text = self.text(key)?;
        let hits = self.hits[key as usize].get_or_init(|| rules.set(key).hits(text));
        hits.first(patterns.clone())
    }
}
