//! What the agent prints, as docs/behavior.md#interfaces fixes it. Own types: a renamed key must fail here. Unknown
//! keys are ignored.

use serde::Deserialize;

/// A kill of `monitor kills --json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Kill {
    /// Its number.
    pub id: u64,
    /// The domain's name.
    pub domain: String,
    /// Whom.
    pub victims: Vec<Victim>,
    /// Bytes at the decision.
    pub used: u64,
    /// Bytes.
    pub threshold: u64,
    /// Its stages.
    pub times: Times,
    /// Every victim's death was seen.
    pub confirmed: bool,
    /// What made the agent look: `crossing`, `delta`, `tick` or `after_kill`.
    pub trigger: String,
}

/// A victim of a kill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Victim {
    /// The worker's id, as `w17`.
    pub worker: String,
    /// Its first process.
    pub pid: u32,
    /// Whether its launcher may start it again.
    pub should_retry: bool,
    /// Bytes, if measured.
    pub memory: Option<u64>,
}

/// When a kill came to its stages, in nanoseconds of the monotonic clock; `None`: not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Times {
    /// The record that crossed, or the reading that found it above.
    pub crossing: Option<u64>,
    /// Victims chosen.
    pub decision: Option<u64>,
    /// First signal sent.
    pub signal: Option<u64>,
    /// Last process dead.
    pub dead: Option<u64>,
    /// Memory given back.
    pub memory_back: Option<u64>,
}

/// A worker of `monitor workers --json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Worker {
    /// Its id, as `w17`.
    pub id: String,
    /// `task` or `actor`.
    pub kind: String,
    /// The caller that created it.
    pub owner: Option<String>,
    /// What its launcher called it.
    pub name: Option<String>,
    /// Its first process.
    pub pid: u32,
    /// All its processes that live.
    #[serde(default)]
    pub processes: Vec<u32>,
    /// `running`, `being_killed` or `stuck`.
    pub state: String,
}

/// Something that happened: a note of `watch`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A process became a worker.
    Registered {
        /// When, in nanoseconds.
        at: u64,
        /// Its id.
        worker: String,
        /// Its first process.
        pid: u32,
        /// What its launcher called it.
        name: Option<String>,
    },
    /// A worker ended, not by a kill of the agent's.
    Ended {
        /// When, in nanoseconds.
        at: u64,
        /// Which.
        worker: String,
    },
    /// A domain went above its threshold.
    Above {
        /// When, in nanoseconds.
        at: u64,
        /// Its name.
        domain: String,
        /// Bytes.
        used: u64,
        /// Bytes.
        threshold: u64,
        /// What made the agent look.
        trigger: String,
    },
    /// It is back.
    Below {
        /// When, in nanoseconds.
        at: u64,
        /// Its name.
        domain: String,
        /// Bytes.
        used: u64,
    },
    /// Victims were chosen.
    Decided {
        /// When, in nanoseconds.
        at: u64,
        /// The kill's number.
        kill: u64,
        /// Whom.
        victims: Vec<Chosen>,
    },
    /// A kill is over.
    Killed(Kill),
    /// A victim does not die.
    Stuck {
        /// When, in nanoseconds.
        at: u64,
        /// Which.
        worker: String,
    },
    /// Above, and nobody to kill.
    NoCandidates {
        /// When, in nanoseconds.
        at: u64,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// A victim when it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Chosen {
    /// Whom.
    pub worker: String,
    /// What its launcher called it.
    pub name: Option<String>,
    /// Whether its launcher may start it again.
    pub should_retry: bool,
    /// The policy's reason.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_and_unknown_ones_passed_over() {
        let above = r#"{"note":"above","at":5,"domain":"cgroup:/x","used":9,"threshold":8,"total":10,"trigger":"tick"}"#;
        let note: Note = serde_json::from_str(above).unwrap();
        assert!(matches!(note, Note::Above { at: 5, used: 9, .. }), "{note:?}");
        let other: Note = serde_json::from_str(r#"{"note":"weather","at":5}"#).unwrap();
        assert_eq!(other, Note::Other);
        let killed = r#"{"note":"killed","id":1,"domain":"d","victims":[{"worker":"w1","pid":7,"should_retry":true,
            "memory":null}],"used":9,"threshold":8,"times":{"crossing":1,"decision":2,"signal":3,"dead":null,
            "memory_back":null},"confirmed":false,"trigger":"tick"}"#;
        let note: Note = serde_json::from_str(killed).unwrap();
        assert!(matches!(note, Note::Killed(Kill { id: 1, confirmed: false, .. })), "{note:?}");
        assert!(serde_json::from_str::<Note>(r#"{"note":"above","at":5}"#).is_err());
    }
}
