//! The second implementation: no sets, no caches, one question after the other.

use proptest::prelude::*;
use proptest::sample::select;
use regex::bytes::Regex;

use super::*;

/// Written for shortness, by recursion; `*` and `?` stop at slashes if `path`, `**` is whole components.
fn glob(pattern: &[u8], text: &[u8], path: bool) -> bool {
    let separates = |byte: u8| path && byte == b'/';
    match pattern {
        [] => text.is_empty(),
        [b'/', b'*', b'*', rest @ ..] if path => {
            let whole = (0..=text.len()).filter(|end| *end == 0 || text[0] == b'/');
            whole
                .filter(|end| *end == text.len() || text[*end] == b'/')
                .any(|end| glob(rest, &text[end..], path))
        }
        [b'*', rest @ ..] => {
            let stop = text.iter().position(|byte| separates(*byte)).unwrap_or(text.len());
            (0..=stop).any(|end| glob(rest, &text[end..], path))
        }
        [b'?', rest @ ..] => {
            text.first().is_some_and(|byte| !separates(*byte)) && glob(rest, &text[1..], path)
        }
        [byte, rest @ ..] => text.first() == Some(byte) && glob(rest, &text[1..], path),
    }
}

/// The cgroup and those around it, the innermost first.
fn around(path: &str) -> Vec<&str> {
    let mut all: Vec<&str> =
        path.match_indices('/').map(|(at, _)| &path[..at]).filter(|path| !path.is_empty()).collect();
    all.push(path);
    all.reverse();
    all
}

fn part(given: &MatchSpec, process: &Process, protect: bool) -> bool {
    let patterns = |key: PatternKey| given.patterns[key as usize].as_ref().map(|given| &given.value);
    let any = |key, matches: &dyn Fn(&str) -> bool| {
        patterns(key).is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern)))
    };
    let trusted = |path: &&&str| !protect || path.len() <= process.trusted;
    any(PatternKey::Cgroup, &|pattern| {
        around(&process.cgroup)
            .iter()
            .filter(trusted)
            .any(|path| glob(pattern.as_bytes(), path.as_bytes(), true))
    }) && any(PatternKey::Comm, &|pattern| glob(pattern.as_bytes(), process.comm.as_bytes(), false))
        && any(PatternKey::Title, &|pattern| Regex::new(pattern).unwrap().is_match(process.title.as_bytes()))
        && any(PatternKey::Exe, &|pattern| {
            (!protect || process.exe_trusted) && glob(pattern.as_bytes(), process.exe.as_bytes(), true)
        })
        && given.user.as_ref().is_none_or(|users| {
            let system = users.value.iter().any(|user| user == "@system") && process.whose != Whose::User;
            system || users.value.contains(&process.uid.to_string())
        })
        && given.min_memory.as_ref().is_none_or(|least| u64::from(process.pid) >= least.value.0)
}

/// The name of what has the process, and whether it protects.
fn judge(specs: &[RuleSpec], process: &Process, parent: Option<&Process>) -> Option<(String, bool)> {
    if let Some(never) = process.never {
        return Some((never.rule().to_owned(), true));
    }
    let protects = |spec: &RuleSpec| spec.protect.as_ref().is_some_and(|protect| protect.value);
    let holds = |spec: &&RuleSpec| {
        part(&spec.matches, process, protects(spec))
            && (spec.parent.is_empty()
                || parent.is_some_and(|parent| part(&spec.parent, parent, protects(spec))))
    };
    let first = specs.iter().filter(|spec| protects(spec)).find(holds);
    let all = || specs.iter().filter(|spec| !protects(spec)).filter(holds);
    // One whose cgroup cannot be a worker has it only if no other has.
    let found = first.or_else(|| all().find(|spec| !is_refused(spec, process)).or_else(|| all().next()))?;
    Some((found.name.as_ref().unwrap().value.clone(), protects(found)))
}

/// Whether the cgroup that a rule would kill whole cannot be: the innermost that is root's, else the innermost.
fn is_refused(spec: &RuleSpec, process: &Process) -> bool {
    let Some(patterns) = spec.unit.as_ref().and(spec.matches.patterns[0].as_ref()) else { return false };
    let mut matching = around(&process.cgroup);
    matching
        .retain(|path| patterns.value.iter().any(|pattern| glob(pattern.as_bytes(), path.as_bytes(), true)));
    let roots = matching.iter().find(|path| path.len() <= process.trusted);
    let unit = roots.or(matching.first());
    unit.is_some_and(|unit| *unit == "/" || unit.len() > process.trusted)
}

fn patterns(key: PatternKey) -> impl Strategy<Value = Option<Vec<String>>> {
    let some: &[&str] = match key {
        PatternKey::Cgroup => &["/a", "/a/*", "/**/b", "/a/**", "/?", "/a/b", "/c*/**/a", "/**"],
        PatternKey::Comm => &["a", "a*", "?", "*b", "*", "b?a"],
        PatternKey::Title => &["a", "^b", "a.*b", "b$", "[ab]c", "."],
        PatternKey::Exe => &["/a", "/*/b", "/**/b", "/a/**"],
    };
    let list = prop::collection::vec(select(some).prop_map(str::to_owned), 1..3);
    prop::option::weighted(0.4, list)
}

