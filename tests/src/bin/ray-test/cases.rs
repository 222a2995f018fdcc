//! What is run: programs, the size of their node, and what must have happened.

use std::path::{Path, PathBuf};

use crate::Args;

/// A program and what must come of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    /// The node's memory in MiB.
    pub(crate) mib: u64,
    /// The raylet's threshold, of 100.
    pub(crate) threshold: u64,
    /// `ray start --head` comes first, and the program joins it.
    pub(crate) head: bool,
    /// How many workers the raylet must have killed, at least and at most.
    pub(crate) kills: (u64, u64),
    /// Run also where time is short.
    pub(crate) quick: bool,
    /// What the program must print.
    pub(crate) prints: &'static str,
}

/// All that were asked for.
pub(crate) fn chosen(args: &Args) -> Vec<Case> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("ray");
    let case = |name, file: &str, mib, kills| Case {
        name,
        program: own.join(file),
        mib,
        threshold: 90,
        head: false,
        kills,
        quick: false,
        prints: "ok: ",
    };
    let mut all = vec![
        Case { quick: true, ..case("leak", "leak.py", 2048, (1, 1)) },
        Case { threshold: 40, head: true, quick: true, ..case("actors", "actors.py", 4096, (1, 2)) },
        Case { quick: true, ..case("child", "child.py", 2048, (1, 1)) },
        case("retried", "retried.py", 2048, (2, 2)),
        case("nested", "nested.py", 2048, (1, 1)),
        case("restarts", "restarts.py", 2048, (2, 2)),
        case("eight", "eight.py", 3072, (8, 8)),
        case("cluster", "cluster.py", 3072, (1, 1)),
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
        all.push(Case { threshold: 40, head: true, ..page("page-two-actors", "two_actors.py", finished) });
    }
    let named = |case: &Case| {
        args.filter.is_empty() || args.filter.iter().any(|part| case.name.contains(part.as_str()))
    };
    all.into_iter().filter(|case| named(case) && (case.quick || !args.quick)).collect()
}
