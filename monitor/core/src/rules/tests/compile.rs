//! Faults of rules, and what owners and names are made of.

use super::*;

fn faults(specs: &[RuleSpec]) -> Vec<String> {
    Rules::compile(specs, None).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn each_fault_says_file_line_key_and_what_is_allowed() {
    let title = |name: &str| matching(name, &[(PatternKey::Title, "x")]);
    let with = |change: fn(&mut RuleSpec)| {
        let mut spec = title("a");
        change(&mut spec);
        faults(&[spec])
    };
    assert_eq!(
        faults(&[rule("a")])[0].split(';').next(),
        Some("test.toml:1: match: it matches nothing in particular")
    );
    assert_eq!(
        faults(&[title("a"), title("a")]),
        ["test.toml:2: name: the name \"a\" is taken by the rule at test.toml:1; allowed: each name once"]
    );
    assert!(with(|spec| spec.name = None)[0].starts_with("test.toml:1: name: it has no name"));
    assert!(with(|spec| spec.name = Some(At::new(2, "a b".into())))[0].contains("\"a b\" is not a name"));
    assert_eq!(
        with(|spec| spec.owner = Some(At::new(7, "{pod}".into()))),
        [
            "test.toml:7: owner: {pod} is no capture; allowed: {uid}, {user}, {comm}, {pid}, {parent.pid}, {pod.name}"
        ]
    );
    assert!(
        with(|spec| spec.matches.patterns[2] = Some(At::new(8, vec![])))[0]
            .starts_with("test.toml:8: match.title: it is empty")
    );
    assert!(
        with(|spec| spec.matches.user = Some(At::new(9, vec!["-1".into()])))[0]
            .contains("match.user: \"-1\" is not a user")
    );
    assert!(
        with(|spec| spec.unit = Some(At::new(9, Unit::Cgroup)))[0]
            .starts_with("test.toml:9: unit: \"cgroup\" needs match.cgroup")
    );
    for (cgroup, why) in [
        ("/", "it is the root"),
        ("/user.slice/*.slice", "it is a slice"),
        ("/**/session-{n}.scope", "it is a login session"),
        ("/**/init.scope", "it is a service manager"),
    ] {
        let never =
            faults(&[unit(matching("a", &[(PatternKey::Cgroup, cgroup), (PatternKey::Cgroup, "/a")]))]);
        assert!(
            never.len() == 1 && never[0].contains("can never match") && never[0].contains(why),
            "{never:?}"
        );
    }
    let protected = with(|spec| {
        spec.protect = Some(At::new(3, true));
        spec.mode = Some(At::new(4, Mode::Enforce));
    });
    assert_eq!(
        protected[0],
        "test.toml:4: mode: it has no meaning with protect = true; allowed: one of the two"
    );
    assert!(protected[1].starts_with("test.toml:3: match.title: a process can give itself any title"));
}

#[test]
fn captures_are_each_of_all_patterns_of_their_key_and_of_one_key() {
    let mut spec = matching("a", &[(PatternKey::Cgroup, "/{pod}/x"), (PatternKey::Cgroup, "/y")]);
    spec.owner = Some(At::new(7, "{pod}".into()));
    assert!(faults(&[spec])[0].contains("captured by some patterns of a list only"));
    let spec = matching("a", &[(PatternKey::Cgroup, "/{pod}"), (PatternKey::Title, "(?<pod>x)")]);
    assert!(faults(&[spec])[0].contains("\"pod\" is captured twice"));
    let spec = matching("a", &[(PatternKey::Cgroup, "/{uid}")]);
    assert!(faults(&[spec])[0].contains("\"uid\" cannot be captured"));
    let mut spec = matching("a", &[(PatternKey::Comm, "x")]);
    spec.idle.patterns[PatternKey::Comm as usize] = Some(At::new(9, vec!["{a}".into()]));
    assert!(faults(&[spec])[0].contains("nothing can use it"));
}

#[test]
fn there_is_a_bound_to_everything() {
    let many: Vec<RuleSpec> =
        (0..10_000).map(|n| matching(&format!("r{n}"), &[(PatternKey::Title, "x")])).collect();
    assert_eq!(
        faults(&many),
        ["test.toml:1: rule: there are 10000 rules; allowed: 1000 in all files and presets together"]
    );
    assert!(Rules::compile(&many[..MOST_RULES], None).is_ok());
    let patterns = vec![(PatternKey::Comm, "x"); MOST_PATTERNS + 1];
    assert!(faults(&[matching("a", &patterns)])[0].contains("it lists 65 values"));
    let long = "x".repeat(MOST_TEXT + 1);
    assert!(faults(&[matching("a", &[(PatternKey::Title, &long)])])[0].contains("it has 513 bytes"));
}

#[test]
fn owners_and_names_are_filled_in() {
    let mut pod = unit(matching("pod", &[(PatternKey::Cgroup, "/kubepods/**/pod{pod}/{container}")]));
    pod.owner = Some(At::new(7, "{user}/{pod}".into()));
    let mut task =
        matching("task", &[(PatternKey::Comm, "ray::*"), (PatternKey::Title, "job=(?<job>[0-9]+)")]);
    task.owner = Some(At::new(7, "{parent.pid}-{job}-{uid}".into()));
    task.worker_name = Some(At::new(8, "{comm}({pid})".into()));
    let rules = compiled(&[pod, task, matching("plain", &[(PatternKey::Comm, "plain")])]);
    let named = |process: &Process| {
        let process = process.profile(&rules);
        let Judgement::Worker(found) = rules.judge(&process, None) else { panic!("no worker") };
        (rules.owner(found.rule, &process, None), rules.worker_name(found.rule, &process, None))
    };
    let text = |text: &str| Some(text.to_owned());
    let process = Process::new(7, 3, "app", "/kubepods/burstable/pod12/abc/inner");
    assert_eq!(named(&process), (text("alice/12"), "abc".to_owned()));
    let process = Process { title: "x job=42 y".into(), ..Process::new(7, 3, "ray::f", "/") };
    assert_eq!(named(&process), (text("3-42-1000"), "ray::f(7)".to_owned()));
    assert_eq!(named(&Process::new(7, 3, "plain", "/")), (None, "plain".to_owned()));
    let long = "ä".repeat(MOST_NAME);
    let named = named(&Process::new(7, 3, "app", &format!("/kubepods/pod1/{long}")));
    assert_eq!(named.1.len(), MOST_NAME);
}

#[test]
fn the_mode_for_all_holds_back_and_is_the_default() {
    for (all, own, mode) in [
        (None, None, Mode::Observe),
        (None, Some(Mode::Enforce), Mode::Enforce),
        (Some(Mode::Enforce), None, Mode::Enforce),
        (Some(Mode::Enforce), Some(Mode::Observe), Mode::Observe),
        (Some(Mode::Observe), Some(Mode::Enforce), Mode::Observe),
    ] {
        let spec =
            RuleSpec { mode: own.map(|mode| At::new(3, mode)), ..matching("a", &[(PatternKey::Comm, "a")]) };
        let rules = Rules::compile(&[spec], all).unwrap();
        assert_eq!(rules.iter().next().unwrap().mode(), mode, "{all:?} {own:?}");
    }
}

#[test]
fn a_worker_is_idle_while_idle_matches_too_and_the_parent_is_looked_at() {
    let mut spec = matching("ray", &[(PatternKey::Comm, "ray::*")]);
    spec.parent.patterns[PatternKey::Comm as usize] = Some(At::new(4, vec!["raylet".into()]));
    spec.idle.patterns[PatternKey::Comm as usize] = Some(At::new(5, vec!["ray::IDLE".into()]));
    let rules = compiled(&[spec]);
    let parent = Process::new(2, 1, "raylet", "/");
    let parent = parent.profile(&rules);
    let judge = |comm: &str, parent: Option<&Profile<'_>>| {
        let process = Process::new(3, 2, comm, "/");
        let process = process.profile(&rules);
        match rules.judge(&process, parent) {
            Judgement::Worker(found) => Some((found.idle, rules.why(found.rule, &process, parent))),
            _ => None,
        }
    };
    let why = "comm matches ray::*, parent.comm matches raylet".to_owned();
    assert_eq!(judge("ray::IDLE", Some(&parent)), Some((true, why.clone())));
    assert_eq!(judge("ray::f", Some(&parent)), Some((false, why)));
    assert_eq!(judge("ray::f", None), None, "an unknown parent matches nothing");
    assert_eq!(judge("bash", Some(&parent)), None);
}

