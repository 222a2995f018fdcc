//! Connections and calls of each user on the socket: which are admitted, and which connection is closed when all places
//! are taken. Pure: time comes in as an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::protocol::{Op, Refusal, RefusalCode};

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
    /// The same for the bytes of its long lines, at `long_lines_per_second`.
    read_until: Instant,
}

impl Account {
    /// Whether nothing is left to be paid.
    fn settled(&self, now: Instant) -> bool {
        self.paid_until <= now && self.read_until <= now
    }
}

/// An open connection.
#[derive(Debug)]
struct OpenConnection {
    uid: u32,
    /// This connection's part of the account's.
    unfinished: usize,
    /// Since when it has asked nothing.
    silent_since: Instant,
    /// It registered a worker or watches: it does not give way.
    keeps: bool,
    /// Canceled when it is to give way.
    leave: CancellationToken,
}

#[derive(Debug, Default)]
struct Books {
    /// By ticket number: in the order in which they came.
    open: BTreeMap<u64, OpenConnection>,
    accounts: HashMap<u32, Account>,
    last: u64,
}

impl Books {
    /// Takes a connection off. Nothing if it gave way before.
    fn close(&mut self, number: u64) {
        let Some(held) = self.open.remove(&number) else { return };
        if let Some(account) = self.accounts.get_mut(&held.uid) {
            account.connections = account.connections.saturating_sub(1);
            account.unfinished = account.unfinished.saturating_sub(held.unfinished);
        }
    }

    /// The most idle connection of the user with the most connections is closed, if that user has more than `mine` and
    /// more than `few`. False: there is none to close.
    fn make_room(&mut self, mine: usize, few: usize) -> bool {
        let connections = |uid: &u32| self.accounts.get(uid).map_or(0, |account| account.connections);
        let idle = self.open.iter().filter(|(_, held)| !held.keeps && held.uid != ROOT);
        let found = idle
            .map(|(number, held)| (Reverse(connections(&held.uid)), held.silent_since, *number))
            .filter(|(Reverse(theirs), ..)| *theirs > few.max(mine + 1))
            .min();
        let Some((.., number)) = found else { return false };
        if let Some(held) = self.open.get(&number) {
            held.leave.cancel();
        }
        self.close(number);
        true
    }
}

/// As how many calls more than one a call of a user counts, once it is read: by what it costs the agent's loop with thousands of workers, which it does
/// nothing else meanwhile. `explain` ranks them all.
pub(super) fn weight(op: &Op) -> u32 {
    match op {
        Op::Unregister { .. } | Op::SetIdle { .. } | Op::RayDetach { .. } | Op::GiveWay => 0,
        Op::Status | Op::Config | Op::Metrics | Op::Watch | Op::RayStatus => 1,
        // Looks for the process's descendants in all of /proc.
        Op::Register(_) | Op::Admit(_) | Op::Learned | Op::ForgetLearned { .. } => 4,
        Op::Workers | Op::Kills | Op::Report { .. } | Op::Why(_) | Op::Reload => 9,
        Op::Explain { .. } | Op::Samples { .. } => 49,
    }
}

/// Lets connections and calls in, or says why not.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    books: Mutex<Books>,
}

impl Admission {
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

    /// How many connections there may be in all for one more of a uid that has `mine`.
    fn open_to(&self, uid: u32, mine: usize) -> usize {
        let Limits { connections, reserved_for_root, reserved_for_newcomers, few, .. } = self.limits;
        let reserved = match uid {
            ROOT => 0,
            _ if mine < few => reserved_for_root,
            _ => reserved_for_root + reserved_for_newcomers,
        };
        connections.saturating_sub(reserved)
    }

