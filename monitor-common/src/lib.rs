//! Records and tunables that cross the kernel boundary, and the arithmetic that both sides must agree on.
//!
//! Everything here is `#[repr(C)]`, the same on both sides, and has its size and offsets asserted at compile
//! time. It must not know aya, tokio or files.
#![no_std]

mod cell;
mod news;
mod record;
mod worker;

pub use cell::{Cell, MAX_CELLS, MEMORIES, NO_PARENT, NODE_CELL, PAGE, brake, quantum};
pub use news::{Beginning, MOST_BEGINNINGS, NAME_LENGTH, Name, Wanted, words};
pub use record::{Changed, Crossing, Delta, Exit, Fork, Header, OomVictim, RECORD_LEN, RecordKind, Stopped};
pub use worker::{Drops, MAX_WORKER_PROCESSES, ON_ITS_WAY, WorkerEntry, holds};
