//! Readings on fixture trees: each rule of docs/behavior.md#accounting, and each file missing and malformed.

use proptest::prelude::*;
use rstest::rstest;

use super::super::Defect;
use super::super::fixture::{MIB, Tree};
use super::*;

fn limited(total: u64, used: u64, source: Source) -> Level {
    Level::Limited(Reading::new(Bytes(total * MIB), Bytes(used * MIB), source))
}

#[rstest]
#[case::v1("v1", false, limited(100, 75, Source::CgroupV1))]
#[case::v1_swap("v1", true, limited(200, 95, Source::CgroupV1))]
#[case::v2("v2", false, limited(100, 75, Source::CgroupV2))]
#[case::v2_swap("v2", true, limited(150, 94, Source::CgroupV2))]
#[case::hybrid("hybrid", false, limited(100, 75, Source::CgroupV1))]
fn a_limited_cgroup(#[case] tree: &str, #[case] count_swap: bool, #[case] expected: Level) {
    assert_eq!(Tree::of(tree).read("/box", count_swap), Ok(expected));
}

#[rstest]
#[case::v1("v1", false, 34)]
#[case::v1_swap("v1", true, 34)]
#[case::v2("v2", false, 34)]
#[case::v2_swap("v2", true, 34)]
fn a_cgroup_without_a_limit_is_listed_with_what_it_uses(
    #[case] tree: &str,
    #[case] swap: bool,
    #[case] used: u64,
) {
    let source = if tree == "v1" { Source::CgroupV1 } else { Source::CgroupV2 };
    let expected = Level::NoLimit { used: Bytes(used * MIB), source };
    assert_eq!(Tree::of(tree).read("/box/inner", swap), Ok(expected));
}

#[rstest]
#[case("v1", "memory.limit_in_bytes", "0\n")]
#[case("v1", "memory.limit_in_bytes", "9223372036854771712\n")]
#[case("v1", "memory.limit_in_bytes", "9223372036854710272\n")]
#[case("v2", "memory.max", "0\n")]
#[case("v2", "memory.max", "max\n")]
fn no_limit_is_said_in_several_ways(#[case] tree: &str, #[case] file: &str, #[case] text: &str) {
    let fixture = Tree::of(tree);
    let root = if tree == "v1" { "cgroup/memory/box" } else { "cgroup/box" };
    fixture.write(&format!("{root}/{file}"), text);
    assert!(
        matches!(fixture.read("/box", false), Ok(Level::NoLimit { used: Bytes(u), .. }) if u == 75 * MIB)
    );
}

#[rstest]
#[case::v1("v1", 512 + 20, 10)]
#[case::v2("v2", 512 + 20, 10)]
fn unlimited_swap_of_a_limited_cgroup_is_the_hosts(
    #[case] tree: &str,
    #[case] total: u64,
    #[case] used: u64,
) {
    let Ok(Level::Limited(reading)) = Tree::of(tree).read("/box/inner/small", true) else {
        panic!("no domain")
    };
    assert_eq!((reading.total, reading.used), (Bytes(total * MIB), Bytes(used * MIB)));
}

#[rstest]
#[case("memory.memsw.limit_in_bytes")]
#[case("memory.memsw.usage_in_bytes")]
fn v1_swap_takes_both_memsw_files_or_neither(#[case] missing: &str) {
    let tree = Tree::of("v1");
    tree.remove(&format!("cgroup/memory/box/{missing}"));
    assert_eq!(tree.read("/box", true), Ok(limited(100, 75, Source::CgroupV1)));
}

#[test]
fn v2_swap_forbidden_later_leaves_the_room_for_memory_alone() {
    let tree = Tree::of("v2");
    tree.write("cgroup/box/memory.swap.max", "0\n");
    assert_eq!(tree.read("/box", true), Ok(limited(100, 75, Source::CgroupV2)));
}

