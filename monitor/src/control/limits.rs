//! What the socket grants its peers, and the books that hold them to it: connections and calls per uid.
//! Pure: time comes in as an argument.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::protocol::{Refusal, RefusalCode};

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
    /// Open connections of one uid; root is bound by `connections` alone. Default 1024.
    pub connections_per_uid: usize,
    /// Calls a second of one uid, malformed lines included. Default 1000.
    pub calls_per_second: u32,
    /// How many calls a uid that was quiet may make at once. Default 2000.
    pub burst: u32,
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
            connections_per_uid: 1024,
            calls_per_second: 1000,
            burst: 2000,
            unfinished_per_uid: 4 << 20,
            line_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(5),
            pushes: 256,
        }
    }
}

/// The root user, who is not bound by the limits per uid.
const ROOT: u32 = 0;

/// What one uid has taken.
#[derive(Debug)]
struct Account {
    connections: usize,
    /// Bytes of unfinished lines.
    unfinished: usize,
    /// When all its calls so far would be through at `calls_per_second`: the generic cell rate algorithm.
    paid_until: Instant,
}

#[derive(Debug, Default)]
struct Books {
    connections: usize,
    accounts: HashMap<u32, Account>,
}

/// Lets connections and calls in, or says why not.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    books: Mutex<Books>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, books: Mutex::default() })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Every change is complete before the lock is let go: a poisoned lock guards sound books.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection of `uid` in, until its ticket is dropped.
    pub(super) fn enter(self: &Arc<Self>, uid: u32, now: Instant) -> Result<Ticket, Refusal> {
        let mut books = self.books();
        let limits = &self.limits;
        let open_to_it = if uid == ROOT {
            limits.connections
        } else {
            limits.connections.saturating_sub(limits.reserved_for_root)
        };
        if books.connections >= open_to_it {
            return Err(busy(format!("the agent has {} connections open, its limit", books.connections)));
        }
        // An account without connections is kept until its calls are paid, or reconnecting would pay them.
        books.accounts.retain(|_, account| account.connections > 0 || account.paid_until > now);
        let account =
            books.accounts.entry(uid).or_insert(Account { connections: 0, unfinished: 0, paid_until: now });
        if uid != ROOT && account.connections >= limits.connections_per_uid {
            return Err(busy(format!("uid {uid} has {} connections open, its limit", account.connections)));
        }
        account.connections += 1;
        books.connections += 1;
        Ok(Ticket { gate: Arc::clone(self), uid, unfinished: 0 })
    }
}

fn busy(message: String) -> Refusal {
    Refusal { code: RefusalCode::Busy, field: None, message }
}

/// One connection in the books.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Arc<Gate>,
    uid: u32,
    /// This connection's part of the account's.
    unfinished: usize,
}

impl Ticket {
    /// Books that this connection holds `bytes` of an unfinished line now.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes == self.unfinished {
            return Ok(());
        }
        let mut books = self.gate.books();
        let Some(account) = books.accounts.get_mut(&self.uid) else { return Ok(()) };
        account.unfinished = account.unfinished.saturating_sub(self.unfinished).saturating_add(bytes);
        self.unfinished = bytes;
        let limit = self.gate.limits.unfinished_per_uid;
        if account.unfinished > limit {
            return Err(busy(format!("uid {} has more than {limit} bytes of unfinished lines", self.uid)));
        }
        Ok(())
    }

    /// Books a call. `Err`: too many; how long until the next one is taken.
    pub(super) fn call(&self, now: Instant) -> Result<(), Duration> {
        let limits = &self.gate.limits;
        let each = Duration::from_secs(1) / limits.calls_per_second.max(1);
        let mut books = self.gate.books();
        let Some(account) = books.accounts.get_mut(&self.uid) else { return Ok(()) };
        let paid_until = account.paid_until.max(now) + each;
        match paid_until.saturating_duration_since(now).checked_sub(each * limits.burst.max(1)) {
            Some(excess) if !excess.is_zero() => Err(excess),
            _ => {
                account.paid_until = paid_until;
                Ok(())
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut books = self.gate.books();
        books.connections = books.connections.saturating_sub(1);
        if let Some(account) = books.accounts.get_mut(&self.uid) {
            account.connections = account.connections.saturating_sub(1);
            account.unfinished = account.unfinished.saturating_sub(self.unfinished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limits: Limits) -> Arc<Gate> {
        Gate::new(limits)
    }

    #[test]
    fn a_uid_gets_its_share_of_connections_and_gets_it_back() {
        let (gate, now) = (gate(Limits { connections_per_uid: 2, ..Limits::default() }), Instant::now());
        let first = gate.enter(7, now).unwrap();
        let _second = gate.enter(7, now).unwrap();
        let refusal = gate.enter(7, now).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Busy);
        assert!(refusal.message.contains("uid 7 has 2 connections"), "{refusal}");
        let _other = gate.enter(8, now).unwrap();
        drop(first);
        gate.enter(7, now).unwrap();
    }

    #[test]
    fn users_cannot_lock_root_out() {
        let limits =
            Limits { connections: 3, reserved_for_root: 1, connections_per_uid: 9, ..Limits::default() };
        let (gate, now) = (gate(limits), Instant::now());
        let _users = [gate.enter(7, now).unwrap(), gate.enter(8, now).unwrap()];
        assert!(gate.enter(9, now).is_err());
        let _root = gate.enter(0, now).unwrap();
        assert!(gate.enter(0, now).is_err());
    }

    #[test]
    fn calls_are_bounded_by_burst_and_rate_of_the_uid_not_of_the_connection() {
        let (gate, now) =
            (gate(Limits { calls_per_second: 10, burst: 3, ..Limits::default() }), Instant::now());
        let one = gate.enter(7, now).unwrap();
        let taken = (0..5).filter(|_| one.call(now).is_ok()).count();
        assert_eq!(taken, 3);
        drop(one);
        let again = gate.enter(7, now).unwrap();
        let wait = again.call(now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(again.call(now + wait).is_ok());
        assert!(gate.enter(8, now).unwrap().call(now).is_ok());
    }

    #[test]
    fn accounts_of_uids_that_left_are_forgotten() {
        let (gate, now) = (gate(Limits::default()), Instant::now());
        for uid in 1..100 {
            drop(gate.enter(uid, now).unwrap());
        }
        let _last = gate.enter(1000, now).unwrap();
        assert_eq!(gate.books().accounts.len(), 1);
    }
}
