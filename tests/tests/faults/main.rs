//! What the agent does when the kernel, the disk or its callers fail it (docs/faults.md): every trigger ends as killed,
//! refused or failed, counted and said; nobody is killed on garbage, and the agent goes on.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod clock;
mod descriptors;
mod disk;
mod kernel_side;
mod network;
mod output;
mod readings;
mod scene;
mod signals;
mod socket;
