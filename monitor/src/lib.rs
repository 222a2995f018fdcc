//! A node agent that keeps a Linux machine from running out of memory.
//!
//! See ARCHITECTURE.md for the rooms of this crate and what each must not do.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod journal;
pub mod kernel;
pub mod kill;
pub mod log;
pub mod memory;
pub mod policy;
pub mod printable;
pub mod recording;
pub mod report;
pub mod retry;
pub mod runner;
pub mod snapshot;
pub mod threshold;
pub mod units;
pub mod worker;
