//! The agent itself in a container, as the DaemonSet has it, beside containers of pods: the image of deploy/Containerfile.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::{binary, sandbox};
use serde_json::Value;
use tempfile::TempDir;

use super::daemon_set::DaemonSet;
use super::engine::{LEAK, Podman};
use super::output;

/// Names the static binary that `cargo xtask real-test` built.
const BINARY_VARIABLE: &str = "MONITOR_TEST_STATIC_BINARY";
const IMAGE: &str = "localhost/memory-monitor:test";
const POD: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const OTHER_POD: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
/// Where podman's package has its seccomp profile.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// A node: an engine, and the agent's container on it.
struct Node {
    podman: Podman,
    daemon_set: DaemonSet,
    _dir: TempDir,
}

impl Node {
    /// Starts the agent, with more options of `podman run`.
    fn new(sandbox: &Sandbox, options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("node-").tempdir().unwrap();
        let podman = Podman::new(sandbox);
        build_image(&podman, dir.path());
        let daemon_set = DaemonSet::read(dir.path());
        let settings = format!(
            "rules_mode = \"enforce\"\nusage_threshold = 0.75\ngear = \"near\"\ncgroups = [\"{}\"]\n",
            sandbox.path()
        );
        let rule = "[[rule]]\nname = \"own\"\nprotect = true\nmatch.exe = \"/opt/nothing\"\n";
        let mut run = podman.start("agent", "kubepods/burstable/podagent");
        daemon_set.options(&mut run, &settings, rule);
        output(run.args(options).arg(IMAGE).args(daemon_set.arguments()));
        let node = Self { podman, daemon_set, _dir: dir };
        let up = || Ok(node.probe().is_ok().then_some(()));
        if let Err(error) = wait_for("the startup probe to pass", PATIENCE, up) {
            panic!("{error:#}: {:?}\n{}", node.probe(), node.said());
        }
        node
    }

    /// The kubelet's: a command in the container.
    fn probe(&self) -> Result<(), String> {
        for probe in self.daemon_set.probes() {
            let out = self.podman.command("exec").arg("agent").args(&probe).output().unwrap();
            if !out.status.success() {
                return Err(format!("{probe:?}: {}", String::from_utf8_lossy(&out.stderr)));
            }
        }
        Ok(())
    }

    /// What it wrote, which is what `kubectl logs` shows.
    fn said(&self) -> String {
        let out = self.podman.command("logs").arg("agent").output().unwrap();
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
    }

    /// As a user of the node asks, through the socket in the folder that is the node's.
    fn ask(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(binary::monitor().unwrap());
        command.args(arguments).arg("--json").arg("--socket").arg(self.socket());
        serde_json::from_str(&output(&mut command)).unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.daemon_set.folder("run").join("monitor.sock")
    }

    /// The hooks, each with its state.
    fn hooks(&self) -> Vec<(String, String)> {
        let status = self.ask(&["status"]);
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        status["probes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (text(row, "name"), text(row, "state")))
            .collect()
    }

    /// It has the capabilities that the manifest names, and no way to more.
    fn check_privileges(&self) {
        let pid = self.podman.inspect("agent", "{{.State.Pid}}");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {status}")).trim()
        };
        let bits = format!("{:016x}", self.daemon_set.bits());
        assert_eq!((of("CapEff:"), of("CapBnd:")), (bits.as_str(), bits.as_str()));
        assert_eq!((of("NoNewPrivs:"), of("Seccomp:")), ("1", "2"));
    }

