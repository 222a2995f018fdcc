//! Finding hierarchy and cgroups on fixture trees.

use rstest::rstest;

use super::super::fixture::{MIB, Tree, cgroup};
use super::*;

#[rstest]
#[case("v1", Version::V1, "cgroup/memory")]
#[case("v2", Version::V2, "cgroup")]
#[case("hybrid", Version::V1, "cgroup/memory")]
fn the_memory_hierarchy_is_found(#[case] name: &str, #[case] version: Version, #[case] root: &str) {
    let tree = Tree::of(name);
    let hierarchy = tree.hierarchy().unwrap();
    assert_eq!(hierarchy.version(), version);
    assert_eq!(hierarchy.dir(&CgroupPath::root()), tree.path(root));
    assert_eq!(hierarchy.cgroup_of(&tree.roots.procfs, Pid(40)), Ok(cgroup("/box/inner/small")));
}

#[test]
fn a_hybrid_mount_with_memory_in_v2_is_found_too() {
    let tree = Tree::of("v2");
    std::fs::rename(tree.path("cgroup"), tree.path("unified")).unwrap();
    std::fs::create_dir(tree.path("cgroup")).unwrap();
    std::fs::rename(tree.path("unified"), tree.path("cgroup/unified")).unwrap();
    let hierarchy = tree.hierarchy().unwrap();
    assert_eq!(
        (hierarchy.version(), hierarchy.dir(&cgroup("/"))),
        (Version::V2, tree.path("cgroup/unified"))
    );
}

#[test]
fn a_v2_child_called_memory_is_no_v1_hierarchy() {
    let tree = Tree::of("v2");
    tree.write("cgroup/memory/memory.max", "max\n");
    assert_eq!(tree.hierarchy().unwrap().version(), Version::V2);
}

#[test]
fn no_hierarchy_is_said_so() {
    let tree = Tree::of("v1");
    std::fs::remove_dir_all(tree.path("cgroup/memory")).unwrap();
    assert!(matches!(tree.hierarchy(), Err(ReadError::NoController { .. })));
}

#[test]
fn a_v2_root_without_the_controller_is_named_as_the_cause() {
    let tree = Tree::of("v2");
    tree.write("cgroup/cgroup.controllers", "cpu io\n");
    tree.remove("cgroup/box/memory.max");
    let hierarchy = tree.hierarchy().unwrap();
    assert!(matches!(hierarchy.open(&cgroup("/box")), Err(ReadError::NoController { .. })));
}

#[rstest]
#[case("v1")]
#[case("v2")]
fn limits_are_found_from_the_inside_out(#[case] name: &str) {
    let tree = Tree::of(name);
    let found = tree.hierarchy().unwrap().limited(&cgroup("/box/inner/small"));
    assert_eq!(
        found,
        [(cgroup("/box/inner/small"), Ok(Bytes(20 * MIB))), (cgroup("/box"), Ok(Bytes(100 * MIB)))]
    );
}

#[test]
fn an_unreadable_limit_is_listed_as_such() {
    let tree = Tree::of("v1");
    tree.write("cgroup/memory/box/memory.limit_in_bytes", "much\n");
    let found = tree.hierarchy().unwrap().limited(&cgroup("/box/inner"));
    assert!(matches!(&found[..], [(path, Err(ReadError::Malformed { .. }))] if *path == cgroup("/box")));
}

#[rstest]
#[case("v1")]
#[case("v2")]
fn a_cgroup_that_went_has_no_limit_but_its_ancestors_may(#[case] name: &str) {
    let found = Tree::of(name).hierarchy().unwrap().limited(&cgroup("/box/went"));
    assert_eq!(found, [(cgroup("/box"), Ok(Bytes(100 * MIB)))]);
}

#[test]
fn memory_is_charged_where_the_controller_is_enabled() {
    let tree = Tree::of("v2");
    tree.write("cgroup/box/inner/deep/cgroup.procs", "");
    let hierarchy = tree.hierarchy().unwrap();
    assert_eq!(hierarchy.charged(&cgroup("/box/inner/deep")), Ok(cgroup("/box/inner")));
    assert_eq!(hierarchy.limited(&cgroup("/box/inner/deep")).len(), 1);
}

