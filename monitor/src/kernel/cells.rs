//! The cells as the agent sees them: the programs' own memory, mapped. Setting a line and reading a counter are
//! loads and stores, no system calls, so they cost nothing on the path to a kill.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use aya::maps::{HashMap, MapData, MapError};
use monitor_common::{Cell, MAX_CELLS, NODE_CELL, brake, quantum};

/// The cells could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("cannot map the cells: {0}")]
pub struct MapCellsError(#[from] rustix::io::Errno);

/// What the agent says about a cell. The programs see it at their next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Least pages that a CPU keeps to itself.
    pub floor: u32,
    /// Most pages that a CPU keeps to itself.
    pub ceiling: u32,
    /// What the headroom is divided by to get between the two.
    pub divisor: u32,
    /// The same for records: by what, and the least change that is worth one.
    pub report_divisor: u32,
    /// In pages.
    pub report_floor: u32,
}

impl Tuning {
    /// For a machine with `cpus` processors and `cells` guarded domains. At the line 64 KiB for each processor
    /// are unreported at most; far from it the processors together keep a quarter of the headroom, each of them
    /// 256 KiB at most. A record is pushed for a quarter of the headroom, 1 MiB at least.
    ///
    /// The most is that little because a processor keeps what it has when a worker moves on to another one, and
    /// nothing can make it flush: at the line it is missing. No more is what the kernel's own usage lags behind
    /// (`MEMCG_CHARGE_BATCH`, mm/memcontrol.c), and a flush for 64 pages is 1 ns for each.
    #[must_use]
    pub fn new(cpus: u32, cells: u32) -> Self {
        let divisor = cpus.max(1).saturating_mul(cells.max(1)).saturating_mul(4);
        Self { floor: 16, ceiling: 64, divisor, report_divisor: 4, report_floor: 256 }
    }
}

/// The cells' memory. One writer: the agent's loop owns this.
pub struct Cells {
    start: NonNull<Cell>,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Cells {}

const LENGTH: usize = size_of::<Cell>() * MAX_CELLS;

impl Cells {
    /// Maps the array of cells behind a map's descriptor.
    ///
    /// # Errors
    /// If the kernel refuses the mapping.
    pub fn map(fd: impl AsFd) -> Result<Self, MapCellsError> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        // SAFETY: a new shared mapping at an address of the kernel's choice; the map is LENGTH bytes long because
        // it has MAX_CELLS elements of size_of::<Cell>().
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                fd,
                0,
            )?
        };
        NonNull::new(start.cast()).map(|start| Self { start }).ok_or(MapCellsError(rustix::io::Errno::FAULT))
    }

    fn cell(&self, index: u32) -> *mut Cell {
        // SAFETY: the index is held inside the mapping.
        unsafe { self.start.as_ptr().add(index as usize % MAX_CELLS) }
    }

    /// The counter of a cell: pages charged less pages given back since the programs were attached.
    #[must_use]
    pub fn counter(&self, index: u32) -> i64 {
        // SAFETY: mapped, aligned; the programs add atomically.
        unsafe { (&raw const (*self.cell(index)).counter).read_volatile() }
    }

    /// The same for a reading of the domain's memory that begins now: what moved before is in it.
    #[must_use]
    pub fn begin_reading(&mut self, index: u32) -> i64 {
        // SAFETY: as in `describe`; written by this thread alone.
        unsafe {
            let reading = &raw mut (*self.cell(index)).reading;
            reading.write_volatile(reading.read_volatile().wrapping_add(1));
        }
        self.counter(index)
    }

    /// What a CPU may keep to itself now, in pages.
    #[must_use]
    pub fn quantum(&self, index: u32) -> i64 {
        // SAFETY: as in `counter`.
        unsafe { (&raw const (*self.cell(index)).quantum).read_volatile() }
    }

    /// Describes a cell anew: its place in the hierarchy, its tuning, and no line.
    pub fn describe(&mut self, index: u32, parent: u32, tuning: Tuning) {
        let cell = self.cell(index);
        // SAFETY: mapped and aligned; single aligned stores, which the programs see whole.
        unsafe {
            (&raw mut (*cell).line).write_volatile(i64::MAX);
            (&raw mut (*cell).floor).write_volatile(tuning.floor);
            (&raw mut (*cell).ceiling).write_volatile(tuning.ceiling);
            (&raw mut (*cell).divisor).write_volatile(tuning.divisor);
            (&raw mut (*cell).report_divisor).write_volatile(tuning.report_divisor);
            (&raw mut (*cell).report_floor).write_volatile(tuning.report_floor);
            (&raw mut (*cell).parent).write_volatile(parent);
            (&raw mut (*cell).quantum).write_volatile(i64::from(tuning.floor));
            (&raw mut (*cell).wake_at).write_volatile(i64::MAX);
        }
    }

    /// Another domain lies around this one now, or one less.
    pub fn set_parent(&mut self, index: u32, parent: u32) {
        // SAFETY: as in `describe`.
        unsafe { (&raw mut (*self.cell(index)).parent).write_volatile(parent) }
    }

    /// Makes every program look its cgroups up again.
    pub fn set_generation(&mut self, generation: u32) {
        for index in 0..MAX_CELLS {
            // SAFETY: as in `describe`.
            unsafe { (&raw mut (*self.start.as_ptr().add(index)).generation).write_volatile(generation) }
        }
    }

    /// Sets a line: the domain reaches its threshold when the counter does `line`. With `rearm` a crossing record
    /// will be pushed for it; without, the crossing is known already.
    pub fn set_line(&mut self, index: u32, line: i64, rearm: bool, brake_on: bool) {
        let cell = self.cell(index);
        // SAFETY: as in `describe`; the fields that are read are written by this thread alone, but for the
        // counter, which may be a few pages older than the quantum that is computed from it.
        unsafe {
            let counter = (&raw const (*cell).counter).read_volatile();
            let share =
                quantum(line.saturating_sub(counter), (*cell).divisor, (*cell).floor, (*cell).ceiling);
            (&raw mut (*cell).line).write_volatile(line);
            (&raw mut (*cell).brake).write_volatile(if brake_on { brake::ON } else { 0 });
            (&raw mut (*cell).wake_at).write_volatile(wake_at(counter, line, (*cell).report_floor, brake_on));
            (&raw mut (*cell).quantum).write_volatile(share);
            if rearm {
                let epoch = (*cell).epoch.wrapping_add(1);
                (&raw mut (*cell).epoch).write_volatile(epoch);
            }
        }
    }

    /// From now on no process is paused, in any domain, until a line is set with the brake on.
    pub fn brake_off(&mut self) {
        for index in 0..MAX_CELLS {
            // SAFETY: as in `describe`.
            unsafe { (&raw mut (*self.start.as_ptr().add(index)).brake).write_volatile(0) }
        }
    }

    /// Says that the agent works.
    pub fn beat(&mut self) {
        let beat = self.heartbeat().wrapping_add(1);
        // SAFETY: as in `describe`.
        unsafe { (&raw mut (*self.cell(NODE_CELL)).heartbeat).write_volatile(beat) }
    }

    /// Says that a usage hook is about to be attached: what it noted before is out of date.
    pub fn new_attachment(&mut self) {
        // SAFETY: as in `describe`; written by this thread alone.
        unsafe {
            let attachment = &raw mut (*self.cell(NODE_CELL)).attachment;
            attachment.write_volatile(attachment.read_volatile().wrapping_add(1));
        }
    }

    /// How long a record that a process changed is to leave the agent alone after the last one, in microseconds.
    pub fn set_changed_pause(&mut self, micros: u32) {
        // SAFETY: as in `describe`.
        unsafe { (&raw mut (*self.cell(NODE_CELL)).changed_pause).write_volatile(micros) }
    }

    /// Moves whenever a cgroup was made or removed while the hooks for that run.
    #[must_use]
    pub fn cgroups(&self) -> i64 {
        // SAFETY: mapped, aligned; the programs add atomically.
        unsafe { (&raw const (*self.cell(NODE_CELL)).cgroups).read_volatile() }
    }

    /// Moves as long as the agent works.
    #[must_use]
    pub fn heartbeat(&self) -> u32 {
        // SAFETY: mapped, aligned.
        unsafe { (&raw const (*self.cell(NODE_CELL)).heartbeat).read_volatile() }
    }
}

