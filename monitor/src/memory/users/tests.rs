//! The largest users on the fixture tree, and of this very process.

use super::super::fixture::{Tree, cgroup};
use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn sizes(users: &Users) -> Vec<(u32, u64, MemoryKind)> {
    users.top.iter().map(|user| (user.pid.unwrap().0, user.memory.0 / 1024, user.measured)).collect()
}

#[test]
fn the_largest_come_first_by_what_is_theirs() {
    let tree = Tree::of("v1");
    let users = top(&tree.roots.procfs, None, 10, LONG, &[]).unwrap();
    assert_eq!(
        sizes(&users),
        [(40, 4000, MemoryKind::Pss), (42, 2000, MemoryKind::Rss), (41, 1000, MemoryKind::Pss)],
        "41 has the largest RSS, most of it shared; 42 has no PSS to read; the kernel thread has no memory"
    );
    assert!(users.complete);
}

#[test]
fn no_more_than_asked_for_and_only_of_the_cgroup() {
    let tree = Tree::of("v1");
    assert_eq!(sizes(&top(&tree.roots.procfs, None, 1, LONG, &[]).unwrap()), [(40, 4000, MemoryKind::Pss)]);
    let hierarchy = tree.hierarchy().unwrap();
    let dying = top(&tree.roots.procfs, None, 1, LONG, &[Pid(40)]).unwrap();
    assert_eq!(sizes(&dying)[0].2, MemoryKind::Rss, "its memory is not held while it dies");
    let within = top(&tree.roots.procfs, Some((&hierarchy, &cgroup("/box"))), 10, LONG, &[]).unwrap();
    assert_eq!(sizes(&within), [(40, 4000, MemoryKind::Pss), (41, 1000, MemoryKind::Pss)]);
    assert!(within.complete, "999 has ended, which is nothing to report");
    let none = top(&tree.roots.procfs, Some((&hierarchy, &cgroup("/none"))), 10, LONG, &[]);
    assert!(none.unwrap_err().is_missing_file());
}

#[test]
fn out_of_time_is_said() {
    let tree = Tree::of("v1");
    let users = top(&tree.roots.procfs, None, 10, Duration::ZERO, &[]).unwrap();
    assert_eq!((users.top, users.complete), (vec![], false));
}

#[test]
fn reserved_huge_pages_are_named_for_the_node_only() {
    let tree = Tree::of("v1");
    tree.edit("proc/meminfo", "HugePages_Total:       0", "HugePages_Total:       3");
    let huge = |within| top(&tree.roots.procfs, within, 1, LONG, &[]).unwrap().huge_pages;
    assert_eq!(huge(None), Some(Bytes(6 << 20)));
    let hierarchy = tree.hierarchy().unwrap();
    let path = cgroup("/box");
    assert_eq!(huge(Some((&hierarchy, &path))), None);
    tree.remove("proc/meminfo");
    assert_eq!(huge(None), None);
}

#[test]
fn commands_are_one_harmless_line_of_at_most_100_characters() {
    let tree = Tree::of("v1");
    let procfs = &tree.roots.procfs;
    assert_eq!(command(procfs, Pid(40)).unwrap(), "python3 train.py --lr 0.1");
    assert_eq!(command(procfs, Pid(41)).unwrap(), "worker\\u{1b}[31m\\u{a}red");
    assert_eq!(command(procfs, Pid(42)).unwrap(), "x".repeat(100));
    assert_eq!(command(procfs, Pid(2)).unwrap(), "[kthreadd]");
    assert_eq!(command(procfs, Pid(999)), None);
    assert_eq!(printable("ä\u{202e}\u{9b}é".as_bytes(), 100), "ä\\u{202e}\\u{9b}é");
    assert_eq!(printable(b"abc\x1b", 5), "abc", "an escape is not cut in two");
}

#[test]
fn this_process_is_among_those_of_the_machine() {
    let users = top(Path::new("/proc"), None, usize::MAX, LONG, &[]).unwrap();
    let me = users.top.iter().find(|user| user.pid == Some(Pid(std::process::id()))).unwrap();
    assert_eq!(me.uid, Some(rustix::process::geteuid().as_raw()));
    assert!(me.memory > Bytes(0) && !me.command.is_empty());
}