#[rstest]
#[case::above("200", 100)]
#[case::equal("115", 100)]
#[case::less_than_its_cache("1", 0)]
fn used_stays_between_zero_and_the_limit(#[case] current: &str, #[case] used: u64) {
    let tree = Tree::of("v2");
    let bytes = current.parse::<u64>().unwrap() * MIB;
    tree.write("cgroup/box/memory.current", format!("{bytes}\n"));
    assert_eq!(tree.read("/box", false), Ok(limited(100, used, Source::CgroupV2)));
}

/// Every file a reading takes: version, whether swap counts, path, a key in it.
const FILES: [(&str, bool, &str, Option<&str>); 11] = [
    ("v1", false, "cgroup/memory/box/memory.limit_in_bytes", None),
    ("v1", false, "cgroup/memory/box/memory.usage_in_bytes", None),
    ("v1", false, "cgroup/memory/box/memory.stat", Some("total_inactive_file")),
    ("v1", false, "cgroup/memory/box/memory.stat", Some("total_active_file")),
    ("v2", false, "cgroup/box/memory.max", None),
    ("v2", false, "cgroup/box/memory.current", None),
    ("v2", false, "cgroup/box/memory.stat", Some("inactive_file")),
    ("v2", false, "cgroup/box/memory.stat", Some("active_file")),
    ("v2", true, "cgroup/box/memory.stat", Some("swapcached")),
    ("v2", true, "cgroup/box/memory.swap.max", None),
    ("v2", true, "cgroup/box/memory.swap.current", None),
];

/// As [`FILES`], those that are malformed too when bad, but not unknown when missing.
const MEMSW: [(&str, bool, &str, Option<&str>); 2] = [
    ("v1", true, "cgroup/memory/box/memory.memsw.limit_in_bytes", None),
    ("v1", true, "cgroup/memory/box/memory.memsw.usage_in_bytes", None),
];

#[test]
fn a_missing_file_is_unknown() {
    for (name, swap, file, _) in FILES {
        let tree = Tree::of(name);
        tree.remove(file);
        let path = tree.path(file).into();
        assert_eq!(tree.read("/box", swap), Err(ReadError::Missing { path, key: None }), "{file}");
    }
}

#[test]
fn a_missing_key_is_unknown() {
    for (name, swap, file, key) in FILES {
        let Some(key) = key else { continue };
        let tree = Tree::of(name);
        tree.edit(file, &format!("\n{key} "), "\nother ");
        let error = tree.read("/box", swap).unwrap_err();
        assert!(matches!(error, ReadError::Missing { key: Some(k), .. } if k == key), "{file}: {error}");
    }
}

#[test]
fn a_malformed_file_is_unknown_and_names_the_file() {
    let bad: [(&[u8], Defect); 8] = [
        (b"", Defect::Empty),
        (b"\n", Defect::Empty),
        (b"-4096\n", Defect::NotANumber),
        (b"12 34\n", Defect::NotANumber),
        (b"\xff\xfe\x80\n", Defect::NotANumber),
        (b"0x1000\n", Defect::NotANumber),
        (b"18446744073709551616\n", Defect::TooLarge),
        (b"18446744073709551615\n", Defect::TooLarge),
    ];
    for (name, swap, file, key) in FILES.into_iter().chain(MEMSW) {
        for (text, what) in bad {
            let tree = Tree::of(name);
            let expected_key = if let Some(key) = key {
                let start = format!("{key} ");
                let line = [start.as_bytes(), text.strip_suffix(b"\n").unwrap_or(text), b"\n"];
                let stat = std::fs::read(tree.path(file)).unwrap();
                let kept = stat.split_inclusive(|b| *b == b'\n').filter(|l| !l.starts_with(line[0]));
                tree.write(file, [kept.collect::<Vec<_>>().concat(), line.concat()].concat());
                FILES.iter().find_map(|f| f.3.filter(|k| *k == key))
            } else {
                tree.write(file, text);
                None
            };
            let path = tree.path(file).into();
            let expected = ReadError::Malformed { path, key: expected_key, what };
            assert_eq!(tree.read("/box", swap), Err(expected), "{file} {text:?}");
        }
    }
}

