//! The helper's child: a process that enters one raylet's mount namespace, does one thing there, and ends. It is killed if
//! that takes too long: a file system there may be anybody's.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::feed::{self, Kind};
use super::settings::Settings;
use super::view::{self, Place, View, ViewError};
use super::{mountinfo, wire};
use crate::units::Bytes;

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "__ray-enter";

/// So many files of agents that are gone may lie upon each other.
const LEFT_BEHIND: u32 = 8;

/// The most of an environment that is read: a process can make its own as long as it likes.
const LONGEST_ENVIRONMENT: u64 = 256 << 10;

/// What a child says of its errand.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Entered {
    /// Done. Beside it, after attaching: the true usage, the true statistics.
    Done { kind: Kind, settings: Settings, total: Bytes },
    /// Not done.
    Failed {
        why: String,
        /// A file of ours is in place all the same.
        left: bool,
    },
}

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
    /// The raylet's folder in procfs
    #[arg(long, default_value_t = -1)]
    process: RawFd,
    /// Only read the raylet's settings
    #[arg(long)]
    look: bool,
    /// How much memory it has then
    #[arg(long, default_value_t = 0)]
    total: u64,
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
    #[error(
        "the mount at /{0} spreads to other mount namespaces, where others would see our files, or it is not known \
         whether it does"
    )]
    Shared(&'static str),
    #[error("{why}; and one of our files cannot be taken away again: {again}")]
    Half { why: String, again: String },
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
    let process = arguments.detach.is_none().then(|| own(arguments.process));
    let attaches = process.is_some() && !arguments.look;
    let mounts = attaches.then(|| (own(arguments.usage_mount), own(arguments.stat_mount)));
    // Before anything is in place: of a process that a user made to look like a raylet this may wait for ever
    // (`memory::kept`), and then this child is killed.
    let environment = process.map(|process| environment(&process)).unwrap_or_default();
    let done = enter(&namespace).and_then(|oneself| match mounts {
        Some((usage, stat)) => {
            attach(root.as_fd(), &oneself, &files, (usage.as_fd(), stat.as_fd()), &arguments.shared)
        }
        None if arguments.look => Ok((Kind::Meminfo, Bytes(arguments.total), Vec::new())),
        None => detach(root.as_fd(), &files, arguments.detach.as_deref().unwrap_or_default()),
    });
    match done {
        Ok((kind, total, real)) => {
            let log = arguments.log.as_deref().map(|path| view::log(root.as_fd(), path).unwrap_or_default());
            let settings = Settings::of(&log.unwrap_or_default(), &environment, total);
            let real: Vec<BorrowedFd<'_>> = real.iter().map(AsFd::as_fd).collect();
            wire::send(&reply, &Entered::Done { kind, settings, total }, &real)
        }
        Err(error) => {
            let left = matches!(error, EnterError::Half { .. });
            wire::send(&reply, &Entered::Failed { why: error.to_string(), left }, &[])
        }
    }
}

