//! `memcg:mod_memcg_lruvec_state`: memory charged to cgroups and given back, exactly. The dearest usage hook:
//! it runs twice for each 4 KiB page touched and twice for each freed (docs/measurements.md).
//!
//! Of the items only anonymous, shared-memory and page-table pages are summed: they are what
//! docs/behavior.md#accounting counts as used (file pages are subtracted there). Items in bytes (slab, percpu) are
//! rounded up to pages by the kernel and can't be summed (`memcg_rstat_updated`, mm/memcontrol.c, kernel 6.18).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    account,
    offsets::{self, get},
};

/// `void (struct mem_cgroup *memcg, int item, int val)`; `val` is a long from kernel 7.1 on.
#[btf_tracepoint(function = "mod_memcg_lruvec_state")]
pub fn memcg(ctx: BtfTracePointContext) -> i32 {
    let item: u32 = ctx.arg(1);
    if !counts(item) {
        return 0;
    }
    let memcg: *const u8 = ctx.arg(0);
    let pages: i32 = ctx.arg(2);
    let Some(local) = account::local() else { return 0 };
    // SAFETY: css is a field of the tracepoint's argument.
    let css = unsafe { memcg.add(get(&offsets::MEMCG_CSS)) };
    if let Some(place) = local.place_of(css) {
        local.add(css, place, i64::from(pages));
    }
    0
}

/// Whether an item is part of what is used, and in pages.
#[inline(always)]
fn counts(item: u32) -> bool {
    let item = item as usize;
    item == get(&offsets::ITEM_ANON)
        || item == get(&offsets::ITEM_SHMEM)
        || item == get(&offsets::ITEM_PAGETABLE)
}