    /// Two pods; the container of one leaks, and dies for it. The other lives.
    fn guards_the_pods(&self) {
        let hold = "exec awk 'BEGIN { held = sprintf(\"%16777216s\", \"\"); while (1) system(\"sleep 1\") }'";
        // As the kubelet does, before it starts a container.
        let logs = self.daemon_set.folder("pod-logs");
        fs::create_dir(logs.join(format!("batch_train-7_{POD}"))).unwrap();
        let quiet = self.podman.run("quiet", &format!("kubepods/besteffort/pod{OTHER_POD}"), hold);
        let leak = self.podman.run("leak", &format!("kubepods/besteffort/pod{POD}"), LEAK);
        // What a container holds is looked at now and then: on a machine with many processes that takes its time.
        wait_for("two workers by rule", PATIENCE, || {
            Ok((self.ask(&["workers"]).as_array().unwrap().len() == 2).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}", self.said()));
        self.podman.go();
        let over = wait_for("a kill to be over", PATIENCE, || {
            let kills = self.ask(&["kills"]);
            let kill = kills[0].clone();
            Ok((kill["confirmed"] == true && kill["used_after"].is_number()).then_some(kill))
        });
        let kill = over.unwrap_or_else(|error| panic!("{error:#}: {}", self.said()));
        let victim = &kill["victims"][0];
        assert_eq!(
            (&victim["rule"], &victim["owner"], &victim["name"]),
            (
                &"kubernetes:best-effort".into(),
                &format!("pod-{POD}").into(),
                &format!("batch/train-7/libpod-{leak}").into()
            ),
            "{kill}"
        );
        assert!(kill["domain"].as_str().unwrap().ends_with(&format!("/libpod-{leak}")), "{kill}");
        assert_eq!(output(self.podman.command("wait").arg("leak")), "137");
        assert_eq!(self.podman.inspect("quiet", "{{.State.Status}}"), "running", "{quiet}");
        assert_eq!(self.ask(&["kills"]).as_array().unwrap().len(), 1);
        assert!(self.said().contains("batch/train-7"), "{}", self.said());
        // On the node, so that the next agent knows of it.
        assert!(self.daemon_set.folder("state").join("journal.jsonl").exists());
        self.probe().unwrap();
    }

    /// It ends when it is asked to, before the kubelet loses patience.
    fn stops(&self) {
        assert_eq!(output(self.podman.command("stop").args(["--time", "10", "agent"])), "agent");
        assert_eq!(self.podman.inspect("agent", "{{.State.ExitCode}}"), "0", "{}", self.said());
    }
}

/// Of the file that a release's image is built of.
fn build_image(podman: &Podman, dir: &Path) {
    let context = dir.join("context");
    fs::create_dir(&context).unwrap();
    let binary = std::env::var_os(BINARY_VARIABLE).unwrap();
    let name = format!("memory-monitor-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    fs::copy(binary, context.join(&name)).unwrap();
    fs::set_permissions(context.join(&name), fs::Permissions::from_mode(0o600)).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/Containerfile");
    output(podman.command("build").args(["--quiet", "--tag", IMAGE, "--file"]).arg(file).arg(context));
}

/// The profile of containerd from 1.7 and CRI-O from 1.29 on, as far as it matters here: what podman's package of Debian 12
/// has, and `bpf` and `perf_event_open` for containers that have the capabilities for these.
fn newer_profile(dir: &Path) -> PathBuf {
    let mut profile: Value = serde_json::from_slice(&fs::read(PROFILE).unwrap()).unwrap();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    for (call, capability) in [("bpf", "CAP_BPF"), ("perf_event_open", "CAP_PERFMON")] {
        // The ones that refuse it would be asked first.
        for rule in rules.iter_mut().filter(|rule| rule["action"] == "SCMP_ACT_ERRNO") {
            rule["names"].as_array_mut().unwrap().retain(|name| name != call);
        }
        rules.push(serde_json::json!({
            "names": [call], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {"caps": [capability]}, "excludes": {},
        }));
    }
    rules.retain(|rule| rule["names"].as_array().is_some_and(|names| !names.is_empty()));
    let file = dir.join("seccomp.json");
    fs::write(&file, profile.to_string()).unwrap();
    file
}

#[test]
#[ignore = "it needs podman: cargo xtask real-test agent"]
fn as_a_pod_of_the_daemon_set_it_has_its_hooks_and_guards_the_pods_beside_it() {
    let sandbox = sandbox!(400);
    let dir = tempfile::tempdir().unwrap();
    let profile = format!("seccomp={}", newer_profile(dir.path()).display());
    let node = Node::new(&sandbox, &["--cgroupns", "private", "--security-opt", &profile]);
    node.check_privileges();
    // Of those that count usage one is attached; nobody asked for the one that is loaded on request.
    let hooks = node.hooks();
    let asked = hooks.iter().filter(|(name, state)| (&**name, &**state) != ("charge", "off"));
    let mut others = asked.filter(|(_, state)| state != "attached");
    let (spare, more) = (others.next(), others.next());
    let counts =
        |(name, state): &(String, String)| ["memcg", "rss_stat"].contains(&&**name) && state == "detached";
    assert!(spare.is_none_or(counts) && more.is_none(), "{hooks:?}: {}", node.said());
    node.guards_the_pods();
    node.stops();
}

#[test]
#[ignore = "it needs podman: cargo xtask real-test agent"]
fn where_the_runtime_forbids_bpf_it_says_so_polls_and_guards_all_the_same() {
    let sandbox = sandbox!(400);
    let node = Node::new(&sandbox, &["--cgroupns", "host"]);
    node.check_privileges();
    let hooks = node.hooks();
    assert!(hooks.iter().all(|(_, state)| state == "denied" || state == "missing"), "{hooks:?}");
    assert!(node.said().contains("seccomp profile"), "{}", node.said());
    node.guards_the_pods();
    node.stops();
}
