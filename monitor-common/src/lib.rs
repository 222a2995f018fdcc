//! Records and tunables that cross the kernel boundary.
#![no_std]
