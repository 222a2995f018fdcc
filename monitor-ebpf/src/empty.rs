//! Programs that do nothing, one for each way to be called: what being called costs (`cargo xtask bench --only hooks`).
//! An object of its own that the agent never sees.
#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};

#[btf_tracepoint(function = "mod_memcg_lruvec_state")]
pub fn lruvec_btf(_: BtfTracePointContext) -> i32 {
    0
}

#[raw_tracepoint(tracepoint = "mod_memcg_lruvec_state")]
pub fn lruvec_raw(_: RawTracePointContext) -> i32 {
    0
}

#[tracepoint(category = "memcg", name = "mod_memcg_lruvec_state")]
pub fn lruvec_classic(_: TracePointContext) -> u32 {
    0
}

#[btf_tracepoint(function = "mod_memcg_state")]
pub fn state_btf(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "count_memcg_events")]
pub fn events_btf(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "rss_stat")]
pub fn rss_btf(_: BtfTracePointContext) -> i32 {
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
