//! Whether processes were made, and which they can be: who looks at all of them again and again asks this first.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The kernel's number of the last process or thread that was made (the end of loadavg), which costs next to nothing to ask.
#[derive(Debug)]
pub(crate) struct Forks {
    file: Option<File>,
    last: Option<u32>,
}

/// What was made since the last question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Made {
    Nothing,
    /// No others than these, threads among them: the kernel gives numbers in turn.
    Among(RangeInclusive<u32>),
    /// Nobody asked before, the numbers began again, or there are none.
    Unknown,
}

impl Forks {
    pub(crate) fn new(procfs: &Path) -> Self {
        Self { file: File::open(procfs.join("loadavg")).ok(), last: None }
    }

    /// Since this or [`Self::any`] was last asked.
    pub(crate) fn made(&mut self) -> Made {
        let mut text = [0; 128];
        let read = self.file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = text.get(..read).unwrap_or_default().trim_ascii_end();
        let last = text.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let last = std::str::from_utf8(last).ok().and_then(|last| last.parse::<u32>().ok());
        match (std::mem::replace(&mut self.last, last), last) {
            (Some(before), Some(last)) if before == last => Made::Nothing,
            (Some(before), Some(last)) if before < last => Made::Among(before + 1..=last),
            _ => Made::Unknown,
        }
    }

    /// Whether anything was made. Unknown counts as made.
    pub(crate) fn any(&mut self) -> bool {
        self.made() != Made::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_seen_by_the_last_number() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Forks::new(dir.path()).any(), "unknown");
        let say = |last: u32| {
            std::fs::write(dir.path().join("loadavg"), format!("0.01 0.02 0.00 1/300 {last}\n")).unwrap()
        };
        say(4711);
        let mut forks = Forks::new(dir.path());
        assert_eq!(forks.made(), Made::Unknown);
        assert_eq!(forks.made(), Made::Nothing);
        say(4712);
        assert!(forks.any() && !forks.any());
        say(4720);
        assert_eq!(forks.made(), Made::Among(4713..=4720));
        // They began again.
        say(310);
        assert_eq!(forks.made(), Made::Unknown);
        assert_eq!(forks.made(), Made::Nothing);
    }

    #[test]
    fn a_process_has_one_of_the_numbers() {
        let mut forks = Forks::new(Path::new("/proc"));
        forks.made();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let made = forks.made();
        assert!(
            matches!(&made, Made::Among(numbers) if numbers.contains(&child.id())),
            "{made:?}, {}",
            child.id()
        );
        child.wait().unwrap();
    }
}
