//! What the socket grants its peers: numbers only. `admission` holds them to it.

use std::time::Duration;

/// The bounds of the socket. The defaults fit a node with thousands of workers.
///
/// What peers can make the agent hold: for each connection 16 KiB and `pushes`, for each uid `unfinished_per_uid`,
/// and one call for each connection that is being answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections in all. Default 4096. Each holds a file descriptor of the agent.
    pub connections: usize,
    /// How many of them only root gets, so that users cannot lock it out. Default 64.
    pub reserved_for_root: usize,
    /// How many of them only those uids get that have fewer than `few`, and root: whoever has many leaves room for
    /// those who have none. Default 512.
    pub reserved_for_newcomers: usize,
    /// See `reserved_for_newcomers`. Default 8.
    pub few: usize,
    /// Open connections of one uid; root is bound by `connections` alone. Default 1024.
    pub connections_per_uid: usize,
    /// Calls a second of one uid, malformed lines included; of users costly ones count for more (`admission`). Default 1000.
    pub calls_per_second: u32,
    /// How many calls a uid that was quiet may make at once. Default 2000.
    pub burst: u32,
    /// Bytes a second of long lines of one uid, in all its connections; root is not bound. Default 128 KiB: a client's lines
    /// are short, and what is longer costs the agent's loop the most. More than that is read later.
    pub long_lines_per_second: u32,
    /// How many of these bytes a uid that was quiet may send at once. Default 64 KiB.
    pub long_lines_burst: u32,
    /// Bytes of lines without their newline yet, in all connections of one uid, root too. Default 4 MiB.
    pub unfinished_per_uid: usize,
    /// How long a line may take from its first byte to its newline. Default 5 s.
    pub line_timeout: Duration,
    /// How long a connection that neither registered a worker nor watches may be silent. Default 60 s.
    pub idle_timeout: Duration,
    /// How long the agent may take to answer a call. Default 10 s.
    pub answer_timeout: Duration,
    /// How long a peer may take to read a line that it is sent. Default 5 s.
    pub write_timeout: Duration,
    /// Pushes that wait for one connection; the agent drops and counts what does not fit. Default 256.
    pub pushes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            reserved_for_root: 64,
            reserved_for_newcomers: 512,
            few: 8,
            connections_per_uid: 1024,
            calls_per_second: 1000,
            burst: 2000,
            long_lines_per_second: 128 << 10,
            long_lines_burst: 64 << 10,
            unfinished_per_uid: 4 << 20,
            line_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(5),
            pushes: 256,
        }
    }
}

impl Limits {
    /// The same in proportion for fewer connections.
    #[must_use]
    pub fn of(connections: usize) -> Self {
        let all = Self::default();
        let share = |of: usize| (of * connections / all.connections).max(1);
        Self {
            connections,
            reserved_for_root: share(all.reserved_for_root),
            reserved_for_newcomers: share(all.reserved_for_newcomers),
            connections_per_uid: share(all.connections_per_uid),
            ..all
        }
    }
}
