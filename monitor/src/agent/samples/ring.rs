//! A bounded ring of samples: its memory is taken once, and what is older than the newest that fit, or than the age that is
//! kept, goes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::Nanos;

/// Something that was seen at a time.
pub(super) trait Timed {
    fn at(&self) -> Nanos;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ring<T> {
    all: VecDeque<T>,
    most: usize,
    age: Duration,
}

impl<T: Timed> Ring<T> {
    /// As many as fit into so many bytes, not older than `age`.
    pub(super) fn new(bytes: usize, age: Duration) -> Self {
        let most = bytes / size_of::<T>();
        Self { all: VecDeque::with_capacity(most), most, age }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Takes no memory.
    pub(super) fn push(&mut self, sample: T) {
        let now = sample.at();
        while self.all.front().is_some_and(|oldest| now.since(oldest.at()) > self.age) {
            self.all.pop_front();
        }
        if self.all.len() == self.most {
            self.all.pop_front();
        }
        self.all.push_back(sample);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter()
    }

    /// Those from one time to another. They are in order of time, but for some that were measured a little earlier.
    pub(super) fn between(&self, from: Nanos, to: Nanos) -> impl Iterator<Item = &T> {
        self.all.iter().filter(move |sample| (from..=to).contains(&sample.at()))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<T>()
    }
}
