//! What is run: programs, the size of their node, and what must have happened.

use std::path::{Path, PathBuf};

use monitor_tests::ray_node::Setting;

use crate::Args;

/// A program and what must come of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) setting: Setting,
    /// `ray start --head` comes first, and the program joins it.
    pub(crate) head: bool,
    /// How many workers the raylet must have killed, at least and at most.
    pub(crate) kills: (u64, u64),
    /// Run also where time is short.
    pub(crate) quick: bool,
    /// So often the agent is killed meanwhile, at last for good: then the raylet's own numbers are not the agent's.
    pub(crate) agent_kills: u32,
    /// What the program must print.
    pub(crate) prints: &'static str,
}

/// Ray's own tests of memory pressure: their names, the threshold that each sets, of 100, and how many workers the raylet must
/// have said that it killed. Where the test itself ends its Ray, it may say nothing.
const RAYS: [(&str, u64, (u64, u64)); 14] = [
    ("test_restartable_actor_throws_oom_error[False]", 50, (1, 1)),
    ("test_restartable_actor_throws_oom_error[True]", 50, (2, 2)),
    ("test_restartable_actor_oom_retry_off_throws_oom_error", 50, (2, 2)),
    ("test_non_retryable_task_killed_by_memory_monitor_with_oom_error", 50, (1, 1)),
    ("test_memory_pressure_kill_newest_worker", 50, (1, 1)),
    ("test_memory_pressure_kill_task_if_actor_submitted_task_first", 50, (1, 1)),
    ("test_actor_oom_logs_error", 50, (1, 1)),
    ("test_task_oom_logs_error", 50, (1, 1)),
    ("test_task_oom_no_oom_retry_fails_immediately", 50, (1, 1)),
    ("test_task_oom_only_uses_oom_retry", 50, (2, 2)),
    ("test_newer_task_not_retriable_kill_older_retriable_task_first", 50, (1, 2)),
    ("test_put_object_task_usage_slightly_below_limit_does_not_crash", 98, (0, 0)),
    ("test_last_task_of_the_group_fail_immediately", 95, (0, 1)),
    ("test_one_actor_max_kill_previous_actor", 70, (0, 2)),
];

/// All that were asked for.
pub(crate) fn chosen(args: &Args) -> Vec<Case> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("ray");
    let setting = |mib| Setting { mib, threshold: 90, refresh_ms: 100, boxed: true, guarded: !args.plain };
    let case = |name, file: &str, mib, kills| Case {
        name,
        program: own.join(file),
        arguments: Vec::new(),
        setting: setting(mib),
        head: false,
        kills,
        quick: false,
        agent_kills: 0,
        prints: "ok: ",
    };
    // Where two of 30% each are too many.
    let lower = |mib| Setting { threshold: 40, ..setting(mib) };
    let mut all = vec![
        Case { quick: true, ..case("leak", "leak.py", 2048, (1, 1)) },
        Case { setting: lower(4096), head: true, quick: true, ..case("actors", "actors.py", 4096, (1, 2)) },
        Case { quick: true, ..case("child", "child.py", 2048, (1, 1)) },
        case("retried", "retried.py", 2048, (2, 2)),
        case("nested", "nested.py", 2048, (1, 1)),
        case("restarts", "restarts.py", 2048, (2, 2)),
        case("eight", "eight.py", 3072, (8, 8)),
        case("cluster", "cluster.py", 3072, (1, 1)),
        case("order", "order.py", 2048, (1, 1)),
        case("fails", "fails.py", 2048, (2, 2)),
        case("pool", "pool.py", 2048, (1, 1)),
        case("store", "store.py", 2048, (0, 0)),
        // Tasks that may be retried die before the leak, which may not.
        case("decoys", "decoys.py", 2048, (1, 8)),
        Case { agent_kills: 50, ..case("storm", "storm.py", 3072, (3, 500)) },
        // Its raylet reads /proc/meminfo; the limit is the agent's business alone.
        Case { setting: Setting { boxed: false, ..setting(2048) }, ..case("host", "child.py", 2048, (1, 1)) },
    ];
    if let Some(page) = &args.page {
        let page = |name, file: &str, prints| Case {
            name,
            program: page.join(file),
            prints,
            quick: true,
            ..case(name, file, 4096, (1, 2))
        };
        let expected = "task failed with OutOfMemoryError, which is expected";
        all.push(page("page-oom", "oom.py", expected));
        let finished = "Second started actor, which is not-retriable, finished.";
        all.push(Case {
            setting: lower(4096),
            head: true,
            ..page("page-two-actors", "two_actors.py", finished)
        });
    }
    if let Some(tests) = &args.tests {
        let one = |(name, threshold, kills)| Case {
            arguments: vec![tests.display().to_string(), String::from(name)],
            setting: Setting { threshold, ..setting(4096) },
            ..case(name, "own_tests.py", 4096, kills)
        };
        all = RAYS.map(one).into();
    }
    let named = |case: &Case| {
        args.filter.is_empty() || args.filter.iter().any(|part| case.name.contains(part.as_str()))
    };
    let possible = |case: &Case| case.agent_kills == 0 || !args.plain;
    let all = all.into_iter().filter(|case| named(case) && possible(case));
    all.filter(|case| case.quick || !args.quick).collect()
}
