//! What the pods of Kubernetes are called. The kubelet names a pod's cgroup by the pod's uid, and keeps a directory
//! `NAMESPACE_NAME_UID` for the logs of each: no cluster is asked.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::memory::CgroupPath;

/// Where the kubelet keeps logs; in a container it is mounted at the same place.
const LOGS: &str = "/var/log/pods";

/// `NAMESPACE/NAME` of the pod whose cgroup this is or lies in; its uid if there are no logs of it. `None`: no pod.
pub(super) fn of(cgroup: &CgroupPath) -> Option<String> {
    let uid = uid(cgroup.as_path())?;
    Some(name(Path::new(LOGS), &uid).unwrap_or(uid))
}

/// Both drivers have it: `/kubepods/burstable/podUID`, `kubepods-burstable-podUID.slice`, where `_` stands for `-`.
fn uid(cgroup: &Path) -> Option<String> {
    let names: Vec<&str> = cgroup.iter().filter_map(OsStr::to_str).collect();
    let place = names.iter().position(|name| name.ends_with("kubepods") || name.contains("kubepods-"))?;
    names.get(place..)?.iter().find_map(|name| match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod").map(|(_, uid)| uid.replace('_', "-")),
        None => name.strip_prefix("pod").map(str::to_owned),
    })
}

fn name(logs: &Path, uid: &str) -> Option<String> {
    fs::read_dir(logs).ok()?.flatten().find_map(|entry| {
        let directory = entry.file_name();
        // None of the three has an underscore in it.
        let mut parts = directory.to_str()?.splitn(3, '_');
        let (namespace, name) = (parts.next()?, parts.next()?);
        (parts.next()? == uid).then(|| format!("{namespace}/{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    #[test]
    fn both_drivers_name_a_pod_by_its_uid() {
        let slice = UID.replace('-', "_");
        for cgroup in [
            format!("/kubepods/besteffort/pod{UID}/0123"),
            format!("/kubepods/pod{UID}"),
            format!("/a/kubepods/burstable/pod{UID}/0123/inner"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-1.scope"
            ),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/crio-1.scope/container"
            ),
        ] {
            assert_eq!(uid(Path::new(&cgroup)).as_deref(), Some(UID), "{cgroup}");
        }
        for cgroup in ["/", "/machine.slice/podman-1.scope", "/podman/podx", "/kubepods/burstable"] {
            assert_eq!(uid(Path::new(cgroup)), None, "{cgroup}");
        }
    }

    #[test]
    fn the_directory_of_its_logs_has_its_name() {
        let logs = tempfile::tempdir().unwrap();
        for name in ["kube-system_coredns-1_aa", &format!("batch_train-7_{UID}"), "stray", "a_b"] {
            fs::create_dir(logs.path().join(name)).unwrap();
        }
        assert_eq!(name(logs.path(), UID).as_deref(), Some("batch/train-7"));
        assert_eq!(name(logs.path(), "bb"), None);
        assert_eq!(name(&logs.path().join("none"), UID), None);
        let unknown = CgroupPath::new(OsStr::new("/kubepods/podno-such-uid/1")).unwrap();
        assert_eq!(of(&unknown).as_deref(), Some("no-such-uid"));
    }
}
