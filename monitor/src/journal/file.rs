//! The file that the journal is written to, for the agent's user only, because reports show command lines: whole
//! lines, flushed to the disk, rotated before it grows too large.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::older;
use crate::trusted_file;

/// What a disk must have free that was full, in bytes: a few reports.
const ROOM: u64 = 64 << 10;

/// Why a line was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// Another agent has the file.
    #[error("{}: another process writes this journal; give this one another (--journal)", path.display())]
    Taken { path: PathBuf },
    /// The kernel refuses; a full disk and a read-only file system are among the reasons.
    #[error("cannot {step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    /// It would fill the journal alone.
    #[error(
        "{}: a line of {length} bytes does not fit: journal_max_bytes allows {most} for one file of two",
        path.display()
    )]
    TooLarge { path: PathBuf, length: u64, most: u64 },
}

/// See the module. It ends in a whole line whenever no write is going on.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    file: File,
    length: u64,
    /// The most for this file; the older one has had as much.
    most: u64,
}

impl Output {
    /// Opens the file, makes it if need be, and cuts off a last line that a crash left unfinished; how many bytes
    /// that were.
    pub(super) fn open(path: &Path, most_of_both: u64) -> Result<(Self, u64), WriteError> {
        let fail = |step| move |source| WriteError::Io { step, path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            trusted_file::directories(directory).map_err(fail("make the directory of"))?;
        }
        let mut file = trusted_file::append(path).map_err(fail("open"))?;
        lock(&file, path)?;
        let end = file.seek(SeekFrom::End(0)).map_err(fail("read"))?;
        let length = whole_lines(&mut file, end).map_err(fail("read"))?;
        if length < end {
            file.set_len(length).map_err(fail("cut the unfinished line off"))?;
        }
        Ok((Self { path: path.to_owned(), file, length, most: most_of_both / 2 }, end - length))
    }

    /// Appends a line, its newline included, and waits until the disk has it. After an error nothing of it is left.
    pub(super) fn append(&mut self, line: &[u8]) -> Result<(), WriteError> {
        let length = line.len() as u64;
        if length > self.most {
            return Err(WriteError::TooLarge { path: self.path.clone(), length, most: self.most });
        }
        if self.length + length > self.most {
            self.rotate()?;
        }
        let written = self.file.write_all(line).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += length;
                Ok(())
            }
            Err(source) => {
                // If this fails too, the next start cuts it off.
                let _ = self.file.set_len(self.length);
                Err(WriteError::Io { step: "write to", path: self.path.clone(), source })
            }
        }
    }

    /// Whether the path still leads to this file. What cannot be told counts as yes.
    pub(super) fn is_there(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(found), Ok(own)) => (found.dev(), found.ino()) == (own.dev(), own.ino()),
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => true,
        }
    }

    /// Whether the file system has room for some lines, as far as it says.
    pub(super) fn has_room(&self) -> bool {
        rustix::fs::fstatvfs(&self.file).map_or(true, |disk| disk.f_bavail * disk.f_frsize >= ROOM)
    }

    fn rotate(&mut self) -> Result<(), WriteError> {
        let fail = |step| {
            let path = self.path.clone();
            move |source| WriteError::Io { step, path, source }
        };
        fs::rename(&self.path, older(&self.path)).map_err(fail("rotate"))?;
        let file = trusted_file::append(&self.path).map_err(fail("open"))?;
        lock(&file, &self.path)?;
        if let Some(directory) = self.path.parent() {
            // The names are as durable as the lines; a file system that cannot do that has done its best.
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        (self.file, self.length) = (file, 0);
        Ok(())
    }
}

fn lock(file: &File, path: &Path) -> Result<(), WriteError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(WriteError::Taken { path: path.to_owned() }),
        Err(error) => Err(WriteError::Io { step: "lock", path: path.to_owned(), source: error.into() }),
    }
}

/// The length of the file up to its last newline, looked for from its end.
fn whole_lines(file: &mut File, end: u64) -> io::Result<u64> {
    const CHUNK: u64 = 64 << 10;
    let mut upto = end;
    while upto > 0 {
        let from = upto.saturating_sub(CHUNK);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        (&*file).take(upto - from).read_to_end(&mut chunk)?;
        if let Some(newline) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + newline as u64 + 1);
        }
        upto = from;
    }
    Ok(0)
}
