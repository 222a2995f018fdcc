//! The corpus of the fuzz targets through the same properties, each seed as it is and damaged in many ways. What a fuzz
//! run finds is put into the corpus and stays found.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a crate too")]
#[expect(clippy::cast_precision_loss, reason = "of numbers that the library gave as floats")]
mod properties;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use properties::{TARGETS, check};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = fuzz().join("corpus").join(target);
    names(&directory)
        .into_iter()
        .map(|name| (name.clone(), fs::read(directory.join(name)).unwrap()))
        .collect()
}

#[test]
fn each_target_has_its_entry_and_its_seeds() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus")), targets);
    let entries: BTreeSet<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), entries);
    for name in &targets {
        let entry = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(entry.contains(&format!("check(\"{name}\", data)")), "{name}: {entry}");
        assert!(seeds(name).len() > 1, "{name}");
    }
}

#[test]
fn the_corpus_holds() {
    for (target, _) in TARGETS {
        for (seed, data) in seeds(target) {
            println!("{target}/{seed}");
            check(target, &data);
        }
    }
}

/// What may happen to a seed: a byte becomes another, a piece is cut out, or given again somewhere, or words get in.
#[derive(Debug, Clone)]
enum Damage {
    Byte(Index, u8),
    Cut(Index, Index),
    Again(Index, Index, Index),
    Words(Index, String),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Self::Byte(at, byte)),
            (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Self::Cut(one, other)),
            (any::<Index>(), any::<Index>(), any::<Index>()).prop_map(|(a, b, to)| Self::Again(a, b, to)),
            (any::<Index>(), "(-?[0-9]{1,22}|null|\\[|\\{|\"|\n|[a-z_]{1,8})")
                .prop_map(|(at, words)| Self::Words(at, words)),
        ]
    }

    fn apply(&self, data: &mut Vec<u8>) {
        let end = data.len() + 1;
        let piece = |one: &Index, other: &Index| {
            let (one, other) = (one.index(end), other.index(end));
            // Most are short: what is left of a seed is then still of its format.
            let (from, to) = (one.min(other), one.max(other));
            from..to.min(from + 64)
        };
        match self {
            Self::Byte(at, byte) => match data.get_mut(at.index(end)) {
                Some(old) => *old = *byte,
                None => data.push(*byte),
            },
            Self::Cut(one, other) => drop(data.drain(piece(one, other))),
            Self::Again(one, other, to) => {
                let copy = data[piece(one, other)].to_vec();
                let to = to.index(end);
                data.splice(to..to, copy);
            }
            Self::Words(at, words) => {
                let at = at.index(end);
                data.splice(at..at, words.bytes());
            }
        }
    }
}

fn damaged(name: &str) {
    let seeds = seeds(name);
    // The cases are written out when they fail: no file of regressions beside the corpus.
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let input = (any::<Index>(), prop::collection::vec(Damage::any(), 1..6));
    let result = TestRunner::new(config).run(&input, |(seed, damages)| {
        let mut data = seeds[seed.index(seeds.len())].1.clone();
        damages.iter().for_each(|damage| damage.apply(&mut data));
        let caught = std::panic::catch_unwind(|| check(name, &data));
        prop_assert!(caught.is_ok(), "for {}", data.escape_ascii());
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{name}: {error}"));
}

macro_rules! damaged {
    ($($name:ident)*) => {
        mod damaged {
            $(#[test] fn $name() { super::damaged(stringify!($name)); })*

            #[test]
            fn all_are_here() {
                let names = super::TARGETS.map(|(name, _)| name);
                assert_eq!(names.as_slice(), [$(stringify!($name)),*]);
            }
        }
    };
}

damaged!(btf config control_line journal meminfo memory_stat record recording snapshot);
