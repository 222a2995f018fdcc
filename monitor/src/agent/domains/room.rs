//! How many domains there may be because of limits around workers, and how many of them, and of the kernel's cells, may
//! be there for one user's workers. What an operator named is not bounded by it.

use super::cells::Uncounted;
use super::{Asked, Domains};
use crate::agent::event_loop::descriptors::Shares;

impl Domains {
    /// Whether so many more may be guarded for a user's workers: all together stay below what there are descriptors
    /// for, and a user has no more than what is then left for others. Root, and the agent's own user, are bound by
    /// the total.
    ///
    /// # Errors
    /// Why not, for the user.
    pub(super) fn room_for(&self, uid: u32, more: usize) -> Result<(), String> {
        let (all, mine) = self.by_limit(uid, |_| true);
        let left = self.most.saturating_sub(all);
        if more > 0 && is_bounded(uid) && mine + more > left {
            return Err(format!("the workers of uid {uid} lie in {mine} cgroups with limits, its share"));
        }
        if more > left {
            let of_use = Shares::wanted();
            return Err(format!(
                "{all} cgroups with limits are guarded, and there is no room for more open files: raise LimitNOFILE (up to \
                 {of_use} is of use)"
            ));
        }
        Ok(())
    }

    /// Whether one of these may have one more cell, with so many left.
    pub(super) fn may_count(&self, asked: Asked, left: usize) -> Result<(), Uncounted> {
        let Asked::ByLimit(uid) = asked else { return Ok(()) };
        let (_, mine) = self.by_limit(uid, |counted| counted);
        if is_bounded(uid) && mine >= left { Err(Uncounted::Share) } else { Ok(()) }
    }

    /// How many there are because of limits, in all and for a user's workers, of those that the kernel counts or not.
    fn by_limit(&self, uid: u32, which: impl Fn(bool) -> bool) -> (usize, usize) {
        let limited = self.entries.values().filter(|entry| which(entry.cell.is_ok()));
        let of = limited.filter_map(|entry| match entry.asked {
            Asked::ByLimit(uid) => Some(uid),
            Asked::ByName => None,
        });
        of.fold((0, 0), |(all, mine), of| (all + 1, mine + usize::from(of == uid)))
    }
}

fn is_bounded(uid: u32) -> bool {
    uid != 0 && uid != rustix::process::geteuid().as_raw()
}