#[test]
fn a_stat_file_with_a_key_twice_cut_off_or_empty_is_unknown() {
    for (name, swap, file, key) in FILES {
        let Some(key) = key else { continue };
        let tree = Tree::of(name);
        let good = std::fs::read_to_string(tree.path(file)).unwrap();
        let cut = good.find(&format!("\n{key} ")).unwrap() + 1 + key.len();
        for (text, what) in [
            (format!("{good}{key} 1\n"), Defect::Twice),
            (good[..cut].to_owned(), Defect::Empty),
            (good.repeat(100), Defect::TooLong),
        ] {
            tree.write(file, text);
            let error = tree.read("/box", swap).unwrap_err();
            assert!(matches!(error, ReadError::Malformed { what: w, .. } if w == what), "{file}: {error}");
        }
        tree.write(file, "");
        assert!(matches!(
            tree.read("/box", swap),
            Err(ReadError::Malformed { key: None, what: Defect::Empty, .. })
        ));
    }
}

#[test]
fn a_directory_or_a_pipe_in_place_of_a_file_is_broken_and_does_not_hang() {
    let tree = Tree::of("v2");
    let file = "cgroup/box/memory.current";
    tree.remove(file);
    std::fs::create_dir(tree.path(file)).unwrap();
    assert!(matches!(tree.read("/box", false), Err(ReadError::Broken { .. })));
    std::fs::remove_dir(tree.path(file)).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.path(file), rustix::fs::Mode::RWXU).unwrap();
    assert!(matches!(tree.read("/box", false), Err(ReadError::Broken { .. })));
}

#[test]
fn a_file_that_was_missing_is_found_when_it_comes() {
    let tree = Tree::of("v2");
    let file = "cgroup/box/memory.current";
    tree.remove(file);
    let mut reader = tree.cgroup("/box", false).unwrap();
    assert!(reader.read().is_err());
    tree.write(file, format!("{}\n", 90 * MIB));
    assert_eq!(reader.read(), Ok(limited(100, 75, Source::CgroupV2)));
}

#[test]
fn a_file_that_made_no_sense_is_found_when_another_is_in_its_place() {
    let tree = Tree::of("v2");
    let mut reader = tree.cgroup("/box", false).unwrap();
    let good = reader.read().unwrap();
    for garbage in ["nonsense", "", "1\n2\n"] {
        let file = "cgroup/box/memory.current";
        let text = std::fs::read(tree.path(file)).unwrap();
        tree.write(file, garbage);
        reader.read().unwrap_err();
        // Not the same file with another text: another file.
        tree.remove(file);
        tree.write(file, text);
        assert_eq!(reader.read(), Ok(good), "{garbage:?}");
    }
}

#[test]
fn a_resize_takes_effect_in_the_next_reading() {
    let tree = Tree::of("v2");
    let mut reader = tree.cgroup("/box", false).unwrap();
    assert_eq!(reader.read(), Ok(limited(100, 75, Source::CgroupV2)));
    tree.write("cgroup/box/memory.max", format!("{}\n", 300 * MIB));
    assert_eq!(reader.read(), Ok(limited(300, 75, Source::CgroupV2)));
    tree.write("cgroup/box/memory.max", "max\n");
    assert!(matches!(reader.read(), Ok(Level::NoLimit { .. })));
}

#[test]
fn a_removed_cgroup_is_gone_and_a_missing_one_missing() {
    let tree = Tree::of("v2");
    for file in ["memory.current", "memory.stat"] {
        tree.remove(&format!("cgroup/box/{file}"));
    }
    let mut reader = tree.cgroup("/box", false).unwrap();
    std::fs::remove_dir_all(tree.path("cgroup/box")).unwrap();
    assert!(reader.read().unwrap_err().is_gone());
    assert!(tree.cgroup("/box", false).unwrap_err().is_missing_file());
}

