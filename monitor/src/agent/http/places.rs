//! How many connections there are at once. When all places are taken, a connection that has asked nothing yet gives way,
//! the oldest first: clients that open connections and send nothing keep no other client out.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections at once.
const MOST: usize = 32;

#[derive(Debug)]
struct Taken {
    number: u64,
    asked: Arc<AtomicBool>,
    leave: CancellationToken,
}

#[derive(Debug, Default)]
struct Room {
    next: u64,
    /// The oldest first.
    taken: VecDeque<Taken>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Room>>);

/// One connection's. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    asked: Arc<AtomicBool>,
    leave: CancellationToken,
    places: Places,
}

impl Places {
    /// A place for a new connection. `None`: all are taken by connections that are being answered.
    pub(super) fn take(&self) -> Option<Place> {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if room.taken.len() >= MOST {
            let silent = room.taken.iter().position(|taken| !taken.asked.load(Ordering::Relaxed))?;
            if let Some(taken) = room.taken.remove(silent) {
                taken.leave.cancel();
            }
        }
        let number = room.next;
        room.next += 1;
        let (asked, leave) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        room.taken.push_back(Taken { number, asked: Arc::clone(&asked), leave: leave.clone() });
        Some(Place { number, asked, leave, places: self.clone() })
    }
}

impl Place {
    /// It has sent its request, and is not sent away any more.
    pub(super) fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// `work`, unless the place is taken before that is done.
    pub(super) async fn until_taken<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.leave.run_until_cancelled(work).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut room = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        room.taken.retain(|taken| taken.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_asked_nothing_gives_way_the_oldest_first() {
        let places = Places::default();
        let mut all: Vec<Place> = (0..MOST).map(|_| places.take().unwrap()).collect();
        all[0].asked();
        let one_more = places.take().unwrap();
        assert!(!all[0].leave.is_cancelled() && all[1].leave.is_cancelled() && !all[2].leave.is_cancelled());
        all.iter().for_each(Place::asked);
        one_more.asked();
        assert!(places.take().is_none(), "no connection that is being answered is closed");
        drop(all.pop());
        assert!(places.take().is_some());
    }
}
