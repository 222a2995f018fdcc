//! What is certain of a process of which neither title nor parent is known.

use super::*;

#[test]
fn only_a_rule_that_stands_before_leaves_open_who_has_a_process() {
    let with_parent = |mut spec: RuleSpec| {
        spec.parent = matching("x", &[(PatternKey::Comm, "raylet")]).matches;
        spec
    };
    let specs = [
        protecting("database", PatternKey::Exe, "/usr/bin/postgres"),
        matching("dask", &[(PatternKey::Comm, "python*"), (PatternKey::Title, "spawn_main")]),
        with_parent(matching("ray", &[(PatternKey::Comm, "ray::*")])),
        unit(matching("box", &[(PatternKey::Cgroup, "/boxes/*")])),
        matching("last", &[(PatternKey::Title, "leak")]),
    ];
    let rules = compiled(&specs);
    let settled = |rules: &Rules, comm: &str, cgroup: &str| {
        let process = Process { title: String::new(), ..Process::new(10, 1, comm, cgroup) };
        rules.is_settled(&process.profile(rules))
    };
    assert!(settled(&rules, "java", "/boxes/a"), "no rule before it could have that one");
    assert!(!settled(&rules, "python3", "/boxes/a"), "by its title the first could");
    assert!(!settled(&rules, "ray::f", "/boxes/a"), "by its parent the second could");
    assert!(settled(&rules, "postgres", "/boxes/a"), "it is protected, whatever its title");
    assert!(!settled(&rules, "java", "/"), "no rule has it yet, and the last one could");
    let without = compiled(&specs[2..4]);
    assert!(settled(&without, "python3", "/boxes/a") && settled(&without, "java", "/"));
}
