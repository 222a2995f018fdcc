//! Runs of the programs that the kernel left out. From 7.0 on a program at a tracepoint can be preempted ("tracing: Guard
//! __DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast"): if the agent, which it woke, runs first, another process that
//! comes by that tracepoint on this CPU is told of to nobody. The program cannot count that; the kernel does.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::programs::ProgramFd;

/// How often this program was left out since it was loaded. `None`: this kernel does not say (before 5.12).
pub(super) fn runs(program: &ProgramFd) -> Option<u64> {
    let fd = program.as_fd().as_raw_fd();
    told(&fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?)
}

fn told(fdinfo: &str) -> Option<u64> {
    let number = |line: &str| line.strip_prefix("recursion_misses:")?.trim().parse().ok();
    fdinfo.lines().find_map(number)
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn the_number_is_found_among_the_other_lines() {
        let text = "pos:\t0\nflags:\t02000002\nprog_type:\t26\nprog_jited:\t1\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t9\n";
        assert_eq!(told(text), Some(17));
        assert_eq!(told("pos:\t0\nprog_type:\t26\n"), None);
    }
}
