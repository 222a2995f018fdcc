//! The loop's one timer: a timerfd that is set to the very time of the next deadline, and only when that changes. The
//! runtime's own timers round to its wheel's slots and wake twice for a time that far ahead.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::agent::event_loop::readiness::{self, Shared};
use crate::units::Nanos;

/// See the module.
#[derive(Debug)]
pub(in crate::agent) struct Alarm {
    timer: Arc<OwnedFd>,
    readable: AsyncFd<Shared>,
    /// When it goes off; none: it did, or was never set.
    at: Option<Nanos>,
}

impl Alarm {
    /// One that is not set. Needs a tokio runtime.
    ///
    /// # Errors
    /// Out of memory or descriptors.
    pub(in crate::agent) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = Arc::new(timerfd_create(TimerfdClockId::Monotonic, flags)?);
        Ok(Self { readable: readiness::readable(Arc::clone(&timer))?, timer, at: None })
    }

    /// Goes off at this time instead of the one before; at once if that has passed.
    ///
    /// # Errors
    /// If the kernel refuses the time.
    pub(in crate::agent) fn set(&mut self, at: Nanos) -> io::Result<()> {
        if self.at == Some(at) {
            return Ok(());
        }
        // All zero would switch it off.
        let nanos = i64::try_from(at.0.max(1)).unwrap_or(i64::MAX);
        let it_value = Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        self.at = Some(at);
        Ok(())
    }

    /// Waits until it goes off. Now and then it does too early, for a time that was set before: look at the clock.
    pub(in crate::agent) async fn rings(&mut self) {
        match self.readable.readable().await {
            // Nothing is read: setting it anew takes the readiness off.
            Ok(mut guard) => guard.clear_ready(),
            // The runtime is being shut down.
            Err(_) => std::future::pending().await,
        }
        self.at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::event_loop::clock;

    /// Rings until this time is there.
    async fn wait(alarm: &mut Alarm, at: Nanos) {
        while clock::now() < at {
            alarm.rings().await;
        }
    }

    #[tokio::test]
    async fn it_rings_at_each_time_that_it_is_set_to_and_not_before() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..3 {
            let at = clock::now().after(Duration::from_millis(5));
            alarm.set(at).unwrap();
            alarm.rings().await;
            assert!(clock::now() >= at);
        }
    }

    #[tokio::test]
    async fn it_can_be_set_to_an_earlier_time_and_to_one_that_has_passed() {
        let mut alarm = Alarm::new().unwrap();
        alarm.set(clock::now().after(Duration::from_secs(1_000_000))).unwrap();
        let soon = clock::now().after(Duration::from_millis(5));
        alarm.set(soon).unwrap();
        wait(&mut alarm, soon).await;
        alarm.set(Nanos(0)).unwrap();
        alarm.rings().await;
        alarm.set(Nanos(1)).unwrap();
        alarm.rings().await;
    }
}
