//! The helper's child: a process that enters one raylet's mount namespace, does one thing there, and ends. It is killed if
//! that takes too long: a file system there may be anybody's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, openat2};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::feed::{self, Kind};
use super::view::{self, Place, View, ViewError};
use super::wire::{self, Entered};
use crate::units::Bytes;

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "__ray-enter";

/// So many files of agents that are gone may lie upon each other.
const LEFT_BEHIND: u32 = 8;

/// Started by the helper only. All are numbers of descriptors that it inherits.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The mount namespace
    #[arg(long)]
    namespace: RawFd,
    /// The raylet's root in it
    #[arg(long)]
    root: RawFd,
    /// Where the answer goes
    #[arg(long)]
    reply: RawFd,
    /// Only read the log
    #[arg(long)]
    look: bool,
    /// Kinds of files whose mounts would also show our files to others
    #[arg(long, default_value = "")]
    shared: String,
    /// Take the files away: of this kind, v1, v2 or meminfo, or all
    #[arg(long)]
    detach: Option<String>,
    /// The file with the usage
    #[arg(long)]
    usage: RawFd,
    /// The file with the statistics
    #[arg(long)]
    stat: RawFd,
    /// A mount of the first, in no namespace yet
    #[arg(long, default_value_t = -1)]
    usage_mount: RawFd,
    /// A mount of the second
    #[arg(long, default_value_t = -1)]
    stat_mount: RawFd,
    /// The raylet's log
    #[arg(long)]
    log: Option<PathBuf>,
}

