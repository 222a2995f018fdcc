//! Processes that changed: executed a program, renamed themselves, or were moved to another cgroup. Any process may be told
//! of, a worker's or nobody's, so these records give way to all others, and only those are pushed that a rule could
//! match.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use monitor_common::{Changed, MOST_BEGINNINGS, NAME_LENGTH, Name, RecordKind};

use crate::{
    maps::{EVENTS, WANTED, WORKERS, dropped},
    ring,
};

/// The most unread bytes of the ring buffer beside which such a record is pushed: a quarter of it.
const SHARE: u64 = 1 << 17;

/// Whether the agent wants to hear of this process: a worker's, or one whose name a rule could match.
#[inline(always)]
pub(crate) fn is_wanted(pid: u32, name: Name) -> bool {
    let Some(wanted) = WANTED.get_ptr(0) else { return false };
    // SAFETY: a map value stays valid during the program; the agent writes it through the map.
    let (everybody, number) = unsafe { ((*wanted).everybody, (*wanted).number as usize) };
    if everybody != 0 || WORKERS.get_ptr(pid).is_some() {
        return true;
    }
    for index in 0..MOST_BEGINNINGS {
        if index >= number {
            break;
        }
        // SAFETY: as above.
        let beginning = unsafe { (*wanted).beginnings[index & (MOST_BEGINNINGS - 1)] };
        if beginning.fits(name) {
            return true;
        }
    }
    false
}

/// Tells the agent, if there is room.
#[inline(always)]
pub(crate) fn tell(kind: RecordKind, pid: u32, name: [u8; NAME_LENGTH]) {
    let record = Changed { header: ring::header(kind), pid, reserved: 0, name, unused: [0; 3] };
    if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) > SHARE || !ring::push(kind, false, record) {
        dropped(|drops| &mut drops.changed);
    }
}
