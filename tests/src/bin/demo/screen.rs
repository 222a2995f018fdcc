//! What is seen while it plays: lines of what happened, and below them on a terminal one line in place with the
//! usage against the threshold. Without a terminal that line is printed anew now and then.

use std::io::{self, IsTerminal as _, Stdout, Write as _};
use std::time::{Duration, Instant};

use monitor::units::Bytes;

/// Writes to stdout only.
pub(crate) struct Screen {
    out: Stdout,
    terminal: bool,
    begun: Instant,
    drawn: Option<Instant>,
}

/// What the line in place shows. All in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    pub(crate) used: u64,
    pub(crate) threshold: u64,
    pub(crate) total: u64,
}

const BAR: usize = 40;
const CLEAR: &str = "\r\x1b[2K";

impl Screen {
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        Self { terminal: out.is_terminal(), out, begun: Instant::now(), drawn: None }
    }

    /// A line with the time since the beginning.
    pub(crate) fn event(&mut self, text: &str) -> io::Result<()> {
        let at = self.begun.elapsed().as_secs_f64();
        self.line(&format!("{at:7.3} s  {text}"))
    }

    /// A line that belongs to the last event.
    pub(crate) fn detail(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("           {text}"))
    }

    /// A line as it is.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        if self.terminal && self.drawn.take().is_some() {
            write!(self.out, "{CLEAR}")?;
        }
        writeln!(self.out, "{text}")
    }

    /// The line in place, if it is time for it.
    pub(crate) fn level(&mut self, level: Level, who: &str) -> io::Result<()> {
        let pause = Duration::from_millis(if self.terminal { 100 } else { 1000 });
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < pause) {
            return Ok(());
        }
        let at = self.begun.elapsed().as_secs_f64();
        let text = format!("{at:7.3} s  {}  {who}", bar(level));
        if self.terminal {
            write!(self.out, "{CLEAR}{text}")?;
            self.out.flush()?;
        } else {
            writeln!(self.out, "{text}")?;
        }
        self.drawn = Some(Instant::now());
        Ok(())
    }

    /// Takes the line in place away.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if self.terminal && self.drawn.take().is_some() {
            write!(self.out, "{CLEAR}")?;
        }
        self.out.flush()
    }
}

/// `[######....|.]  200.0 MiB of 486.4 MiB`: the whole bar is the limit, `|` the threshold.
fn bar(level: Level) -> String {
    let cells = |bytes: u64| {
        let share = u128::from(bytes) * BAR as u128 / u128::from(level.total.max(1));
        usize::try_from(share).unwrap_or(BAR).min(BAR)
    };
    let (filled, line) = (cells(level.used), cells(level.threshold));
    let bar: String = (0..BAR)
        .map(|cell| match cell {
            _ if cell == line => '|',
            _ if cell < filled => '#',
            _ => '.',
        })
        .collect();
    format!("[{bar}] {:>9} of {}", Bytes(level.used).to_string(), Bytes(level.threshold))
}

/// Milliseconds from `start` to `end`, both in nanoseconds: `+12.345 ms`.
pub(crate) fn offset(start: Option<u64>, end: Option<u64>) -> String {
    match (start, end) {
        (Some(start), Some(end)) => {
            let nanos = i128::from(end) - i128::from(start);
            let sign = if nanos < 0 { '-' } else { '+' };
            let micros = nanos.unsigned_abs() / 1000;
            format!("{sign}{}.{:03} ms", micros / 1000, micros % 1000)
        }
        _ => "not seen".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_the_usage_and_the_threshold() {
        let mib = |n: u64| n << 20;
        let text = bar(Level { used: mib(100), threshold: mib(150), total: mib(200) });
        assert_eq!(text, "[####################..........|.........] 100.0 MiB of 150.0 MiB");
        let over = bar(Level { used: mib(300), threshold: mib(200), total: mib(200) });
        assert!(over.starts_with(&format!("[{}]", "#".repeat(BAR))), "{over}");
    }

    #[test]
    fn offsets_are_in_milliseconds_and_may_be_unknown() {
        assert_eq!(offset(Some(1_000_000), Some(13_345_678)), "+12.345 ms");
        assert_eq!(offset(Some(2_000_000), Some(1_500_000)), "-0.500 ms");
        assert_eq!(offset(None, Some(1)), "not seen");
    }
}