#[test]
fn the_names_that_rules_ask_for_are_known_by_their_beginnings() {
    let names = |specs: &[RuleSpec]| {
        let rules = Rules::compile(specs, None).unwrap();
        let names = rules.names().map(|all| all.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
        names.map(|all| all.into_iter().map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>())
    };
    let comm = |name: &str, patterns: &[&str]| {
        matching(name, &patterns.iter().map(|pattern| (PatternKey::Comm, *pattern)).collect::<Vec<_>>())
    };
    let protecting = protecting("p", PatternKey::Exe, "/bin/x");
    let two =
        [comm("a", &["ray::*", "dask"]), comm("b", &["x{n}y", "ray::*", "q[ab]", "*z"]), protecting.clone()];
    assert_eq!(names(&two), Some(["", "dask", "q", "ray::", "x"].map(String::from).to_vec()));
    let both = matching("c", &[(PatternKey::Comm, "c"), (PatternKey::Title, "t")]);
    assert_eq!(names(&[both]), Some(vec!["c".to_owned()]), "all keys must match");
    let title = matching("d", &[(PatternKey::Title, "t")]);
    assert_eq!(names(&[comm("a", &["a"]), title]), None, "it goes by something else");
    let mut parent = matching("e", &[(PatternKey::Title, "t")]);
    parent.parent = comm("x", &["a"]).matches;
    assert_eq!(names(&[parent]), None, "a parent's name is not its own");
    assert_eq!(names(&[protecting]), Some(Vec::new()), "nobody becomes a worker");
}
