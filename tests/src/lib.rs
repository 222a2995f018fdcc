//! Tests on the real kernel: what they share. The tests themselves lie in `tests/tests/`.
//!
//! Everything here kills only what it started or what sits in a cgroup that it made, by pidfd, and waits until a
//! deadline, never for a fixed time.

pub mod agent;
pub mod binary;
pub mod caller;
pub mod cgroup;
pub mod clock;
pub mod dice;
pub mod ending;
pub mod freezer;
pub mod hog;
pub mod http;
pub mod intercept;
pub mod machine;
pub mod mount_namespace;
pub mod notes;
pub mod pid_namespace;
pub mod process;
pub mod promises;
pub mod ptrace;
pub mod ray_node;
pub mod report;
pub mod signals;
pub mod silent_fs;
pub mod skip;
pub mod small_disk;
pub mod tools;
pub mod unified;
pub mod vm_line;
pub mod worker;
