//! What monitor decides: who is killed, when, why, and what becomes of the work. Pure: it opens nothing, reads no clock
//! and starts no thread, so that a run can be recorded, replayed and simulated. The compiler and Cargo keep it so: this
//! crate has no `std`, and depends on nothing that does I/O.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod admission;
pub mod engine;
pub mod learn;
pub mod policy;
mod prelude;
pub mod retry;
pub mod rules;
pub mod snapshot;
pub mod threshold;
pub mod units;
pub mod worker;
