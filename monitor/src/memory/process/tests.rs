//! The memory of processes on the fixture tree.

use rstest::rstest;

use super::super::fixture::Tree;
use super::*;

#[test]
fn pss_is_taken_and_rss_where_there_is_none() {
    let tree = Tree::of("v1");
    let of = |pid| memory(&tree.roots.procfs, Pid(pid));
    assert_eq!(of(41), Ok(ProcessMemory { bytes: Bytes(1000 << 10), measured: MemoryKind::Pss }));
    assert_eq!(of(42), Ok(ProcessMemory { bytes: Bytes(2000 << 10), measured: MemoryKind::Rss }));
    assert!(of(999).unwrap_err().is_gone());
}

#[test]
fn a_tree_is_summed_and_says_the_weakest_measure() {
    let tree = Tree::of("v1");
    let procfs = &tree.roots.procfs;
    let family = Family::look(procfs).unwrap();
    assert!(Family::below(procfs, &[Pid(40)]).is_none(), "it lists no children");
    assert_eq!(family.with_descendants(&[Pid(40)], |_| false), [Pid(40), Pid(41), Pid(42)]);
    assert_eq!(family.with_descendants(&[Pid(41), Pid(999)], |_| false), [Pid(41), Pid(42)]);
    assert_eq!(family.with_descendants(&[Pid(40)], |pid| pid == Pid(42)), [Pid(40), Pid(41)]);
    assert_eq!(family.with_descendants(&[Pid(40)], |pid| pid == Pid(41)), [Pid(40)], "nor its descendants");
    let sum = memory_of_all(procfs, [40, 41, 42, 999].map(Pid)).unwrap();
    assert_eq!(sum, ProcessMemory { bytes: Bytes(7000 << 10), measured: MemoryKind::Rss });
    let sum = memory_of_all(procfs, [40, 41].map(Pid)).unwrap();
    assert_eq!(sum, ProcessMemory { bytes: Bytes(5000 << 10), measured: MemoryKind::Pss });
}

#[rstest]
#[case("VmRSS:\t many kB\n", Defect::NotANumber)]
#[case("VmRSS:\t 12", Defect::NoUnit)]
#[case("VmRSS:\t 9223372036854775807 kB\n", Defect::TooLarge)]
fn malformed_status_makes_the_sum_unknown(#[case] text: &str, #[case] defect: Defect) {
    let tree = Tree::of("v1");
    tree.write("proc/42/status", text);
    let error = memory_of_all(&tree.roots.procfs, [40, 42].map(Pid)).unwrap_err();
    assert!(
        matches!(error, ReadError::Malformed { key: Some("VmRSS:"), what, .. } if what == defect),
        "{error}"
    );
}

#[test]
fn the_children_of_this_process_are_found() {
    let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let family = Family::look(Path::new("/proc")).unwrap();
    let found = family.with_descendants(&[Pid(std::process::id())], |_| false);
    assert!(found.contains(&Pid(child.id())) && found.contains(&Pid(std::process::id())));
    // By the kernel's lists of children the same, where it has any.
    if let Some(below) = Family::below(Path::new("/proc"), &[Pid(std::process::id()), Pid(u32::MAX)]) {
        let found = below.with_descendants(&[Pid(std::process::id()), Pid(u32::MAX)], |_| false);
        assert!(found.contains(&Pid(child.id())) && !found.contains(&Pid(u32::MAX)));
        let nobody = below.with_descendants(&[Pid(1)], |_| false);
        assert!(nobody.is_empty(), "nobody else was looked at: {nobody:?}");
    }
    let parents = ancestors(Path::new("/proc"), Pid(child.id()));
    assert_eq!(parents.first(), Some(&Pid(std::process::id())));
    assert!(!parents.contains(&Pid(child.id())) && parents.len() > 1, "{parents:?}");
    drop(child.stdin.take());
    child.wait().unwrap();
}