#[test]
fn the_id_is_the_inode_of_the_directory() {
    use std::os::unix::fs::MetadataExt;
    let tree = Tree::of("v1");
    let inode = std::fs::metadata(tree.path("cgroup/memory/box")).unwrap().ino();
    assert_eq!(tree.hierarchy().unwrap().id(&cgroup("/box")), Ok(CgroupId(inode)));
    assert_eq!(tree.cgroup("/box", false).unwrap().cgroup_id(), Some(CgroupId(inode)));
    assert!(tree.hierarchy().unwrap().id(&cgroup("/none")).unwrap_err().is_missing_file());
}

#[rstest]
#[case::whole_host("/", "0::/a/b\n", Some("/a/b"))]
#[case::root("/", "0::/\n", Some("/"))]
#[case::spaces_and_colons("/", "0::/a b:c\n", Some("/a b:c"))]
#[case::docker_without_namespace("/docker/x", "0::/docker/x/b\n", Some("/b"))]
#[case::docker_itself("/docker/x", "0::/docker/x\n", Some("/"))]
#[case::other_container("/docker/x", "0::/docker/xy\n", None)]
#[case::host_mounted_in_container("/../..", "0::/../../kube/pod\n", Some("/kube/pod"))]
#[case::names_above_are_not_known("/../..", "0::/mine\n", None)]
#[case::sibling_outside_of_namespace("/", "0::/../other\n", None)]
fn paths_in_namespaces(#[case] mounted: &str, #[case] text: &str, #[case] expected: Option<&str>) {
    let tree = Tree::of("v2");
    let mut hierarchy = tree.hierarchy().unwrap();
    hierarchy.mounted = mounted.into();
    assert_eq!(hierarchy.namespace, None, "nothing is mounted there");
    tree.write("proc/7/cgroup", text);
    match (hierarchy.cgroup_of(&tree.roots.procfs, Pid(7)), expected) {
        (found, Some(expected)) => assert_eq!(found, Ok(cgroup(expected))),
        (found, None) => assert!(matches!(found, Err(ReadError::Outside { .. })), "{found:?}"),
    }
}

#[test]
fn a_process_or_cgroup_that_went_is_gone() {
    let tree = Tree::of("v2");
    let hierarchy = tree.hierarchy().unwrap();
    assert!(hierarchy.cgroup_of(&tree.roots.procfs, Pid(8)).unwrap_err().is_gone());
    tree.write("proc/7/cgroup", "0::/was (deleted)\n");
    assert!(hierarchy.cgroup_of(&tree.roots.procfs, Pid(7)).unwrap_err().is_gone());
    tree.write("cgroup/was (deleted)/memory.max", "max\n");
    assert_eq!(hierarchy.cgroup_of(&tree.roots.procfs, Pid(7)), Ok(cgroup("/was (deleted)")));
}

#[rstest]
#[case("")]
#[case("4:memory:/box\n")]
#[case("0::\n")]
#[case("0:name=x:/a\n")]
#[case("garbage\n\u{0}\n")]
fn a_file_without_our_line_is_missing_it(#[case] text: &str) {
    let tree = Tree::of("v2");
    tree.write("proc/7/cgroup", text);
    let found = tree.hierarchy().unwrap().cgroup_of(&tree.roots.procfs, Pid(7));
    assert!(matches!(found, Err(ReadError::Missing { key: Some("0::"), .. })), "{found:?}");
}

#[test]
fn the_root_of_a_mount_is_found_with_escapes_undone() {
    let mountinfo = b"30 1 0:26 / /other rw - tmpfs tmpfs rw\n\
        31 30 0:27 /docker/a\\040b /sys/fs/cg\\040roup rw,nosuid - cgroup cgroup rw,memory\n";
    let found = mounted_root(mountinfo, Path::new("/sys/fs/cg roup"));
    assert_eq!(found, Some("/docker/a b".into()));
    assert_eq!(mounted_root(mountinfo, Path::new("/none")), None);
}
