//! What the helper answers, and what it means for a raylet: attached and to be proven, refused, or detached.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::known::State;
use super::{AGAIN, Thread};
use crate::ray::attached::{Attached, Handed, Reader};
use crate::ray::feed::Kind;
use crate::ray::settings::Settings;
use crate::ray::wire::{Answer, Request};
use crate::units::Nanos;

/// A raylet that was found so lately may not have written its log yet.
const YOUNG: Duration = Duration::from_secs(15);

impl Thread {
    pub(super) fn answered(&mut self, answer: Answer, fds: Vec<OwnedFd>, now: Nanos) {
        match answer {
            Answer::Attached { pid, kind, settings, namespace } => {
                let Some(known) = self.known.get(&pid) else {
                    // It is gone, and was forgotten.
                    return self.request(&Request::Detach { pid }, now);
                };
                let raylet = known.raylet.clone();
                if let Some((why, wait)) = unfit(known.found, settings, now) {
                    self.request(&Request::Detach { pid }, now);
                    if let Some(known) = self.known.get_mut(&pid) {
                        known.retry(now, wait, why);
                    }
                    return;
                }
                // A detach by hand came meanwhile, or it has taken too long.
                if !matches!(known.state, State::Asked { .. }) {
                    return self.request(&Request::Detach { pid }, now);
                }
                self.take(Reader::new(raylet, settings, now), kind, namespace, fds, now);
            }
            Answer::Refused { pid, why } => {
                if let Some(known) = self.known.get_mut(&pid) {
                    if known.is_news(&why) {
                        tracing::warn!(raylet = %pid, %why, "a raylet is not attached");
                    }
                    known.retry(now, Duration::from_secs(10), &why);
                }
            }
            Answer::Detached { pid } => {
                self.forget_reader(pid);
                if let Some(known) = self.known.get_mut(&pid)
                    && !matches!(known.state, State::Not { .. })
                {
                    known.retry(now, AGAIN, "its files were taken away");
                }
            }
        }
    }

    fn take(&mut self, reader: Reader, kind: Kind, namespace: u64, fds: Vec<OwnedFd>, now: Nanos) {
        let raylet = reader.raylet.pid;
        if let Some(known) = self.known.get_mut(&raylet) {
            known.settings = Some(reader.settings);
            known.state = State::Proving;
        }
        if let Some(attached) = self.attached.get_mut(&namespace) {
            attached.readers.retain(|other| other.raylet.pid != raylet);
            if attached.proven {
                (self.tell)(attached.news_of(&reader));
                self.known.entry(raylet).and_modify(|known| known.state = State::Attached);
            }
            attached.readers.push(reader);
            return;
        }
        let mut fds = fds.into_iter();
        let (Some(usage), Some(readers), Some(real_usage)) = (fds.next(), fds.next(), fds.next()) else {
            // It joined others, which have been given up meanwhile: then nobody feeds what it reads.
            self.request(&Request::Detach { pid: raylet }, now);
            if let Some(known) = self.known.get_mut(&raylet) {
                known.retry(now, AGAIN, "the raylet beside it was just detached");
            }
            return;
        };
        let files = Handed { kind, usage, readers, real_usage, real_stat: fds.next() };
        let attached = Attached::new(files, reader, now);
        let _ = attached.refresh();
        self.attached.insert(namespace, attached);
    }
}

/// Why a raylet is not attached although it could be, and when to try again.
fn unfit(found: Nanos, settings: Settings, now: Nanos) -> Option<(&'static str, Duration)> {
    if settings.refresh_ms == 0 {
        let why = "its own monitor is off (memory_monitor_refresh_ms is 0), so it reads nothing";
        return Some((why, Duration::from_secs(60)));
    }
    (!settings.from_log && now.since(found) < YOUNG).then_some(("it is starting", Duration::from_millis(200)))
}
