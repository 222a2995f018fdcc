//! A file system in user space that does not answer: a process that asks it for a file sleeps where no signal ends it, until it
//! is gone. One file it shows, and never gives its page. Only the test's thread and what that starts can see it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::mount_namespace;

/// What it needs at least to read a request (`FUSE_MIN_READ_BUFFER` in include/uapi/linux/fuse.h, kernel 6.18).
const REQUEST: usize = 8192;
/// The request that comes first and that must be answered, and the one that asks for a name in a directory.
const INIT: u32 = 26;
const LOOKUP: u32 = 1;
/// Of the file that is shown: its attributes, opening it, and closing it.
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const FLUSH: u32 = 25;
/// Its name, and its number.
const SHOWN: &str = "shown";
const NODE: u64 = 2;
/// `struct fuse_in_header`, after which the name follows.
const HEADER: usize = 40;
/// Several may ask for names in one directory at once.
const PARALLEL_DIROPS: u32 = 1 << 18;

/// See the module.
#[derive(Debug)]
pub struct SilentFs {
    dir: TempDir,
    /// Requests for a name that were read, and are never answered.
    asked: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<Result<()>>>,
}

impl SilentFs {
    /// Runs `test` with one, on a thread with a mount namespace of its own. Drop it before what waits for those that ask it.
    ///
    /// # Errors
    /// It cannot be mounted.
    ///
    /// # Panics
    /// As `test` does.
    pub fn with<T: Send>(test: impl FnOnce(Self) -> T + Send) -> Result<T> {
        let outcome = mount_namespace::with(|| Ok(test(Self::mount()?)))?;
        outcome.context("no mount namespace can be made here")
    }

    fn mount() -> Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").context("/dev/fuse")?;
        let dir = tempfile::Builder::new().prefix("monitor-test-fuse-").tempdir().context("a directory")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = std::ffi::CString::new(options)?;
        mount("monitor-test", dir.path(), "fuse", MountFlags::empty(), options.as_c_str())
            .context("mounting it")?;
        let (asked, over) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let (count, end) = (Arc::clone(&asked), Arc::clone(&over));
        let server = thread::spawn(move || serve(device, &count, &end));
        Ok(Self { dir, asked, over, server: Some(server) })
    }

    /// Where it is mounted, for this thread and its children.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The file that can be opened and mapped; the page of it never comes.
    #[must_use]
    pub fn shown(&self) -> PathBuf {
        self.path().join(SHOWN)
    }

    /// How many processes wait for a file by now. Each has to ask for another name.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Reads requests, and answers the first one only. In the end the kernel lets all go that wait.
fn serve(mut device: File, asked: &AtomicU32, over: &AtomicBool) -> Result<()> {
    const A_LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let mut request = [0; REQUEST];
    while !over.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(&device, PollFlags::IN)];
        match poll(&mut fds, Some(&A_LOOK)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error).context("waiting for a request"),
        }
        let len = device.read(&mut request).context("reading a request")?;
        ensure!(len >= HEADER, "a request of {len} bytes");
        let name = request[HEADER..len].split(|byte| *byte == 0).next().unwrap_or_default();
        // struct fuse_in_header: len, opcode, unique.
        let answer = match u32::from_ne_bytes(request[4..8].try_into()?) {
            INIT => initialized(),
            LOOKUP if name == SHOWN.as_bytes() => entry(),
            LOOKUP => {
                asked.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            GETATTR => attributes(),
            FLUSH => Vec::new(),
            // struct fuse_open_out.
            OPEN => vec![0; 16],
            _ => continue,
        };
        // struct fuse_out_header: len, error, unique.
        let mut all = Vec::new();
        all.extend(u32::try_from(answer.len() + 16)?.to_ne_bytes());
        all.extend(0_i32.to_ne_bytes());
        all.extend(&request[8..16]);
        all.extend(answer);
        device.write_all(&all).context("answering")?;
    }
    Ok(())
}

/// `struct fuse_init_out` of protocol 7.31.
fn initialized() -> Vec<u8> {
    // Major, minor, max_readahead, flags; two short numbers that may be 0; max_write, time_gran.
    let mut answer = bytes32(&[7, 31, 0, PARALLEL_DIROPS, 0, 4096, 1]);
    answer.resize(64, 0);
    answer
}

/// `struct fuse_entry_out`: known for an hour.
fn entry() -> Vec<u8> {
    let mut answer = bytes64(&[NODE, 0, 3600, 3600]);
    answer.extend(bytes32(&[0, 0]));
    answer.extend(attribute());
    answer
}

/// `struct fuse_attr_out`.
fn attributes() -> Vec<u8> {
    let mut answer = bytes64(&[3600]);
    answer.extend(bytes32(&[0, 0]));
    answer.extend(attribute());
    answer
}

/// `struct fuse_attr` of a file of one page that everybody may read.
fn attribute() -> Vec<u8> {
    // Number, size, blocks, three times.
    let mut answer = bytes64(&[NODE, 4096, 8, 0, 0, 0]);
    // Three times' nanoseconds, mode, links, user, group, device, block size, flags.
    answer.extend(bytes32(&[0, 0, 0, 0o100_444, 1, 0, 0, 0, 4096, 0]));
    answer
}

fn bytes64(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn bytes32(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

impl Drop for SilentFs {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(Err(error)) = self.server.take().and_then(|server| server.join().ok()) {
            eprintln!("the silent file system: {error:#}");
        }
        // Otherwise its directory cannot be removed.
        let _ = unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}
