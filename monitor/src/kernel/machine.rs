//! What of the machine the kernel programs are not made for, and how many CPUs they share their cells with.

use std::sync::LazyLock;

use monitor_common::PAGE;

/// Real-time kernels before this one: their ring buffers and hash tables take locks that may sleep there, and
/// `bpf_send_signal` does ("bpf: Send signals asynchronously if !preemptible", kernel 6.14).
const REALTIME_FROM: (u32, u32) = (6, 14);

/// From here on programs at tracepoints can be preempted (`links::skipped`).
const PREEMPTED_FROM: (u32, u32) = (7, 0);

/// Why no program may run on this kernel.
pub(super) fn forbids_programs() -> Option<String> {
    let kernel = rustix::system::uname();
    let (release, version) = (kernel.release().to_string_lossy(), kernel.version().to_string_lossy());
    sleeps(&release, &version).then(|| {
        format!("{release} is a PREEMPT_RT kernel before 6.14, where programs may sleep in its locks")
    })
}

/// Why usage cannot be counted on this kernel.
pub(super) fn forbids_counting() -> Option<String> {
    let page = rustix::param::page_size() as u64;
    (page != PAGE)
        .then(|| format!("this kernel's pages have {page} bytes; only those of {PAGE} can be counted"))
}

/// Whether this kernel can leave out a run of a program that runs already on the same CPU.
pub(super) fn leaves_runs_out() -> bool {
    static FOUND: LazyLock<bool> =
        LazyLock::new(|| at_least(&rustix::system::uname().release().to_string_lossy(), PREEMPTED_FROM));
    *FOUND
}

/// Of the machine, whatever the agent itself may use: all of them charge memory at the same time.
pub(crate) fn online_cpus() -> u32 {
    let online = aya::util::online_cpus().map_or(0, |cpus| cpus.len());
    let ours = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(if online > 0 { online } else { ours() }).unwrap_or(1)
}

/// Whether a kernel with this `uname -r` and `uname -v` is one of those real-time kernels.
fn sleeps(release: &str, version: &str) -> bool {
    version.contains("PREEMPT_RT") && numbers(release).is_some_and(|found| found < REALTIME_FROM)
}

/// Whether a kernel's release, as `6.18.1-cloud`, is of this version or a later one.
pub(crate) fn at_least(release: &str, version: (u32, u32)) -> bool {
    numbers(release).is_some_and(|found| found >= version)
}

/// The first two of a `uname -r`.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_real_time_kernels_are_told_apart() {
        let (real_time, other) =
            ("#1 SMP PREEMPT_RT Debian 6.1.170-1", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1");
        assert!(sleeps("6.1.0-48-rt-amd64", real_time));
        assert!(sleeps("5.10.0-46-rt-amd64", real_time));
        assert!(!sleeps("6.1.0-48-amd64", other));
        assert!(!sleeps("6.14.0", real_time));
        assert!(!sleeps("7.0", real_time));
        assert!(!sleeps("none", real_time));
        assert_eq!(numbers("7.0-rc3+deb14"), Some((7, 0)));
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert!(at_least("6.1.0-13-cloud-amd64\n", (5, 14)) && at_least("5.14", (5, 14)));
        assert!(
            !at_least("5.4.0", (5, 14)) && !at_least("4.18.0-305.el8", (5, 14)) && !at_least("", (5, 14))
        );
    }
}
