//! What is shown of a raylet.

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Pid};

/// A raylet in the answer of `ray_status`. Null: not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RayletView {
    /// Its process.
    pub pid: Pid,
    /// Its user.
    pub uid: u32,
    /// Its node's id in Ray's cluster.
    pub node: Option<String>,
    /// Ray's session.
    pub session: Option<String>,
    /// Its monitor reads files of the agent's.
    pub attached: bool,
    /// Why it does not.
    pub why: Option<String>,
    /// What it reads: `v1` or `v2` (a cgroup's files), or `meminfo`.
    pub reads: Option<String>,
    /// It reads this often; 0: never.
    pub refresh_ms: Option<u64>,
    /// It kills above this.
    pub threshold: Option<Bytes>,
    /// What it takes for all its memory.
    pub total: Option<Bytes>,
    /// Whether it says that it kills by group of owner, one worker at a time.
    pub by_group: Option<bool>,
    /// The first of the raylets that are asked together with it: raylets of one mount namespace see the same files.
    pub asked_as: Option<Pid>,
    /// How long ago it last read our files.
    pub last_receipt_ms: Option<u64>,
    /// How long ago it was last asked to kill.
    pub last_pulse_ms: Option<u64>,
    /// How often it was asked.
    pub pulses: u64,
    /// How often it acknowledged that.
    pub receipts: u64,
}
