//! A line that is said again and again is left out after some, and counted. Not notes: those are bounded by their kind
//! (`agent/shell/notes`), because all of them come from one place in the code.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::NOTE;
use super::often::{Line, Often};

/// See the module. A line is known by its place in the code.
#[derive(Default)]
pub(super) struct Repeats(Mutex<Often<Identifier>>);

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Who asks for more than the default wants all of it.
        if metadata.target() == NOTE || *metadata.level() > Level::INFO {
            return true;
        }
        // Every change is complete before the lock is let go.
        let line =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).line(metadata.callsite(), Instant::now());
        match line {
            Line::Said(0) => true,
            Line::Said(left_out) => {
                tracing::warn!("{left_out} lines like the next one were left out");
                true
            }
            Line::LeftOut => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_repeats_is_bounded_and_others_are_not() {
        let kept = Kept::default();
        let writer = kept.clone();
        let to = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(Repeats::default()).with(to);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..1000 {
                tracing::info!(number, "again");
                tracing::info!(target: NOTE, "a note");
            }
            tracing::info!("another");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("again"), count("a note"), count("another")), (30, 1000, 1));
    }
}
