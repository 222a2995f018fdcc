//! A node agent that keeps a Linux machine from running out of memory.
//!
//! See ARCHITECTURE.md for the rooms of this crate and what each must not do.

pub mod agent;
mod callbacks;
pub mod cli;
pub mod config;
pub mod control;
pub mod diagnostics;
mod executable;
pub mod exit_status;
pub mod journal;
pub mod kernel;
pub mod kill;
pub mod memory;
pub mod page;
pub mod printable;
mod proc_forks;
pub mod proc_stat;
pub mod proc_threads;
pub mod ray;
pub mod recording;
pub mod report;
mod roles;
pub mod rules;
pub mod runner;
pub mod series;
pub mod trusted_file;
pub mod wall_clock;

pub use monitor_core::{admission, engine, learn, policy, retry, snapshot, threshold, units, worker};