/// The files and where they are shown from.
struct Files {
    usage: OwnedFd,
    stat: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
enum EnterError {
    #[error("cannot enter its mount namespace: {0}")]
    Enter(io::Error),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("the mount at /{0} spreads to other mount namespaces, where others would see our files")]
    Shared(&'static str),
    #[error("{what}: {error}")]
    Failed { what: &'static str, error: io::Error },
}

impl EnterError {
    fn at(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |error| Self::Failed { what, error: error.into() }
    }
}

/// Does what it was started for and says what came of it.
pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    // SAFETY: the helper left these descriptors open across exec for this process alone, which uses them only here.
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    let (namespace, root, reply) = (own(arguments.namespace), own(arguments.root), own(arguments.reply));
    let files = Files { usage: own(arguments.usage), stat: own(arguments.stat) };
    let attaches = arguments.detach.is_none() && !arguments.look;
    let mounts = attaches.then(|| (own(arguments.usage_mount), own(arguments.stat_mount)));
    let done = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(|error| EnterError::Enter(error.into()))
        .and_then(|()| match mounts {
            Some((usage, stat)) => {
                attach(root.as_fd(), &files, (usage.as_fd(), stat.as_fd()), &arguments.shared)
            }
            None if arguments.look => Ok((Kind::Meminfo, Bytes(0), Vec::new())),
            None => detach(root.as_fd(), &files, arguments.detach.as_deref().unwrap_or_default()),
        });
    match done {
        Ok((kind, total, real)) => {
            let log = arguments.log.as_deref().map(|path| view::log(root.as_fd(), path).unwrap_or_default());
            // What the helper needs of it, so that the message is short.
            let log = log.unwrap_or_default();
            let said = log.lines().rfind(|line| line.contains("initialized with usage threshold"));
            let log = said.unwrap_or_default().chars().take(1000).collect();
            let real: Vec<BorrowedFd<'_>> = real.iter().map(AsFd::as_fd).collect();
            wire::send(&reply, &Entered::Done { kind, log, total }, &real)
        }
        Err(error) => wire::send(&reply, &Entered::Failed { why: error.to_string() }, &[]),
    }
}

type Done = (Kind, Bytes, Vec<OwnedFd>);

/// Puts the files in place. All or nothing.
fn attach(
    root: BorrowedFd<'_>,
    files: &Files,
    (usage, stat): (BorrowedFd<'_>, BorrowedFd<'_>),
    shared: &str,
) -> Result<Done, EnterError> {
    let mut left = LEFT_BEHIND;
    let view = loop {
        match View::open(root) {
            Err(ViewError::Fed { .. }) if left > 0 && clear(root)? => left -= 1,
            other => break other?,
        }
    };
    let Place { kind, .. } = view.place;
    if shared.split(',').any(|shared| shared == name(kind)) {
        return Err(EnterError::Shared(view.place.folder));
    }
    fill(&view, files).map_err(|error| EnterError::Failed { what: "cannot fill our files", error })?;
    let folder = view::folder(root, view.place)
        .map_err(|error| EnterError::Failed { what: "cannot open their folder", error })?;
    // The usage first: it is net of the cache already, and less is shown for a moment, not more.
    cover(&folder, view.place.usage, &view.usage, usage)?;
    if let Some(real) = &view.stat
        && let Err(error) = cover(&folder, view.place.stat, real, stat)
    {
        let _ = uncover(&folder, view.place.usage, &files.usage);
        return Err(error);
    }
    Ok((kind, view.total, std::iter::once(view.usage).chain(view.stat).collect()))
}

/// Mounts a file over one of the kernel's, which must be the one that was looked at.
fn cover(folder: &OwnedFd, name: &str, real: &OwnedFd, mount: BorrowedFd<'_>) -> Result<(), EnterError> {
    let spot = view::spot(folder.as_fd(), name)
        .map_err(|error| EnterError::Failed { what: "cannot open the place of our file", error })?;
    if identity(&spot)? != identity(real)? {
        let error = io::ErrorKind::StaleNetworkFileHandle.into();
        return Err(EnterError::Failed { what: "another file lies in the place of ours", error });
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", &spot, "", flags).map_err(EnterError::at("cannot mount our file"))
}

/// Unmounts a file if it is this one. False: another one lies there.
fn uncover(folder: &OwnedFd, name: &str, file: &OwnedFd) -> Result<bool, EnterError> {
    let spot = view::spot(folder.as_fd(), name)
        .map_err(|error| EnterError::Failed { what: "cannot open the place of our file", error })?;
    if identity(&spot)? != identity(file)? {
        return Ok(false);
    }
    drop(spot);
    take_off(folder, name)?;
    Ok(true)
}

/// Unmounts what lies on top of a name. The folder is entered, so that no other path leads there.
fn take_off(folder: &OwnedFd, name: &str) -> Result<(), EnterError> {
    rustix::process::fchdir(folder).map_err(EnterError::at("cannot enter the folder"))?;
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    unmount(name, flags).map_err(EnterError::at("cannot unmount our file"))
}

/// Takes away what an agent left behind that is gone. False: there is nothing of that kind, or that agent lives.
fn clear(root: BorrowedFd<'_>) -> Result<bool, EnterError> {
    let mut cleared = false;
    for place in [view::V2, view::V1, view::MEMINFO] {
        let Ok(folder) = view::folder(root, place) else { continue };
        for name in place.replaced() {
            let Ok(spot) = view::spot(folder.as_fd(), name) else { continue };
            if !view::is_ours(&spot).unwrap_or(false) {
                continue;
            }
            let file = openat2(
                &folder,
                name,
                OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW,
                Mode::empty(),
                rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS,
            )
            .map_err(EnterError::at("cannot open what lies there"))?;
            // A helper that lives holds a lock on its files.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Ok(false);
            }
            drop((file, spot));
            take_off(&folder, name)?;
            cleared = true;
        }
    }
    Ok(cleared)
}

fn detach(root: BorrowedFd<'_>, files: &Files, kind: &str) -> Result<Done, EnterError> {
    let mut done = Ok((Kind::Meminfo, Bytes(0), Vec::new()));
    for place in [view::V2, view::V1, view::MEMINFO] {
        if kind != "all" && kind != name(place.kind) {
            continue;
        }
        let Ok(folder) = view::folder(root, place) else { continue };
        // The statistics first: for a moment the cache is taken off twice, and less is shown, not more.
        for (name, file) in [(place.stat, &files.stat), (place.usage, &files.usage)] {
            if !name.is_empty()
                && let Err(error) = uncover(&folder, name, file)
                && kind != "all"
            {
                done = Err(error);
            }
        }
    }
    done
}

/// A kind's name on the command line.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::V1 => "v1",
        Kind::V2 => "v2",
        Kind::Meminfo => "meminfo",
    }
}

/// What the files say before they are in place: the truth.
fn fill(view: &View, files: &Files) -> io::Result<()> {
    let real = read(&view.usage)?;
    let Some(stat) = &view.stat else {
        return write(&files.usage, &real);
    };
    let stat = read(stat)?;
    let used = Bytes(real.trim().parse().unwrap_or(0));
    let used = used.saturating_sub(feed::cached(&stat, view.place.kind));
    write(&files.usage, &feed::number(used))?;
    write(&files.stat, &feed::stat(&stat, view.place.kind))
}

fn read(file: &OwnedFd) -> io::Result<String> {
    super::attached::read_whole(file)
}

fn write(file: &OwnedFd, text: &str) -> io::Result<()> {
    rustix::io::pwrite(file, text.as_bytes(), 0)?;
    Ok(())
}

fn identity(file: &OwnedFd) -> Result<(u64, u64), EnterError> {
    let stat = fstat(file).map_err(EnterError::at("cannot tell which file it is"))?;
    Ok((stat.st_dev, stat.st_ino))
}