/// Enters a mount namespace. This process's own folder in procfs is opened before: there it may not be mounted.
fn enter(namespace: &OwnedFd) -> Result<OwnedFd, EnterError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let oneself = rustix::fs::open("/proc/self", flags, Mode::empty())
        .map_err(EnterError::at("cannot open /proc/self"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(|error| EnterError::Enter(error.into()))?;
    Ok(oneself)
}

/// A process's environment, by its folder in procfs. What was read before an error is what there is.
fn environment(process: &OwnedFd) -> Vec<u8> {
    let mut environment = Vec::new();
    if let Ok(file) = rustix::fs::openat(process, "environ", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    {
        let _ = std::fs::File::from(file).take(LONGEST_ENVIRONMENT).read_to_end(&mut environment);
    }
    environment
}

type Done = (Kind, Bytes, Vec<OwnedFd>);

/// Puts the files in place. All or nothing.
fn attach(
    root: BorrowedFd<'_>,
    oneself: &OwnedFd,
    files: &Files,
    (usage, stat): (BorrowedFd<'_>, BorrowedFd<'_>),
    shared: &str,
) -> Result<Done, EnterError> {
    let mut left = LEFT_BEHIND;
    let view = loop {
        match View::open(root) {
            Err(ViewError::Fed { path }) => match clear(root, oneself)? {
                Cleared::Some if left > 0 => left -= 1,
                Cleared::Some | Cleared::InUse => return Err(ViewError::Fed { path }.into()),
                Cleared::Nothing => return Err(ViewError::NotOurs { path }.into()),
            },
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
        return Err(match uncover(&folder, view.place.usage, &files.usage) {
            Ok(_) => error,
            Err(again) => EnterError::Half { why: error.to_string(), again: again.to_string() },
        });
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

/// What came of clearing.
enum Cleared {
    Some,
    /// There is nothing that an agent put there.
    Nothing,
    /// The agent that put it there lives.
    InUse,
}

/// Takes away what an agent left behind that is gone. What somebody else put there stays.
fn clear(root: BorrowedFd<'_>, oneself: &OwnedFd) -> Result<Cleared, EnterError> {
    let mut cleared = Cleared::Nothing;
    for place in [view::V2, view::V1, view::MEMINFO] {
        let Ok(folder) = view::folder(root, place) else { continue };
        for name in place.replaced() {
            let Ok(spot) = view::spot(folder.as_fd(), name) else { continue };
            if !view::is_in_memory(&spot).unwrap_or(false) || !is_ours(oneself, &spot)? {
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
                return Ok(Cleared::InUse);
            }
            drop((file, spot));
            take_off(&folder, name)?;
            cleared = Cleared::Some;
        }
    }
    Ok(cleared)
}

/// Whether what lies there is mounted from a helper's own file system, by this process's folder in procfs.
fn is_ours(oneself: &OwnedFd, spot: &OwnedFd) -> Result<bool, EnterError> {
    let text = |name: &str| -> Result<String, EnterError> {
        let file = rustix::fs::openat(oneself, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(EnterError::at("cannot ask procfs what lies there"))?;
        let mut bytes = Vec::new();
        std::fs::File::from(file)
            .read_to_end(&mut bytes)
            .map_err(|error| EnterError::Failed { what: "cannot read what lies there", error })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let about = text(&format!("fdinfo/{}", spot.as_raw_fd()))?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let mounts = text("mountinfo")?;
    Ok(id.and_then(|id| mountinfo::source(&mounts, id)) == Some(("tmpfs", view::SOURCE)))
}

/// Takes the files away where they are. Where nothing can lie any more there is nothing to do.
fn detach(root: BorrowedFd<'_>, files: &Files, kind: &str) -> Result<Done, EnterError> {
    let mut done = Ok((Kind::Meminfo, Bytes(0), Vec::new()));
    for place in [view::V2, view::V1, view::MEMINFO] {
        if kind != "all" && kind != name(place.kind) {
            continue;
        }
        let folder = match view::folder(root, place) {
            Ok(folder) => folder,
            Err(error) if leads_nowhere(&error) => continue,
            Err(error) => {
                done = Err(EnterError::Failed { what: "cannot open their folder", error });
                continue;
            }
        };
        // The statistics first: for a moment the cache is taken off twice, and less is shown, not more.
        for (name, file) in [(place.stat, &files.stat), (place.usage, &files.usage)] {
            match if name.is_empty() { Ok(false) } else { uncover(&folder, name, file) } {
                Ok(_) => {}
                Err(EnterError::Failed { error, .. }) if leads_nowhere(&error) => {}
                Err(error) => done = Err(error),
            }
        }
    }
    done
}

/// Whether this error says that no file is at a path, or none that is opened so.
fn leads_nowhere(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(error, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
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
    show_truth(view.place.kind, &view.usage, view.stat.as_ref(), &files.usage)?;
    match &view.stat {
        Some(stat) => write(&files.stat, &feed::stat(&read(stat)?, view.place.kind)),
        None => Ok(()),
    }
}

/// Writes the true usage into a file of ours, by the kernel's own files.
pub(super) fn show_truth(
    kind: Kind,
    real: &OwnedFd,
    stat: Option<&OwnedFd>,
    usage: &OwnedFd,
) -> io::Result<()> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let text = read(real)?;
    if kind == Kind::Meminfo {
        // As long as it was, so that nothing of the last one is left.
        let length = usize::try_from(fstat(usage)?.st_size).unwrap_or(0);
        let (used, _) = feed::meminfo_used(&text).ok_or_else(malformed)?;
        return write(usage, &feed::meminfo(&text, used, length).ok_or_else(malformed)?);
    }
    let used = Bytes(text.trim().parse().map_err(|_| malformed())?);
    let stat = stat.map(read).transpose()?.unwrap_or_default();
    write(usage, &feed::number(used.saturating_sub(feed::cached(&stat, kind))))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> OwnedFd {
        let file = tempfile::tempfile().unwrap().into();
        write(&file, text).unwrap();
        file
    }

    #[test]
    fn the_truth_leaves_nothing_of_what_was_there() {
        let usage = file("99999999999999999999\n");
        let stat = file("total_inactive_file 100\ntotal_active_file 23\n");
        show_truth(Kind::V1, &file("1123\n"), Some(&stat), &usage).unwrap();
        assert_eq!(read(&usage).unwrap().trim(), "1000");
        assert!(show_truth(Kind::V1, &file("no number\n"), Some(&stat), &usage).is_err());
        let meminfo = "MemTotal:  1000 kB\nMemAvailable:   200 kB\nCached:   1 kB\n";
        let usage = file(&format!("MemTotal:  1000 kB\nMemAvailable:   {:>40} kB\nCached:   1 kB\n", 1));
        show_truth(Kind::Meminfo, &file(meminfo), None, &usage).unwrap();
        let shown = read(&usage).unwrap();
        assert_eq!(feed::meminfo_used(&shown), feed::meminfo_used(meminfo));
        assert_eq!((shown.lines().count(), shown.lines().last()), (3, Some("Cached:   1 kB")));
    }

    #[test]
    fn a_file_in_memory_of_somebody_else_is_not_taken_for_ours() {
        let open =
            |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let oneself = open("/proc/self");
        for path in ["/proc/version", "/dev", "/tmp"] {
            assert!(!is_ours(&oneself, &open(path)).unwrap(), "{path}");
        }
    }

    #[test]
    fn an_environment_is_read_by_the_folder_of_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let folder = || rustix::fs::open(dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(environment(&folder()).is_empty(), "it is gone");
        std::fs::write(dir.path().join("environ"), vec![b'a'; 300 << 10]).unwrap();
        assert_eq!(environment(&folder()).len(), 256 << 10);
    }
}
