//! A small BTF by hand, random ones, and the running kernel's.

use super::layout::{MAGIC, kind};
use super::*;
use proptest::prelude::*;

/// `struct outer { union { int a; int b; }; struct inner { int c; } in; }`, `enum { ZERO, SEVEN = 7 }`.
fn sample() -> Vec<u8> {
    let strings = b"\0outer\0a\0b\0inner\0c\0in\0SEVEN\0int\0btf_trace_x\0";
    let name = |text: &str| {
        let needle = [b"\0", text.as_bytes(), b"\0"].concat();
        strings.windows(needle.len()).position(|w| w == needle).unwrap() as u32 + 1
    };
    let info = |kind: u32, members: u32| kind << 24 | members;
    let types: Vec<u32> = [
        vec![name("int"), info(1, 0), 4, 0],                               // 1
        vec![0, info(5, 2), 4, name("a"), 1, 0, name("b"), 1, 0],          // 2
        vec![name("inner"), info(4, 1), 8, name("c"), 1, 32],              // 3
        vec![name("outer"), info(4, 2), 16, 0, 2, 64, name("in"), 3, 128], // 4
        vec![0, info(6, 1), 4, name("SEVEN"), 7],                          // 5
        vec![name("btf_trace_x"), info(8, 0), 1],                          // 6
    ]
    .concat();
    let mut out = Vec::new();
    out.extend(MAGIC.to_ne_bytes());
    out.extend([1, 0]);
    for word in [24, 0, 4 * types.len() as u32, 4 * types.len() as u32, strings.len() as u32] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
    out.extend(strings);
    out
}

#[test]
fn offsets_go_through_named_and_anonymous_members() {
    let btf = Btf::parse(sample().into()).unwrap();
    assert_eq!(btf.offset("outer.b").unwrap(), 8);
    assert_eq!(btf.offset("outer.in.c").unwrap(), 16 + 4);
    assert_eq!(btf.enumerator("SEVEN").unwrap(), 7);
    assert_eq!((btf.size("outer").unwrap(), btf.size("inner").unwrap()), (16, 8));
    assert!(btf.has_tracepoint("x") && !btf.has_tracepoint("y"));
    for missing in ["other.a", "outer.z", "outer.b.c", "outer.in.a"] {
        assert_eq!(btf.offset(missing).unwrap_err().to_string(), format!("this kernel has no {missing}"));
    }
}

#[test]
fn for_aya_a_tracepoint_keeps_its_number_and_nothing_else_has_a_name() {
    let whole = Btf::parse(sample().into()).unwrap();
    let few = Btf::parse(whole.only_places().into()).unwrap();
    assert_eq!((&few.tracepoints, few.starts.len()), (&whole.tracepoints, 7));
    assert!(few.structs.is_empty() && few.enums.is_empty());
    whole.places().unwrap();
}

#[test]
fn a_function_is_found_if_it_is_one_that_programs_are_attached_to() {
    let types = [[1, kind::FUNC << 24, 0], [7, kind::FUNC << 24, 0], [7, kind::TYPEDEF << 24, 0]];
    let whole = Btf::parse(layout::blob(&types, b"\0other\0page_counter_try_charge\0").into()).unwrap();
    let function = Place::Function("page_counter_try_charge");
    assert!(whole.has(function) && !whole.has(Place::Function("other")));
    assert!(!whole.has(Place::Tracepoint("page_counter_try_charge")));
    let few = Btf::parse(whole.only_places().into()).unwrap();
    assert_eq!((few.has(function), &few.functions), (true, &whole.functions));
    whole.places().unwrap();
}

/// The sample with another word in its types, counted from their start.
fn with_word(at: usize, from: u32, to: u32) -> Btf {
    let mut data = sample();
    let word = &mut data[24 + 4 * at..][..4];
    assert_eq!(word, from.to_ne_bytes());
    word.copy_from_slice(&to.to_ne_bytes());
    Btf::parse(data.into()).unwrap()
}

#[test]
fn offsets_that_no_struct_has_are_malformed_and_no_overflow() {
    // Of outer's `in`, to which that of its `c` is added.
    let error = with_word(27, 128, u32::MAX).offset("outer.in.c").unwrap_err();
    assert!(error.to_string().contains("beyond any struct"), "{error}");
}

#[test]
fn a_union_that_holds_itself_is_searched_to_an_end() {
    // The type of outer's first member, which is anonymous: outer itself.
    let error = with_word(23, 2, 4).offset("outer.z").unwrap_err();
    assert!(matches!(error, BtfError::NoSuch(_)), "{error}");
    // Many anonymous members, each the struct again: 64 to the power of 5 without an end.
    let strings = b"\0loop\0";
    let mut types = vec![1, 4 << 24 | 64, 4];
    types.extend([0, 1, 0].repeat(64));
    let mut data: Vec<u8> = [&MAGIC.to_ne_bytes()[..], &[1, 0]].concat();
    for word in [24, 0, 4 * types.len() as u32, 4 * types.len() as u32, strings.len() as u32] {
        data.extend(word.to_ne_bytes());
    }
    data.extend(types.iter().flat_map(|word: &u32| word.to_ne_bytes()));
    data.extend(strings);
    let error = Btf::parse(data.into()).unwrap().offset("loop.x").unwrap_err();
    assert!(error.to_string().contains("without an end"), "{error}");
}

#[test]
fn the_running_kernel_has_what_every_kernel_has() {
    let btf = match Btf::of_the_kernel() {
        Ok(btf) => btf,
        Err(BtfError::Missing { path }) => return eprintln!("skipped: no {path}"),
        Err(other) => panic!("{other}"),
    };
    assert!(btf.has_tracepoint("sched_process_exit"));
    assert!(btf.offset("task_struct.tgid").unwrap() > btf.offset("task_struct.pid").unwrap());
    assert_eq!(btf.enumerator("NR_INACTIVE_ANON").unwrap(), 0);
}

proptest! {
    #[test]
    fn damaged_data_is_an_error_and_never_a_panic(at in 0usize..400, byte: u8, cut in 0usize..500) {
        let mut data = sample();
        let len = data.len();
        data[at % len] = byte;
        data.truncate(len.min(cut));
        if let Ok(btf) = Btf::parse(data.into()) {
            let _ = btf.offset("outer.in.c");
            let _ = btf.enumerator("SEVEN");
        }
    }
}
