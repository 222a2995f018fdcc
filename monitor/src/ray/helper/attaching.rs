//! Putting files of ours in place of what a raylet reads: in a namespace where none are yet, or beside the raylets that read
//! them there already.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::Helper;
use super::errand::Errand;
use super::mounted::{Files, Mounted, Reader};
use super::own::owner_of;
use crate::kill::Process;
use crate::proc_stat::Stat;
use crate::ray::enter::{self, Entered};
use crate::ray::feed::Kind;
use crate::ray::settings::Settings;
use crate::ray::wire::Answer;
use crate::ray::{fanotify, mountinfo, view};
use crate::units::{Bytes, Pid};

/// What a raylet that joins others said is read again after this.
const LATELY: Duration = Duration::from_secs(1);

impl Helper {
    pub(super) fn attach(
        &mut self,
        pid: Pid,
        start_time: u64,
        log: Option<&Path>,
    ) -> Result<(Answer, Vec<OwnedFd>), String> {
        let is_it = || Stat::of(&self.procfs, pid).is_ok_and(|stat| stat.start_time == start_time);
        let process = Process::open_proven(pid, is_it).map_err(|error| error.to_string())?;
        let process = process.ok_or("it is gone")?;
        let dir = self.procfs.join(pid.to_string());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |name: &str, flags| {
            rustix::fs::open(dir.join(name), flags, Mode::empty()).map_err(|error| format!("{name}: {error}"))
        };
        let namespace = open("ns/mnt", flags)?;
        let root = open("root", folder)?;
        let about = open("", folder)?;
        let shared = shared_places(&dir)?;
        let user = process.uids(&self.procfs).map_err(|error| error.to_string())?[0];
        // It lives now, after all these were opened: so they are its own.
        if process.ended() || !is_it() {
            return Err("it is gone".to_owned());
        }
        let id = rustix::fs::fstat(&namespace).map_err(|error| error.to_string())?.st_ino;
        let is_host = |host: &std::fs::File| host.metadata().is_ok_and(|found| found.ino() == id);
        if self.hosts.iter().any(is_host) {
            return Err(
                "it shares this machine's mount namespace, where everybody would see the files: start Ray \
                        with `monitor ray run -- ...`"
                    .to_owned(),
            );
        }
        self.check_user_namespace(&namespace)?;
        let raylet = Reader { process, start_time, said: None };
        if let Some(index) = self.mounted.iter().position(|mounted| mounted.id == id) {
            return Ok(self.join(index, raylet, &about, log));
        }
        if let Some(index) = self.leaving.iter().position(|one| one.mounted.id == id) {
            self.take_away(index)?;
        }
        if let Some(why) = self.children.refusal(id, user, false) {
            return Err(why.to_owned());
        }
        let files = self.make_files(pid).map_err(|error| format!("cannot make files: {error}"))?;
        let mounted = Mounted {
            raylets: vec![raylet],
            left: Vec::new(),
            user,
            id,
            namespace,
            root,
            files,
            real: Vec::new(),
            kind: Kind::Meminfo,
            total: Bytes(0),
        };
        self.mount(mounted, pid, &about, &shared, log)
    }

    /// Where another raylet of the same namespace reads the files already.
    fn join(
        &mut self,
        index: usize,
        mut raylet: Reader,
        about: &OwnedFd,
        log: Option<&Path>,
    ) -> (Answer, Vec<OwnedFd>) {
        let mounted = &mut self.mounted[index];
        let pid = raylet.process.pid();
        // An agent asks again and again about one that is starting.
        let said = match mounted.said(pid, raylet.start_time, LATELY) {
            Some(said) => said,
            None => {
                let total = mounted.total;
                let settings = match self.children.enter(mounted, Errand::Look { process: about, log, total })
                {
                    Ok((Entered::Done { settings, .. }, _)) => settings,
                    // It sees the files whatever it says: then with Ray's defaults.
                    Ok((Entered::Failed { .. }, _)) | Err(_) => Settings::of("", b"", total),
                };
                (settings, Instant::now())
            }
        };
        raylet.said = Some(said);
        mounted.add(raylet);
        (Answer::Attached { pid, kind: mounted.kind, settings: said.0, namespace: mounted.id }, Vec::new())
    }

