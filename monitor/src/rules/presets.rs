//! The presets: rules that are compiled in, as the TOML files that they are. `system` is in force always.

use std::sync::Arc;

use super::RuleSpec;
use super::parse::{self, ParseError};

/// Rules that are compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is about, in a few words.
    pub about: &'static str,
    /// The file.
    pub toml: &'static str,
}

macro_rules! presets {
    ($($name:literal: $about:literal,)*) => {
        &[$(Preset { name: $name, about: $about, toml: include_str!(concat!("presets/", $name, ".toml")) },)*]
    };
}

/// The preset that is always in force.
pub const SYSTEM: &str = "system";

/// All presets, in the order in which they are listed.
pub static PRESETS: &[Preset] = presets! {
    "ray": "workers of Ray, by raylet",
    "kubernetes": "containers of pods, by their class of service",
    "containers": "containers of docker, podman and nerdctl",
    "systemd": "transient units, and what users run in their sessions",
    "slurm": "steps of jobs",
    "dask": "worker processes of Dask",
    "pytest-xdist": "worker processes of pytest -n",
    "jupyter": "kernels of notebooks",
    "joblib": "worker processes of joblib (loky)",
    "multiprocessing": "worker processes of Python's pools (spawn, forkserver)",
    "spark": "executors of Spark",
    "gitlab-runner": "jobs of the shell executor",
    "github-runner": "steps of GitHub Actions",
    "buildkite": "commands of jobs",
    "system": "what is never a worker; always in force",
};

/// The preset of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// In place of a file's name, for its rules.
#[must_use]
pub fn file_name(name: &str) -> String {
    format!("preset {name}")
}

/// The names of all presets that can be chosen, for messages.
#[must_use]
pub fn names() -> String {
    PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}

impl Preset {
    /// Its rules as written.
    ///
    /// # Errors
    /// None: they are tested. The type is that of reading any file.
    pub fn rules(&self) -> Result<Vec<RuleSpec>, Vec<ParseError>> {
        parse::rules(&Arc::from(file_name(self.name)), self.toml)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Facts, Judgement, Profile, Rules, Whose};
    use crate::units::Pid;

    #[test]
    fn what_the_system_needs_is_protected_wherever_it_is_installed() {
        let rules = Rules::compile(&by_name(SYSTEM).unwrap().rules().unwrap(), None).unwrap();
        let protected = |exe: &str, whose| {
            let facts = Facts { exe: Some(exe.as_bytes()), exe_trusted: true, whose, ..Facts::of(Pid(10)) };
            let profile = Profile::new(facts, Arc::new(rules.place(b"/system.slice/x.service", 0)));
            matches!(rules.judge(&profile, None), Judgement::Protected { .. })
        };
        for exe in [
            "/usr/sbin/sshd",
            "/nix/store/abc-openssh-9.9p1/bin/sshd",
            "/nix/store/abc-systemd-256/lib/systemd/systemd-journald",
            "/nix/store/abc-dbus-1.14/bin/dbus-daemon",
            "/nix/store/abc-gdm-47/bin/.gdm-x-wrapped",
            "/usr/libexec/sssd/sssd_be",
            "/usr/sbin/lightdm",
            "/usr/bin/sddm",
            "/usr/libexec/gdm-session-worker",
            "/usr/lib/xorg/Xorg",
            "/snap/microk8s/7038/kubelite",
            "/snap/microk8s/7038/bin/containerd-shim-runc-v2",
            "/usr/local/bin/k0s",
            "/var/lib/k0s/bin/kube-apiserver",
            "/usr/local/bin/k3s",
            "/var/lib/rancher/k3s/data/abc/bin/k3s",
            "/var/lib/rancher/rke2/data/v1.30/bin/kubelet",
            "/usr/bin/mount",
            "/sbin/mount.nfs",
            "/usr/bin/ceph-fuse",
            "/opt/slurm/sbin/slurmd",
        ] {
            assert!(protected(exe, Whose::System), "{exe}");
            assert!(!protected(exe, Whose::User), "{exe}");
        }
        for exe in
            ["/usr/bin/python3", "/nix/store/abc-python3/bin/python3", "/opt/sshd-leak", "/usr/bin/mountain"]
        {
            assert!(!protected(exe, Whose::System), "{exe}");
        }
    }

    #[test]
    fn all_presets_together_compile_and_have_comments_for_people() {
        let mut all = Vec::new();
        for preset in PRESETS {
            assert!(preset.toml.starts_with("# "), "{}", preset.name);
            let rules = preset.rules().unwrap();
            for rule in &rules {
                let name = &rule.name.as_ref().unwrap().value;
                assert!(name.starts_with(&format!("{}:", preset.name)), "{name}");
                let protects = rule.protect.as_ref().is_some_and(|protect| protect.value);
                assert_eq!(protects, preset.name == SYSTEM, "{name}");
                // A preset that someone names must not kill before they said so.
                assert!(rule.mode.as_ref().is_none_or(|mode| mode.value.as_str() == "observe"), "{name}");
            }
            all.extend(rules);
        }
        let errors = Rules::compile(&all, None).map(|_| ());
        assert_eq!(errors, Ok(()));
    }
}