fn part_of_a_rule(protect: bool) -> impl Strategy<Value = MatchSpec> {
    let users = prop::option::weighted(
        0.3,
        prop::collection::vec(select(&["0", "1000", "@system"][..]).prop_map(str::to_owned), 1..2),
    );
    let size = prop::option::weighted(0.2, 0u64..30);
    let all = (
        patterns(PatternKey::Cgroup),
        patterns(PatternKey::Comm),
        patterns(PatternKey::Title),
        patterns(PatternKey::Exe),
        users,
        size,
    );
    all.prop_map(move |(cgroup, comm, title, exe, user, size)| {
        let [comm, title] = if protect { [None, None] } else { [comm, title] };
        let at = |given: Option<Vec<String>>| given.map(|given| At::new(3, given));
        MatchSpec {
            patterns: [at(cgroup), at(comm), at(title), at(exe)],
            user: at(user),
            min_memory: size.filter(|_| !protect).map(|size| At::new(3, Bytes(size))),
        }
    })
}

fn rules() -> impl Strategy<Value = Vec<RuleSpec>> {
    let one = prop::bool::weighted(0.3).prop_flat_map(|protect| {
        let parent = if protect {
            Just(MatchSpec::default()).boxed()
        } else {
            prop_oneof![3 => Just(MatchSpec::default()), 1 => part_of_a_rule(false)].boxed()
        };
        (part_of_a_rule(protect), parent, Just(protect), prop::bool::weighted(0.3))
    });
    prop::collection::vec(one, 0..8).prop_map(|rules| {
        let rules =
            rules.into_iter().filter(|(matches, parent, ..)| !matches.is_empty() || !parent.is_empty());
        let named = (0..).zip(rules);
        named
            .map(|(number, (matches, parent, protect, cgroup))| {
                let cgroup = cgroup && !protect && matches.patterns[0].is_some();
                RuleSpec {
                    protect: protect.then(|| At::new(4, true)),
                    unit: cgroup.then(|| At::new(5, Unit::Cgroup)),
                    matches,
                    parent,
                    ..rule(&format!("r{number}"))
                }
            })
            .collect()
    })
}

fn processes() -> impl Strategy<Value = Vec<Process>> {
    let word = || prop::string::string_regex("[abc]{1,3}").unwrap();
    let path = || prop::string::string_regex("(/[abc]{1,2}){1,3}|/").unwrap();
    let one = (
        word(),
        word(),
        path(),
        any::<bool>(),
        any::<bool>(),
        path(),
        any::<u8>(),
        prop::bool::weighted(0.1),
        any::<u8>(),
    );
    prop::collection::vec(one, 1..20).prop_map(|all| {
        let named = (0u32..).zip(all);
        named
            .map(|(number, (comm, title, exe, exe_trusted, root, cgroup, trusted, never, parent))| Process {
                pid: number + 10,
                // Often an earlier one, sometimes a later one or nobody.
                parent: 10 + u32::from(parent) % (number + 2),
                trusted: usize::from(trusted) % (cgroup.len() + 1),
                uid: if root { 0 } else { 1000 },
                whose: if root { Whose::System } else { Whose::User },
                never: never.then_some(Never::OomScore),
                comm,
                title,
                exe,
                exe_trusted,
                cgroup,
                kept: None,
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_has_a_process(specs in rules(), processes in processes()) {
        let rules = Rules::compile(&specs, None).unwrap();
        let profiles = profiles(&rules, &processes);
        let parent = |process: &Process| processes.iter().position(|other| other.pid == process.parent);
        for (process, profile) in processes.iter().zip(&profiles) {
            let expected = judge(&specs, process, parent(process).map(|index| &processes[index]));
            let found = match rules.judge(profile, parent(process).map(|index| &profiles[index])) {
                Judgement::Never(never) => Some((never.rule().to_owned(), true)),
                Judgement::Protected { rule, .. } => Some((rule.name().to_string(), true)),
                Judgement::Worker(Matched { rule, .. }) | Judgement::Refused(rule, ..) => Some((rule.name().to_string(), false)),
                Judgement::Unmatched => None,
            };
            prop_assert_eq!(found, expected, "{:?}", process);
        }
    }

    #[test]
    fn each_process_is_in_one_place_of_a_look_and_no_worker_has_a_protected_one(
        specs in rules(),
        processes in processes(),
    ) {
        let rules = Rules::compile(&specs, None).unwrap();
        let look = rules.look(&profiles(&rules, &processes));
        let mut seen: Vec<usize> = look.workers.iter().flat_map(|found| found.members.iter().copied()).collect();
        seen.extend(look.protected.iter().map(|one| one.index));
        seen.extend(&look.unmatched);
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..processes.len()).collect::<Vec<_>>());
        let parent = |index: usize| processes.iter().position(|other| other.pid == processes[index].parent);
        for found in &look.workers {
            prop_assert!(!found.rule.protects());
            prop_assert!(!found.members.is_empty());
            for member in &found.members {
                match found.cgroup {
                    // By descent within the worker, or matched itself.
                    None => prop_assert!(
                        *member == found.first || parent(*member).is_some_and(|parent| found.members.contains(&parent)),
                    ),
                    Some(length) => {
                        let unit = &processes[found.first].cgroup[..length];
                        let path = &processes[*member].cgroup;
                        let below = path.starts_with(&format!("{unit}/"));
                        prop_assert!(path == unit || below);
                        prop_assert!(length <= processes[found.first].trusted);
                        // A whole cgroup has nobody else in it.
                        for (index, other) in processes.iter().enumerate() {
                            let inside = other.cgroup == unit || other.cgroup.starts_with(&format!("{unit}/"));
                            prop_assert!(!inside || !found.whole || found.members.contains(&index));
                        }
                    }
                }
            }
        }
    }
}
