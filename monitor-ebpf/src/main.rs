//! The kernel side: one file per hook, and what they share (`account`, `brake`, `changed`, `maps`, `offsets`, `ring`).
//!
//! Invariants: no unbounded loop; nothing is logged or pushed per event; no number of the running kernel is
//! baked in (see `offsets`); only registered workers' processes are ever signaled.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod account;
mod brake;
mod cgroup_attach;
mod cgroup_mkdir;
mod cgroup_rmdir;
mod changed;
mod charge;
mod exec;
mod exit;
mod lineage;
mod maps;
mod mark_victim;
mod memcg;
mod offsets;
mod rename;
mod ring;
mod rss;

/// Programs may call helpers that the kernel keeps for GPL-compatible ones.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
