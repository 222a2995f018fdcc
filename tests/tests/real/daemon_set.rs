//! The DaemonSet of deploy/kubernetes, as `podman run` has it: the same namespaces, capabilities, mounts and users. What
//! podman has no word for is the kubelet's, and is done here as the kubelet does it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Names the manifests as JSON, an array: `cargo xtask real-test` makes them.
const MANIFESTS_VARIABLE: &str = "MONITOR_TEST_MANIFESTS";

/// Every capability has its bit here (linux/capability.h), in this order.
const CAPABILITIES: [(&str, u32); 8] = [
    ("KILL", 5),
    ("DAC_READ_SEARCH", 2),
    ("IPC_LOCK", 14),
    ("SYS_PTRACE", 19),
    ("SYS_NICE", 23),
    ("SYS_RESOURCE", 24),
    ("PERFMON", 38),
    ("BPF", 39),
];

/// Its pod's template, and folders of this test's own in place of the node's that the agent writes to.
pub(crate) struct DaemonSet {
    pod: Value,
    configuration: Value,
    dir: PathBuf,
}

impl DaemonSet {
    /// Folders are made in `dir`.
    pub(crate) fn read(dir: &Path) -> Self {
        let file = std::env::var_os(MANIFESTS_VARIABLE).unwrap();
        let manifests: Vec<Value> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let of = |kind: &str| {
            let found = manifests.iter().find(|one| one["kind"] == kind);
            found.unwrap_or_else(|| panic!("no {kind} in {manifests:?}")).clone()
        };
        Self {
            pod: of("DaemonSet")["spec"]["template"]["spec"].clone(),
            configuration: of("ConfigMap")["data"].clone(),
            dir: dir.to_owned(),
        }
    }

    fn container(&self) -> &Value {
        &self.pod["containers"][0]
    }

    /// Where what lies in the volume of this name on the node.
    pub(crate) fn folder(&self, volume: &str) -> PathBuf {
        self.dir.join(volume)
    }

    /// The options of `podman run`, image and arguments aside. `settings` and `rules` are added to the configuration.
    pub(crate) fn options(&self, run: &mut Command, settings: &str, rules: &str) {
        assert_eq!((&self.pod["hostPID"], &self.pod["hostNetwork"]), (&true.into(), &Value::Null));
        run.args(["--pid", "host"]);
        let context = &self.container()["securityContext"];
        assert_eq!(context["privileged"], false);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
        run.args(["--cap-drop", "ALL"]);
        for capability in self.capabilities().intersection(&bounding()) {
            run.args(["--cap-add", capability]);
        }
        assert_eq!(context["allowPrivilegeEscalation"], false);
        run.args(["--security-opt", "no-new-privileges"]);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        run.args(["--read-only", "--read-only-tmpfs=false"]);
        let user = &self.pod["securityContext"];
        run.args(["--user", &format!("{}:{}", user["runAsUser"], user["runAsGroup"])]);
        for volume in self.pod["volumes"].as_array().unwrap() {
            let name = volume["name"].as_str().unwrap();
            let folder = self.volume(name, volume, settings, rules);
            let mounts = self.container()["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap();
            let mode = if mount["readOnly"] == true { ":ro" } else { "" };
            let to = mount["mountPath"].as_str().unwrap();
            run.arg("--volume").arg(format!("{}:{to}{mode}", folder.display()));
        }
    }

    /// What the container is started with.
    pub(crate) fn arguments(&self) -> Vec<&str> {
        strings(&self.container()["args"])
    }

    /// What the kubelet runs in the container to see whether it is well.
    pub(crate) fn probes(&self) -> Vec<Vec<&str>> {
        ["startupProbe", "readinessProbe", "livenessProbe"]
            .map(|probe| strings(&self.container()[probe]["exec"]["command"]))
            .to_vec()
    }

    /// Without the leading `CAP_`.
    pub(crate) fn capabilities(&self) -> BTreeSet<&str> {
        strings(&self.container()["securityContext"]["capabilities"]["add"]).into_iter().collect()
    }

    /// Their bits, as /proc/PID/status has them; those that this machine can give.
    pub(crate) fn bits(&self) -> u64 {
        let given = self.capabilities();
        let given = given.intersection(&bounding()).copied().collect::<BTreeSet<_>>();
        let bits = CAPABILITIES.iter().filter(|(name, _)| given.contains(name)).map(|(_, bit)| 1 << bit);
        bits.sum()
    }

    /// The folder on the node that becomes this volume.
    fn volume(&self, name: &str, volume: &Value, settings: &str, rules: &str) -> PathBuf {
        if name == "config" {
            return self.configuration(settings, rules);
        }
        let path = PathBuf::from(volume["hostPath"]["path"].as_str().unwrap());
        // The kernel's are what they are.
        if path.starts_with("/sys") {
            return path;
        }
        fs::create_dir_all(self.folder(name)).unwrap();
        self.folder(name)
    }

    /// As the kubelet lays a projected volume out: everybody may add files to it, and what is in it are links.
    fn configuration(&self, settings: &str, rules: &str) -> PathBuf {
        let folder = self.folder("config");
        let data = folder.join("..2026_01_31");
        fs::create_dir_all(data.join("rules.d")).unwrap();
        let given = self.configuration["monitor.toml"].as_str().unwrap();
        assert!(given.contains("dry_run = true"), "a fresh installation kills nobody: {given}");
        let text = format!("{}\n{settings}", given.replace("dry_run = true", ""));
        fs::write(data.join("monitor.toml"), text).unwrap();
        fs::write(data.join("rules.d/10-own.toml"), rules).unwrap();
        symlink("..2026_01_31", folder.join("..data")).unwrap();
        for name in ["monitor.toml", "rules.d"] {
            symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
        folder
    }
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect()
}

/// What root may have on this machine: a container of its own can be without some.
fn bounding() -> BTreeSet<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    let set = u64::from_str_radix(set.trim(), 16).unwrap();
    CAPABILITIES.iter().filter(|(_, bit)| set & (1 << bit) != 0).map(|(name, _)| *name).collect()
}
