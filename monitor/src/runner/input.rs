//! The command's standard input over several attempts. Another attempt must not go on where the last one stopped reading:
//! a file is given to it from the same place again; of a pipe that cannot be done, and it is said.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

/// What the standard input was before the first attempt.
#[derive(Debug)]
enum Kind {
    /// A file, read from here on.
    File(u64),
    /// What was read is gone.
    Pipe,
    /// A terminal, a device, or none: it has no place.
    Other,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Input {
    kind: Kind,
    warned: bool,
}

/// What another attempt reads.
#[derive(Debug)]
pub(super) enum Again {
    /// The runner's standard input as it is.
    Same,
    /// The same file, from the place where the first attempt began.
    File(File),
    /// The rest of what the attempts before it left. To be said, once.
    Rest(&'static str),
}

impl Input {
    pub(super) fn look() -> Self {
        Self { kind: kind().unwrap_or(Kind::Other), warned: false }
    }

    pub(super) fn again(&mut self) -> Again {
        let rest = match self.kind {
            Kind::Other => return Again::Same,
            Kind::Pipe => {
                "standard input is a pipe: this attempt gets only what the ones before it did not read"
            }
            Kind::File(start) => match place() {
                Ok(now) if now == start => return Again::Same,
                Ok(_) | Err(_) => match from(start) {
                    Ok(file) => return Again::File(file),
                    Err(_) => {
                        "standard input cannot be opened again: this attempt continues where the last one stopped"
                    }
                },
            },
        };
        if std::mem::replace(&mut self.warned, true) { Again::Same } else { Again::Rest(rest) }
    }
}

fn kind() -> io::Result<Kind> {
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let what = file.metadata()?.file_type();
    Ok(if what.is_file() {
        Kind::File(place()?)
    } else if what.is_fifo() || what.is_socket() {
        Kind::Pipe
    } else {
        Kind::Other
    })
}

fn place() -> io::Result<u64> {
    Ok(rustix::fs::tell(io::stdin())?)
}

/// Another opening of the file: the place of the first is not ours alone, and stays where it is.
fn from(start: u64) -> io::Result<File> {
    let mut file = File::open("/proc/self/fd/0")?;
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}
