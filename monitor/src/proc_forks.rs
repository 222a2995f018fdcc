//! Whether processes were made: who looks at all of them again and again asks this first.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Whether processes or threads were made: the kernel's number of the last one, which costs next to nothing to ask.
#[derive(Debug)]
pub(crate) struct Forks {
    file: Option<File>,
    last: Vec<u8>,
}

impl Forks {
    pub(crate) fn new(procfs: &Path) -> Self {
        Self { file: File::open(procfs.join("loadavg")).ok(), last: Vec::new() }
    }

    /// Since this was last asked. Unknown counts as made.
    pub(crate) fn any(&mut self) -> bool {
        let mut text = [0; 128];
        let read = self.file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = text.get(..read).unwrap_or_default().trim_ascii_end();
        let last = text.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        if last.is_empty() || last == self.last {
            return last.is_empty();
        }
        self.last = last.to_vec();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_are_seen_by_the_last_number() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Forks::new(dir.path()).any(), "unknown");
        std::fs::write(dir.path().join("loadavg"), "0.01 0.02 0.00 1/300 4711\n").unwrap();
        let mut forks = Forks::new(dir.path());
        assert!(forks.any() && !forks.any());
        std::fs::write(dir.path().join("loadavg"), "0.01 0.02 0.00 1/300 4712\n").unwrap();
        assert!(forks.any() && !forks.any());
    }
}
