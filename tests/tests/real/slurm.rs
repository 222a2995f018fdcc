//! Slurm (slurmctld, slurmd, munge) on one node, and the preset `slurm`.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use monitor::memory::Version;
use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::{die_with_parent, lives};
use monitor_tests::{binary, sandbox};
use serde_json::Value;
use tempfile::TempDir;

use super::{hierarchies, one_kill, output};

/// A batch system whose daemons, ports and folders are this test's own.
struct Slurm {
    dir: TempDir,
    node: String,
    daemons: Vec<Child>,
}

impl Slurm {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("slurm-").tempdir().unwrap();
        let node = format!("mt{}", std::process::id());
        for folder in ["state", "spool"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let slurm = Self { dir, node, daemons: Vec::new() };
        slurm.configure();
        let mut slurm = slurm;
        slurm.authenticate();
        slurm.daemon("slurmctld", &["-D"]);
        slurm.daemon("slurmd", &["-D"]);
        let idle = || {
            Ok((slurm.client("sinfo").args(["-h", "-o", "%T"]).output()?.stdout == b"idle\n").then_some(()))
        };
        if let Err(error) = wait_for("an idle node", 2 * PATIENCE, idle) {
            panic!("{error:#}\n{}\n{}", slurm.log("slurmctld"), slurm.log("slurmd"));
        }
        slurm
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self) {
        let host = output(Command::new("hostname").arg("-s"));
        let (node, dir) = (&self.node, self.dir.path().display());
        // Both are held until both are known.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [control, daemon] = ports.map(|port| port.local_addr().unwrap().port());
        let conf = format!(
            "ClusterName=monitor-test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={dir}/munge.socket\nCredType=cred/munge\n\
             CommunicationParameters=NoInAddrAny,NoCtldInAddrAny\nSlurmctldPort={control}\nSlurmdPort={daemon}\n\
             StateSaveLocation={dir}/state\nSlurmdSpoolDir={dir}/spool\nSlurmctldPidFile={dir}/slurmctld.pid\n\
             SlurmdPidFile={dir}/slurmd.pid\nProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core_Memory\nMpiDefault=none\nReturnToService=2\n\
             NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN\n\
             PartitionName=all Nodes={node} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4\n"
        );
        fs::write(self.at("slurm.conf"), conf).unwrap();
        let cgroup = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainRAMSpace=yes\n";
        fs::write(self.at("cgroup.conf"), cgroup).unwrap();
    }

    fn authenticate(&mut self) {
        fs::write(self.at("munge.key"), [7; 1024]).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode;
        fs::set_permissions(self.at("munge.key"), mode(0o600)).unwrap();
        let mut options = vec!["--foreground".to_owned(), "--force".to_owned()];
        for (option, file) in [
            ("key-file", "munge.key"),
            ("socket", "munge.socket"),
            ("pid-file", "munge.pid"),
            ("log-file", "munge.log"),
            ("seed-file", "munge.seed"),
        ] {
            options.push(format!("--{option}={}", self.at(file).display()));
        }
        self.daemon("munged", &options.iter().map(String::as_str).collect::<Vec<_>>());
        let socket = self.at("munge.socket");
        let there = wait_for("munge", PATIENCE, || Ok(socket.exists().then_some(())));
        there.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log("munged")));
    }

    fn daemon(&mut self, name: &str, options: &[&str]) {
        let log = File::create(self.at(&format!("{name}.out"))).unwrap();
        let mut command = self.client(name);
        command.args(options).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        die_with_parent(&mut command);
        self.daemons.push(command.spawn().unwrap_or_else(|error| panic!("{name}: {error}")));
    }

    /// A program of Slurm's, for this Slurm.
    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        // Daemons are where a user's PATH need not go.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("SLURM_CONF", self.at("slurm.conf")).current_dir(self.dir.path());
        command
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.at(&format!("{name}.out"))).unwrap_or_default()
    }

    fn srun(&self, mib: u64) -> Command {
        let mut command = self.client("srun");
        command.args(["-n1", "--cpus-per-task=1", &format!("--mem={mib}M")]);
        command
    }

    fn cgroup(&self) -> PathBuf {
        format!("/slurm_{}", self.node).into()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let _ = self.client("scancel").args(["--signal=KILL", "--user=root"]).output();
        let gone = || Ok(self.client("squeue").arg("-h").output()?.stdout.is_empty().then_some(()));
        let _ = wait_for("jobs to end", Duration::from_secs(10), gone);
        // slurmd before those that it needs.
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        hierarchies::remove(&self.cgroup());
    }
}

#[test]
#[ignore = "it needs Slurm: cargo xtask real-test slurm"]
fn a_job_step_is_killed_and_slurmd_and_the_job_beside_it_go_on() {
    let sandbox = sandbox!(100);
    if sandbox.version() == Version::V2 {
        panic!("this test is made for cgroup v1");
    }
    let slurm = Slurm::start();
    let steps = slurm.cgroup();
    let flags = ["--usage-threshold=0.75", "--preset=slurm", "--rules-mode=enforce", "--cgroup"];
    let agent = Agent::guard(&sandbox, flags.into_iter().chain([steps.to_str().unwrap()])).unwrap();
    let mut quiet = slurm.srun(100);
    quiet.args(["sleep", "1000"]).stdin(Stdio::null());
    die_with_parent(&mut quiet);
    let mut quiet = quiet.spawn().unwrap();
    wait_for("a worker by rule", PATIENCE, || {
        let workers: Vec<Value> = agent.ask("workers")?;
        // slurmstepd, which is in the step's cgroup, is protected.
        Ok((!workers.is_empty() && workers.iter().all(|row| row["rule"] == "slurm:task-v1")).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}\n{}", agent.said().join("\n"), slurm.log("slurmd")));

    // Some two seconds below the threshold: longer than from one look to the next.
    let hog = Hog::new(190).rate(50);
    let mut leak = slurm.srun(200);
    let ended = leak.arg(binary::hog().unwrap()).args(hog.args()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let kill = one_kill(&agent);
    assert_eq!(
        (&kill["victims"][0]["rule"], &kill["left_to"]),
        (&"slurm:task-v1".into(), &Value::Null),
        "{kill}"
    );
    assert!(kill["domain"].as_str().unwrap().starts_with(&format!("cgroup:{}/", steps.display())), "{kill}");
    // 128 and SIGKILL; Slurm speaks of memory only where the kernel killed.
    assert_eq!(ended.status.code(), Some(137), "{said}");
    assert!(said.contains("Killed") && !said.contains("Out Of Memory"), "{said}");

    assert_eq!(quiet.try_wait().unwrap(), None, "the job beside it");
    let slurmd = slurm.daemons.last().unwrap().id();
    assert!(lives(slurmd).unwrap(), "{}", slurm.log("slurmd"));
    assert_eq!(output(slurm.srun(50).args(["echo", "again"])), "again");
    assert_eq!(output(slurm.client("sinfo").args(["-h", "-o", "%T"])), "mixed");
    drop(slurm);
    quiet.wait().unwrap();
}