#[rstest]
#[case::v1("v1", false, limited(1024, 768, Source::Meminfo))]
#[case::v1_swap("v1", true, limited(1536, 896, Source::Meminfo))]
#[case::v2("v2", false, limited(1024, 768, Source::Meminfo))]
#[case::v2_swap("v2", true, limited(1536, 896, Source::Meminfo))]
fn the_node_without_a_limit_at_the_root(
    #[case] tree: &str,
    #[case] count_swap: bool,
    #[case] expected: Level,
) {
    assert_eq!(Tree::of(tree).node(count_swap).unwrap().read(), Ok(expected));
}

#[rstest]
#[case::less("v1", 800 * MIB, limited(800, 400, Source::CgroupV1))]
#[case::equal("v1", 1024 * MIB, limited(1024, 400, Source::CgroupV1))]
#[case::more("v1", 1025 * MIB, limited(1024, 768, Source::Meminfo))]
#[case::v2_less("v2", 800 * MIB, limited(800, 400, Source::CgroupV2))]
#[case::v2_more("v2", 1025 * MIB, limited(1024, 768, Source::Meminfo))]
fn the_node_takes_the_lesser_of_host_and_root(
    #[case] name: &str,
    #[case] limit: u64,
    #[case] expected: Level,
) {
    let tree = Tree::of(name);
    let (root, file) = if name == "v1" { ("cgroup/memory", "limit_in_bytes") } else { ("cgroup", "max") };
    tree.write(&format!("{root}/memory.{file}"), format!("{limit}\n"));
    tree.write("cgroup/memory.current", format!("{}\n", 700 * MIB));
    assert_eq!(tree.node(false).unwrap().read(), Ok(expected));
}

#[test]
fn the_node_is_unknown_if_its_limited_root_cannot_be_read() {
    let tree = Tree::of("v2");
    tree.write("cgroup/memory.max", format!("{}\n", 800 * MIB));
    assert!(tree.node(false).unwrap().read().unwrap_err().is_missing_file(), "memory.current is not there");
    tree.write("cgroup/memory.current", format!("{}\n", 700 * MIB));
    assert!(tree.node(true).unwrap().read().unwrap_err().is_missing_file(), "memory.swap.max is not there");
    tree.write("cgroup/memory.max", "lots\n");
    assert!(matches!(tree.node(false).unwrap().read(), Err(ReadError::Malformed { .. })));
}

#[test]
fn the_node_is_unknown_without_meminfo() {
    let tree = Tree::of("v1");
    tree.remove("proc/meminfo");
    let path = tree.path("proc/meminfo").into();
    assert_eq!(tree.node(false).unwrap().read(), Err(ReadError::Missing { path, key: None }));
    for cgroup in ["/box", "/box/inner/small"] {
        let error = tree.read(cgroup, true).unwrap_err();
        assert!(error.is_missing_file(), "how much swap there is limits {cgroup} too: {error}");
    }
    tree.write("cgroup/memory/box/memory.memsw.limit_in_bytes", format!("{}\n", 100 * MIB));
    assert_eq!(tree.read("/box", true), Ok(limited(100, 95, Source::CgroupV1)), "it may have no swap");
}

#[rstest]
#[case::none("v1", "0 kB", 100)]
#[case::none("v2", "0 kB", 100)]
#[case::some("v1", "20480 kB", 120)]
#[case::some("v2", "20480 kB", 120)]
#[case::enough("v1", "1048576 kB", 200)]
#[case::enough("v2", "1048576 kB", 150)]
fn swap_that_the_host_does_not_have_is_no_memory(#[case] tree: &str, #[case] swap: &str, #[case] total: u64) {
    let fixture = Tree::of(tree);
    fixture.edit("proc/meminfo", "SwapTotal:        524288 kB", &format!("SwapTotal: {swap}"));
    fixture.edit("proc/meminfo", "SwapFree:         393216 kB", "SwapFree: 0 kB");
    let Ok(Level::Limited(reading)) = fixture.read("/box", true) else { panic!("it has a limit") };
    assert_eq!(reading.total, Bytes(total * MIB));
    let Ok(Level::Limited(plain)) = fixture.read("/box", false) else { panic!("it has a limit") };
    assert_eq!(plain.total, Bytes(100 * MIB), "nothing of it matters where swap does not count");
}