    /// Counts a connection of `uid` in, until its ticket is dropped or it gives way.
    pub(super) fn enter(self: &Arc<Self>, uid: u32, now: Instant) -> Result<Ticket, Refusal> {
        let mut books = self.books();
        // An account without connections is kept until its calls are paid, or reconnecting would pay them.
        books.accounts.retain(|_, account| account.connections > 0 || !account.settled(now));
        let mine = books.accounts.get(&uid).map_or(0, |account| account.connections);
        if uid != ROOT && mine >= self.limits.connections_per_uid {
            return Err(busy(format!("uid {uid} has {mine} connections open, its limit")));
        }
        let rank = if uid == ROOT { 0 } else { mine };
        if books.open.len() >= self.open_to(uid, mine) && !books.make_room(rank, self.limits.few) {
            let all = books.open.len();
            return Err(busy(format!("the agent has {all} connections open, its limit for uid {uid}")));
        }
        let new = Account { connections: 0, unfinished: 0, paid_until: now, read_until: now };
        let account = books.accounts.entry(uid).or_insert(new);
        account.connections += 1;
        books.last += 1;
        let (number, leave) = (books.last, CancellationToken::new());
        let held =
            OpenConnection { uid, unfinished: 0, silent_since: now, keeps: false, leave: leave.clone() };
        books.open.insert(number, held);
        Ok(Ticket { admission: Arc::clone(self), uid, number, leave })
    }
}

fn busy(message: String) -> Refusal {
    Refusal { code: RefusalCode::Busy, field: None, message }
}

/// One connection in the books.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    uid: u32,
    number: u64,
    leave: CancellationToken,
}

impl Ticket {
    /// Books that this connection holds `bytes` of an unfinished line now.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Refusal> {
        let mut books = self.admission.books();
        let Books { open, accounts, .. } = &mut *books;
        let (Some(held), Some(account)) = (open.get_mut(&self.number), accounts.get_mut(&self.uid)) else {
            return Ok(());
        };
        account.unfinished = account.unfinished.saturating_sub(held.unfinished).saturating_add(bytes);
        held.unfinished = bytes;
        let limit = self.admission.limits.unfinished_per_uid;
        if account.unfinished > limit {
            return Err(busy(format!("uid {} has more than {limit} bytes of unfinished lines", self.uid)));
        }
        Ok(())
    }

    /// Books bytes of a long line that were read. How long to wait before anything is done with them, or more is read: no
    /// connection of the uid escapes that, nor does a new one.
    pub(super) fn read_of_a_long_line(&self, now: Instant, bytes: usize) -> Duration {
        let Limits { long_lines_per_second, long_lines_burst, line_timeout, .. } = self.admission.limits;
        let mut books = self.admission.books();
        let account = books.accounts.get_mut(&self.uid).filter(|_| self.uid != ROOT);
        let Some(account) = account else { return Duration::ZERO };
        let time = |bytes: u32| Duration::from_secs(1) * bytes / long_lines_per_second.max(1);
        let burst = time(long_lines_burst);
        let until = account.read_until.max(now) + time(u32::try_from(bytes).unwrap_or(u32::MAX));
        // Whoever sent far too much may begin again after a while.
        account.read_until = until.min(now + burst + line_timeout);
        account.read_until.saturating_duration_since(now).saturating_sub(burst)
    }

    /// Books a call. `Err`: too many; how long until the next is taken.
    pub(super) fn call(&self, now: Instant) -> Result<(), Duration> {
        self.book(now, 1)
    }

    /// Books what a call costs more than others (see [`weight`]); of root's nothing.
    pub(super) fn more(&self, now: Instant, weight: u32) -> Result<(), Duration> {
        if self.uid == ROOT { Ok(()) } else { self.book(now, weight) }
    }

    fn book(&self, now: Instant, weight: u32) -> Result<(), Duration> {
        let limits = &self.admission.limits;
        let one = Duration::from_secs(1) / limits.calls_per_second.max(1);
        // One that could never be paid would never be answered.
        let each = one * weight.min(limits.burst.max(2) - 1);
        let mut books = self.admission.books();
        if let Some(held) = books.open.get_mut(&self.number) {
            held.silent_since = now;
        }
        let Some(account) = books.accounts.get_mut(&self.uid) else { return Ok(()) };
        let paid_until = account.paid_until.max(now) + each;
        match paid_until.saturating_duration_since(now).checked_sub(one * limits.burst.max(1)) {
            Some(excess) if !excess.is_zero() => Err(excess),
            _ => {
                account.paid_until = paid_until;
                Ok(())
            }
        }
    }

    /// It may be silent from now on, and is not closed for others.
    pub(super) fn keep(&self) {
        if let Some(held) = self.admission.books().open.get_mut(&self.number) {
            held.keeps = true;
        }
    }

    /// Waits until it has to give way.
    pub(super) async fn told_to_leave(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.admission.books().close(self.number);
    }
}

#[cfg(test)]
mod tests;
