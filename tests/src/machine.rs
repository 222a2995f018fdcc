//! What machine the tests run on.

/// The first two numbers of the kernel's release.
///
/// # Panics
/// If it has no such numbers.
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests: every Linux has them")]
pub fn kernel() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
