//! How a test says that it cannot run here. `cargo xtask test` and `cargo xtask vm` count what is noted and print the
//! reasons. Decides nothing about what is missing.

use crate::notes::append;

/// Names the file that notes are appended to, one line each: test, tab, reason.
pub const NOTES_VARIABLE: &str = "MONITOR_TEST_SKIPS";

/// What is missing, which decides whether CI accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    /// This kernel was built or booted without it: a fact, the table of kernels shows it.
    Kernel,
    /// A privilege, a tool or a mount that could be had. With `CI=true` the test fails instead.
    Machine,
}

/// Notes that a test cannot run because this kernel or this machine lacks something. Return after it:
/// `skip!(Lacks::Kernel, "no memory controller on cgroup v2"); return;`
#[macro_export]
macro_rules! skip {
    ($lacks:expr, $($why:tt)+) => {{
        fn here() {}
        $crate::skip::note($lacks, std::any::type_name_of_val(&here), &format!($($why)+))
    }};
}

/// What [`skip!`] expands to. `here` is the path of a function inside the test.
///
/// # Panics
///
/// With `CI=true` when the machine lacks something, and when the note cannot be written.
pub fn note(lacks: Lacks, here: &str, why: &str) {
    let test = test_name(here);
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!(ci && lacks == Lacks::Machine), "{test} cannot run, which CI=true does not accept: {why}");
    eprintln!("skipped: {test}: {why}");
    append(NOTES_VARIABLE, &[&test, why]);
}

/// libtest's name of the test: without the crate, the helper, and the closures of async tests.
fn test_name(here: &str) -> String {
    here.split("::")
        .skip(1)
        .filter(|part| *part != "here" && !part.starts_with("{{"))
        .collect::<Vec<_>>()
        .join("::")
}

#[cfg(test)]
mod tests {
    use super::test_name;

    #[test]
    fn a_note_carries_the_name_that_libtest_prints() {
        assert_eq!(test_name("usage::a_delta_arrives::here"), "a_delta_arrives");
        assert_eq!(test_name("all::usage::a_delta_arrives::{{closure}}::here"), "usage::a_delta_arrives");
    }
}
