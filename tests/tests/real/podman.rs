//! podman with runc and the preset `containers`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::{Process, lives};
use monitor_tests::sandbox;
use serde_json::Value;
use tempfile::TempDir;

use super::{hierarchies, one_kill, output};

const IMAGE: &str = "localhost/monitor-test:latest";

/// Until it is told to, it waits, with a second process beside it; then it takes a MiB every 20 ms.
const LEAK: &str = r#"sleep 1000 & while [ ! -e /shared/go ]; do sleep 0.1; done
    exec awk 'BEGIN { while (1) { held[n++] = sprintf("%1048576s", ""); system("usleep 20000") } }'"#;

/// An engine whose storage, state and cgroups are this test's own.
struct Podman {
    dir: TempDir,
    /// The cgroup of its containers.
    parent: PathBuf,
}

impl Podman {
    fn new(sandbox: &Sandbox) -> Self {
        let dir = tempfile::Builder::new().prefix("podman-").tempdir().unwrap();
        let config = "[engine]\nlock_type = \"file\"\nevents_logger = \"file\"\n";
        fs::write(dir.path().join("containers.conf"), config).unwrap();
        fs::create_dir(dir.path().join("shared")).unwrap();
        let podman = Self { dir, parent: sandbox.path().as_path().join("libpod_parent") };
        podman.make_image();
        podman
    }

    /// Of Debian's static busybox.
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
        output(self.command("import").arg(&tar).arg(IMAGE));
    }

    fn command(&self, subcommand: &str) -> Command {
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", at("containers.conf")).env("HOME", at("home"));
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run")).arg("--tmpdir").arg(at("tmp"));
        // crun, which is podman's own choice, refuses a hierarchy of both versions.
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        command.arg(subcommand);
        command
    }

    /// Starts a container with a limit of 100 MiB; its id.
    fn run(&self, name: &str, script: &str) -> String {
        let mut run = self.command("run");
        run.args(["--detach", "--pull", "never", "--network", "none", "--memory", "100m", "--name", name]);
        // Where root has not every capability, a limit cannot be above its own.
        run.args(["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=4096:4096"]);
        run.arg("--cgroup-parent").arg(&self.parent);
        run.arg("--volume").arg(format!("{}:/shared", self.dir.path().join("shared").display()));
        output(run.args([IMAGE, "/bin/sh", "-c", script]))
    }

    fn inspect(&self, name: &str, what: &str) -> String {
        output(self.command("inspect").args(["--format", what, name]))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command("rm").args(["--all", "--force", "--time", "0"]).output();
        hierarchies::remove(&self.parent);
        self.parent.pop();
        hierarchies::remove(&self.parent);
    }
}

#[test]
#[ignore = "it needs podman: cargo xtask real-test podman"]
fn a_container_is_killed_whole_and_podman_and_the_one_beside_it_go_on() {
    let sandbox = sandbox!(400);
    let agent =
        Agent::guard(&sandbox, ["--usage-threshold=0.75", "--preset=containers", "--rules-mode=enforce"])
            .unwrap();
    let podman = Podman::new(&sandbox);
    let quiet = podman.run("quiet", "sleep 1000; true");
    let leak = podman.run("leak", LEAK);
    let conmon: u32 = podman.inspect("quiet", "{{.State.ConmonPid}}").parse().unwrap();
    let leaks: u32 = podman.inspect("leak", "{{.State.Pid}}").parse().unwrap();
    let its_conmon: u32 = podman.inspect("leak", "{{.State.ConmonPid}}").parse().unwrap();
    let its_conmon = Process::open(its_conmon).unwrap().unwrap();
    wait_for("two workers by rule", PATIENCE, || {
        let workers: Vec<Value> = agent.ask("workers")?;
        let of =
            |id: &String| workers.iter().any(|row| row["name"] == **id && row["rule"] == "containers:podman");
        Ok((workers.len() == 2 && of(&quiet) && of(&leak)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:#?}", agent.ask::<Value>("workers")));

    fs::write(podman.dir.path().join("shared/go"), "").unwrap();
    let kill = one_kill(&agent);
    assert_eq!(
        (&kill["victims"][0]["name"], &kill["victims"][0]["pid"]),
        (&leak.as_str().into(), &leaks.into())
    );
    assert!(kill["domain"].as_str().unwrap().ends_with(&format!("libpod-{leak}")), "{kill}");
    // All of it, the process beside the one that leaked too.
    assert_eq!(output(podman.command("wait").arg("leak")), "137");
    let state = podman.inspect("leak", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}");
    assert_eq!(state, "exited 137 false", "podman knows of the kernel's kills only");
    let dir = sandbox.dir().join("libpod_parent").join(format!("libpod-{leak}"));
    wait_for("its cgroup to be gone", PATIENCE, || Ok((!dir.exists()).then_some(()))).unwrap();
    // Its conmon ended because its container did, which it has written down above.
    wait_for("its conmon to end", PATIENCE, || Ok(its_conmon.is_dead()?.then_some(()))).unwrap();

    assert_eq!(podman.inspect("quiet", "{{.State.Status}}"), "running");
    assert!(lives(conmon).unwrap(), "the conmon of the other one");
    let why: Value =
        serde_json::from_str(&output(agent.command("why").unwrap().arg(leaks.to_string()).arg("--json")))
            .unwrap();
    assert_eq!(why["killed_by"], "monitor", "{why}");
    assert_eq!(output(podman.command("stop").args(["--time", "0", "quiet"])), "quiet");
    assert_eq!(agent.kills().unwrap().len(), 1);
}
