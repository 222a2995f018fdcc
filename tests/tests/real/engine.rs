//! podman with runc, whose storage, state and cgroups are a test's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use tempfile::TempDir;

use super::{hierarchies, output};

/// Of Debian's static busybox.
pub(crate) const BUSYBOX: &str = "localhost/monitor-test:latest";

/// Until it is told to, it waits, with 16 MiB and a second process beside it; then it takes a MiB every 20 ms.
pub(crate) const LEAK: &str = r#"sleep 1000 &
    exec awk 'BEGIN { held[n++] = sprintf("%16777216s", ""); while (system("[ -e /shared/go ]")) system("sleep 0.1");
        while (1) { held[n++] = sprintf("%1048576s", ""); system("usleep 20000") } }'"#;

/// The engine. Dropped, it removes its containers and their cgroups.
pub(crate) struct Podman {
    dir: TempDir,
    sandbox: PathBuf,
}

impl Podman {
    /// One whose containers lie in cgroups below that of `sandbox`, with the image [`BUSYBOX`].
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let dir = tempfile::Builder::new().prefix("podman-").tempdir().unwrap();
        let config = "[engine]\nlock_type = \"file\"\nevents_logger = \"file\"\n";
        fs::write(dir.path().join("containers.conf"), config).unwrap();
        fs::create_dir(dir.path().join("shared")).unwrap();
        let podman = Self { dir, sandbox: sandbox.path().as_path().to_owned() };
        podman.make_image();
        podman
    }

    fn make_image(&self) {
        let root = self.dir.path().join("image");
        for folder in ["bin", "shared", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "awk", "usleep"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let tar = self.dir.path().join("image.tar");
        output(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
        output(self.command("import").arg(&tar).arg(BUSYBOX));
    }

    /// `podman SUBCOMMAND`, to be completed.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::new("podman");
        // conmon leaves a file where it is started when the kernel kills in a container.
        command.current_dir(self.dir.path());
        command.env("CONTAINERS_CONF", at("containers.conf")).env("HOME", at("home"));
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run")).arg("--tmpdir").arg(at("tmp"));
        // crun, which is podman's own choice, refuses a hierarchy of both versions.
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        command.arg(subcommand);
        command
    }

    /// `podman run` in the background, with its cgroup in this one of the sandbox; to be completed.
    pub(crate) fn start(&self, name: &str, parent: &str) -> Command {
        let mut run = self.command("run");
        run.args(["--detach", "--pull", "never", "--network", "none", "--name", name]);
        // Where root has not every capability, a limit cannot be above its own.
        run.args(["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=4096:4096"]);
        run.arg("--cgroup-parent").arg(self.sandbox.join(parent));
        run
    }

    /// Starts a container with a limit of 100 MiB; its id.
    pub(crate) fn run(&self, name: &str, parent: &str, script: &str) -> String {
        let mut run = self.start(name, parent);
        run.arg("--volume").arg(format!("{}:/shared", self.dir.path().join("shared").display()));
        output(run.args(["--memory", "100m", BUSYBOX, "/bin/sh", "-c", script]))
    }

    /// Tells [`LEAK`] to take memory.
    pub(crate) fn go(&self) {
        fs::write(self.dir.path().join("shared/go"), "").unwrap();
    }

    pub(crate) fn inspect(&self, name: &str, what: &str) -> String {
        output(self.command("inspect").args(["--format", what, name]))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command("rm").args(["--all", "--force", "--time", "0"]).output();
        // Of the memory hierarchy it is removed too. conmon leaves its cgroup a moment after its container.
        let _ = wait_for("empty cgroups", PATIENCE, || {
            hierarchies::remove(&self.sandbox);
            Ok((!hierarchies::exists(&self.sandbox)).then_some(()))
        });
    }
}
