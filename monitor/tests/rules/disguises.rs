//! Executables that only look protected, as real processes: none of them is. Those that need another user or a mount
//! namespace run as root only.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{monitor, stdout};

/// A process of a test, ended with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The real program that the rule protects: one that only root can change.
fn sleep() -> PathBuf {
    let sleep = ["/usr/bin/sleep", "/bin/sleep"].into_iter().map(Path::new).find(|path| path.exists());
    sleep.unwrap().canonicalize().unwrap()
}

fn start(program: &Path, name: &str) -> Running {
    let mut command = Command::new(program);
    command.arg0(name).arg("600").stdin(Stdio::null());
    Running(command.spawn().unwrap())
}

/// What protects each of these processes, if something does, while `exe` is protected.
fn protected(exe: &Path, processes: &[&Running]) -> Vec<Option<String>> {
    let dir = tempfile::tempdir().unwrap();
    let rule =
        format!("[[rule]]\nname = \"keep\"\nprotect = true\nmatch.exe = {:?}\n", exe.to_str().unwrap());
    fs::write(dir.path().join("keep.toml"), rule).unwrap();
    let answer = stdout(&mut monitor(&["rules", "--json", "--rules", dir.path().to_str().unwrap()]), 0);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let protected = answer["protected"].as_array().unwrap();
    let by = |pid: u32| {
        let found = protected.iter().find(|one| one["pid"] == pid);
        found.map(|one| one["rule"].as_str().unwrap().to_owned())
    };
    processes.iter().map(|running| by(running.0.id())).collect()
}

fn copy(to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(sleep(), to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_real_program_is_protected_and_its_disguises_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let real = start(&sleep(), "anything");
    // A copy of somebody's, under the same name; started as the protected program, too.
    let copied = dir.path().join("sleep");
    copy(&copied);
    let named = start(&copied, sleep().to_str().unwrap());
    // A program that was deleted, or replaced, while it runs.
    let gone = dir.path().join("gone/sleep");
    copy(&gone);
    let deleted = start(&gone, "sleep");
    fs::remove_file(&gone).unwrap();
    // A link that has the protected program's name leads to the copy.
    let link = dir.path().join("link/sleep");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(&copied, &link).unwrap();
    let linked = start(&link, "sleep");
    // An interpreter that runs a script of that name.
    let script = dir.path().join("script/sleep");
    fs::create_dir_all(script.parent().unwrap()).unwrap();
    fs::write(&script, "#!/bin/sh\nread x\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let interpreted = Running(Command::new(&script).stdin(Stdio::piped()).spawn().unwrap());
    let all = [&real, &named, &deleted, &linked, &interpreted];
    let keep = Some("keep".to_owned());
    assert_eq!(protected(&sleep(), &all), [keep, None, None, None, None]);
    // The rule's author named a file that others can replace: it protects nobody, whoever runs it.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(protected(&copied.canonicalize().unwrap(), &[&named]), [None]);
}

#[test]
fn a_bind_mount_in_a_namespace_of_its_own_protects_nobody() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root makes a mount namespace here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let copied = dir.path().join("disguised");
    copy(&copied);
    let target = sleep();
    // In its namespace the copy lies over the real program, so that the path that the kernel tells is the real one's.
    let script = "mount --make-rprivate / && mount --bind \"$1\" \"$2\" && exec \"$2\" 600";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&copied).arg(&target).stdin(Stdio::null());
    let disguised = Running(command.spawn().unwrap());
    let link = format!("/proc/{}/exe", disguised.0.id());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while fs::read_link(&link).is_ok_and(|exe| exe != target) {
        if std::time::Instant::now() > deadline {
            eprintln!("skipped: no mount namespace could be made here");
            return;
        }
        std::thread::yield_now();
    }
    let real = start(&target, "sleep");
    assert_eq!(protected(&target, &[&disguised, &real]), [None, Some("keep".to_owned())]);
}