#[test]
fn the_swap_of_a_root_with_a_limit_is_at_most_the_hosts_too() {
    let tree = Tree::of("v2");
    tree.edit("proc/meminfo", "SwapTotal:        524288 kB", "SwapTotal: 0 kB");
    tree.edit("proc/meminfo", "SwapFree:         393216 kB", "SwapFree: 0 kB");
    for (file, mib) in [("max", 800), ("current", 700), ("swap.max", 500), ("swap.current", 0)] {
        tree.write(&format!("cgroup/memory.{file}"), format!("{}\n", mib * MIB));
    }
    tree.write("cgroup/memory.stat", "inactive_file 0\nactive_file 0\nswapcached 0\n");
    assert_eq!(tree.node(true).unwrap().read(), Ok(limited(800, 700, Source::CgroupV2)));
}

#[test]
fn reserved_huge_pages_are_left_out_of_the_node_and_named() {
    let tree = Tree::of("v1");
    tree.edit("proc/meminfo", "Hugepagesize:", "Hugetlb:          524288 kB\nHugepagesize:");
    let Ok(Level::Limited(reading)) = tree.node(false).unwrap().read() else { panic!("no domain") };
    assert_eq!(
        (reading.total, reading.used, reading.huge_pages),
        (Bytes(512 * MIB), Bytes(256 * MIB), Bytes(512 * MIB))
    );
    // 600 MiB are more than the rest: the root's limit is none that matters.
    tree.write("cgroup/memory/memory.limit_in_bytes", format!("{}\n", 600 * MIB));
    assert_eq!(tree.node(false).unwrap().read(), Ok(Level::Limited(reading)));
}

#[test]
fn a_cgroup_needs_no_procfs_but_for_the_hosts_swap() {
    let tree = Tree::of("v1");
    std::fs::remove_dir_all(tree.path("proc")).unwrap();
    assert!(tree.node(false).unwrap_err().is_missing_file());
    assert_eq!(tree.read("/box", false), Ok(limited(100, 75, Source::CgroupV1)));
    assert!(tree.read("/box", true).unwrap_err().is_missing_file());
    assert!(tree.read("/box/inner/small", true).unwrap_err().is_missing_file());
}

#[test]
fn errors_name_file_and_key() {
    let tree = Tree::of("v2");
    tree.edit("cgroup/box/memory.stat", "\nactive_file ", "\nactive_file -");
    let path = tree.path("cgroup/box/memory.stat");
    assert_eq!(
        tree.read("/box", false).unwrap_err().to_string(),
        format!("{}: active_file: is not a whole number of bytes, 0 or more", path.display())
    );
    tree.remove("cgroup/box/memory.stat");
    assert_eq!(tree.read("/box", false).unwrap_err().to_string(), format!("{} is missing", path.display()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics_and_used_never_exceeds_total(
        which in 0..FILES.len() + MEMSW.len(),
        text in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            any::<u64>().prop_map(|number| format!("{number}\n").into_bytes()),
            any::<[u64; 5]>().prop_map(|[a, b, c, d, e]| format!(
                "inactive_file {a}\nactive_file {b}\nswapcached {c}\ntotal_inactive_file {d}\ntotal_active_file {e}\n"
            ).into_bytes()),
        ],
    ) {
        let (name, swap, file, _) = FILES.into_iter().chain(MEMSW).nth(which).unwrap();
        let tree = Tree::of(name);
        tree.write(file, text);
        if let Ok(Level::Limited(reading)) = tree.read("/box", swap) {
            prop_assert!(reading.used <= reading.total && reading.total > Bytes(0));
        }
    }
}