    fn mount(
        &mut self,
        mut mounted: Mounted,
        pid: Pid,
        about: &OwnedFd,
        shared: &str,
        log: Option<&Path>,
    ) -> Result<(Answer, Vec<OwnedFd>), String> {
        let failed = |error: io::Error| error.to_string();
        let readers = fanotify::watch(&mounted.files.usage)
            .map_err(|error| format!("cannot watch the readers of our file (fanotify): {error}"))?;
        let names = [file_name(pid, self.made, "usage"), file_name(pid, self.made, "stat")];
        let [usage, stat] =
            names.each_ref().map(|name| open_tree(&self.folder, name, OpenTreeFlags::OPEN_TREE_CLONE));
        let done = match (&usage, &stat) {
            (Ok(usage), Ok(stat)) => {
                let errand = Errand::Attach { process: about, usage, stat, shared, log };
                Ok(self.children.enter(&mounted, errand))
            }
            (Err(error), _) | (_, Err(error)) => Err(failed((*error).into())),
        };
        // Nobody opens them by name again: they go with what holds them. A file without a name cannot be mounted.
        for name in names {
            let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
        }
        let (kind, settings, total, real) = match done? {
            Ok((Entered::Done { kind, settings, total }, real)) => (kind, settings, total, real),
            Ok((Entered::Failed { why, left: false }, _)) => return Err(why),
            Ok((Entered::Failed { why, left: true }, _)) => {
                let _ = self.leave(mounted, "all");
                return Err(why);
            }
            Err(error) => {
                // It may have come half way.
                let _ = self.leave(mounted, "all");
                return Err(error.to_string());
            }
        };
        (mounted.kind, mounted.total, mounted.real) = (kind, total, real);
        for raylet in &mut mounted.raylets {
            raylet.said = Some((settings, Instant::now()));
        }
        let answer = Answer::Attached { pid, kind, settings, namespace: mounted.id };
        let handed: io::Result<Vec<OwnedFd>> =
            std::iter::once(&mounted.files.usage).chain(&mounted.real).map(OwnedFd::try_clone).collect();
        self.mounted.push(mounted);
        match handed {
            Ok(mut handed) => {
                handed.insert(1, readers);
                Ok((answer, handed))
            }
            Err(error) => {
                let _ = self.detach(pid);
                Err(failed(error))
            }
        }
    }

    /// Not in a user namespace of somebody's: what is mounted there is theirs to shape.
    fn check_user_namespace(&self, namespace: &OwnedFd) -> Result<(), String> {
        let owner = owner_of(namespace)
            .map_err(|error| format!("cannot find the owner of its mount namespace: {error}"))?;
        let own = std::fs::metadata(self.procfs.join("self/ns/user")).map_err(|error| error.to_string())?;
        if owner == own.ino() {
            return Ok(());
        }
        Err("its mount namespace belongs to a user namespace, which is never entered".to_owned())
    }

    fn make_files(&mut self, pid: Pid) -> io::Result<Files> {
        self.made += 1;
        let make = |what: &str| -> io::Result<OwnedFd> {
            let name = file_name(pid, self.made, what);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
            let file = rustix::fs::openat(&self.folder, name, flags, mode)?;
            rustix::fs::fchmod(&file, mode)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        Ok(Files { usage: make("usage")?, stat: make("stat")? })
    }
}

/// The kinds of files whose mounts spread to other namespaces, as far as is known, of the process with this folder in
/// procfs.
fn shared_places(dir: &Path) -> Result<String, String> {
    let mounts = std::fs::read(dir.join("mountinfo")).map_err(|error| {
        format!("cannot find out whether its mounts spread to others: mountinfo: {error}")
    })?;
    let mounts = String::from_utf8_lossy(&mounts);
    let places = [view::V2, view::V1, view::MEMINFO].into_iter().filter(|place| {
        mountinfo::is_shared(&mounts, &format!("/{}/{}", place.folder, place.usage)) != Some(false)
    });
    Ok(places.map(|place| enter::name(place.kind)).collect::<Vec<_>>().join(","))
}

fn file_name(pid: Pid, made: u64, what: &str) -> String {
    format!("{pid}-{made}-{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_raylet_said_lately_is_not_read_again() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open_unchecked(Pid(child.id())).unwrap();
        let pid = process.pid();
        let said = Some((Settings::of("", b"", Bytes(7)), Instant::now()));
        let raylet = Reader { process, start_time: 1, said };
        let mut mounted = Mounted::of_test(7, 1000);
        mounted.add(raylet);
        assert!(mounted.leave(pid));
        assert!(mounted.said(pid, 1, LATELY).is_some(), "also of one that was detached meanwhile");
        assert!(mounted.said(pid, 2, LATELY).is_none() && mounted.said(pid, 1, Duration::ZERO).is_none());
        assert!(!mounted.has_no_raylet());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(mounted.has_no_raylet());
    }

    #[test]
    fn mounts_that_cannot_be_read_count_as_shared() {
        let dir = tempfile::tempdir().unwrap();
        let why = shared_places(dir.path()).unwrap_err();
        assert!(why.contains("mountinfo"), "{why}");
        std::fs::write(dir.path().join("mountinfo"), "").unwrap();
        assert_eq!(shared_places(dir.path()).unwrap(), "v2,v1,meminfo", "nothing is known of them");
        std::fs::write(dir.path().join("mountinfo"), b"20 1 8:1 / / rw - ext4 /dev/\xff rw\n").unwrap();
        assert_eq!(shared_places(dir.path()).unwrap(), "");
    }
}