/// Another user's process that this one, root's, forked: `orphan` forks once more, and its parent is gone. Both end with the
/// returned pipe.
fn forked(orphan: bool) -> (u32, std::io::PipeWriter) {
    let (mut lasts, end) = std::io::pipe().unwrap();
    let (mut told, mut tell) = std::io::pipe().unwrap();
    // SAFETY: the child makes system calls on descriptors that it has, and ends; it allocates nothing and takes no lock.
    let first = unsafe { libc::fork() };
    if first == 0 {
        // SAFETY: as above.
        if unsafe { libc::setuid(60_001) } != 0 || orphan && unsafe { libc::fork() } != 0 {
            // SAFETY: it runs nothing that this process registered.
            unsafe { libc::_exit(0) };
        }
        let _ = std::io::Write::write_all(&mut tell, &std::process::id().to_ne_bytes());
        drop(end);
        let _ = std::io::Read::read(&mut lasts, &mut [0]);
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    let mut pid = [0; 4];
    std::io::Read::read_exact(&mut told, &mut pid).unwrap();
    let pid = u32::from_ne_bytes(pid);
    while orphan && fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(&format!(" S {first} "))
    {
        // SAFETY: a child of this process, which nobody else waits for.
        unsafe { libc::waitpid(first, std::ptr::null_mut(), 0) };
    }
    (pid, end)
}

#[test]
fn what_root_forked_for_a_user_is_the_systems_and_what_a_user_runs_is_not() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root makes processes of other users");
        return;
    }
    let exe = std::env::current_exe().unwrap().canonicalize().unwrap();
    if exe.ancestors().any(|part| fs::metadata(part).is_ok_and(|found| found.mode() & 0o002 != 0)) {
        eprintln!("skipped: {} can be changed by others", exe.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rule = format!(
        "[[rule]]\nname = \"keep\"\nprotect = true\nmatch.user = \"@system\"\nmatch.exe = [{:?}, {:?}]\n",
        exe.to_str().unwrap(),
        sleep().to_str().unwrap()
    );
    fs::write(dir.path().join("keep.toml"), rule).unwrap();
    let mut theirs = Command::new(sleep());
    theirs.arg("600").stdin(Stdio::null());
    let roots = Running(theirs.spawn().unwrap());
    let theirs = Running(theirs.uid(60_001).spawn().unwrap());
    let ((session, _one), (orphan, _two)) = (forked(false), forked(true));
    let answer = stdout(&mut monitor(&["rules", "--json", "--rules", dir.path().to_str().unwrap()]), 0);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let protected = answer["protected"].as_array().unwrap();
    let by =
        |pid: u32| protected.iter().find(|one| one["pid"] == pid).map(|one| one["rule"].as_str().unwrap());
    assert_eq!([by(roots.0.id()), by(theirs.0.id())], [Some("keep"), None]);
    assert_eq!([by(session), by(orphan)], [Some("keep"), None]);
}

/// A cgroup of a test in the memory controller's hierarchy, removed with it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(path: PathBuf, uid: u32) -> Option<Self> {
        fs::create_dir(&path).ok()?;
        std::os::unix::fs::chown(&path, Some(uid), None).ok()?;
        Some(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What was in it may take a moment to be gone.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while fs::remove_dir(&self.0).is_err() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_real_cgroup_that_a_user_made_is_no_container_and_one_that_root_made_is() {
    let memory = Path::new("/sys/fs/cgroup/memory");
    let root = if memory.is_dir() { memory } else { Path::new("/sys/fs/cgroup") };
    let user = 60_001;
    let outer = root.join(format!("rules-test-{}", std::process::id()));
    let Some(_outer) = Cgroup::make(outer.clone(), user) else {
        eprintln!("skipped: no cgroup can be made here");
        return;
    };
    let look = |path: &Path, uid: u32| -> Value {
        let made = Cgroup::make(path.to_owned(), uid).unwrap();
        let running = start(&sleep(), "sleep");
        fs::write(path.join("cgroup.procs"), running.0.id().to_string()).unwrap();
        let answer = stdout(&mut monitor(&["rules", "--json", "--preset", "containers"]), 0);
        drop(running);
        drop(made);
        serde_json::from_str(&answer).unwrap()
    };
    let id = format!("{:064x}", std::process::id());
    let cgroup = |answer: &Value, list: &str| {
        let all = answer[list].as_array().unwrap();
        all.iter().any(|one| one["cgroup"].as_str().is_some_and(|path| path.contains(&id)))
    };
    // Delegated: the cgroup around it is the user's, and so it could be called anything.
    let answer = look(&outer.join(format!("docker-{id}.scope")), user);
    assert!(cgroup(&answer, "refused") && !cgroup(&answer, "workers"));
    let answer = look(&root.join(format!("docker-{id}.scope")), 0);
    assert!(cgroup(&answer, "workers") && !cgroup(&answer, "refused"));
}