/// The cells, and the map by which the programs find a cgroup's: one component owns both.
pub struct DomainCells {
    /// The cells' memory.
    pub cells: Cells,
    /// `GUARDED` of the object: the cell of each guarded cgroup.
    guarded: HashMap<MapData, u64, u32>,
    /// Programs that are loaded later name the cells' map by its descriptor, as they do the others.
    map: MapData,
}

impl DomainCells {
    /// The maps `CELLS` and `GUARDED` of the object.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub fn new(map: MapData, guarded: HashMap<MapData, u64, u32>) -> Result<Self, MapCellsError> {
        Ok(Self { cells: Cells::map(map.fd())?, guarded, map })
    }

    /// Counts a cgroup's memory in a cell from now on. `cgroup` is the inode of its directory in the memory hierarchy.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses.
    pub fn guard(&mut self, cgroup: u64, cell: u32) -> Result<(), MapError> {
        self.guarded.insert(cgroup, cell, 0)
    }

    /// Counts a cgroup's memory in its guarded ancestor again. What is not guarded is left alone.
    pub fn unguard(&mut self, cgroup: u64) {
        // Fails only if it is not there.
        let _ = self.guarded.remove(&cgroup);
    }

    /// The map behind the cells, for the releaser.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }
}

/// From where on the agent is woken before the line. Only with the brake, which must stop at the right page: what the
/// programs do not count (slab, stacks) has moved the line since it was drawn, so it is drawn anew half way to it, and
/// again, until what is left is not worth a wake-up.
fn wake_at(counter: i64, line: i64, report_floor: u32, brake_on: bool) -> i64 {
    let half = line.saturating_sub(counter) / 2;
    if brake_on && half >= i64::from(report_floor) { counter.saturating_add(half) } else { i64::MAX }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and nothing refers to it any more.
        // An error would mean that it is not mapped: nothing to do.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), LENGTH) };
    }
}
