//! The records of the ring buffer. Each begins with a [`Header`]; each is [`RECORD_LEN`] bytes long, so that a
//! reader can tell a foreign or torn record from its length alone. Times are `CLOCK_MONOTONIC` nanoseconds
//! (`bpf_ktime_get_ns`), counts are pages, process ids are thread-group ids of the initial pid namespace.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::news::NAME_LENGTH;

/// The length of every record, in bytes.
pub const RECORD_LEN: usize = 64;

/// What a record says; `Header::kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordKind {
    /// [`Delta`]: memory of a domain changed by more than the quantum.
    Delta = 1,
    /// [`Crossing`]: the first flush past a line.
    Crossing = 2,
    /// [`Exit`]: the last thread of a worker's process began to exit.
    Exit = 3,
    /// [`Fork`]: a worker's process made a new process.
    Fork = 4,
    /// [`Stopped`]: the brake stopped a worker's process.
    Stopped = 5,
    /// [`OomVictim`]: the kernel's own out-of-memory killer chose a worker's process.
    OomVictim = 6,
    /// [`Changed`]: a process executed a program.
    Exec = 7,
    /// [`Changed`]: the main thread of a process is about to have another name.
    Rename = 8,
    /// [`Changed`]: a process is in another cgroup.
    Moved = 9,
}

impl RecordKind {
    /// The kind that a header's number stands for.
    #[must_use]
    pub const fn from_u32(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Delta),
            2 => Some(Self::Crossing),
            3 => Some(Self::Exit),
            4 => Some(Self::Fork),
            5 => Some(Self::Stopped),
            6 => Some(Self::OomVictim),
            7 => Some(Self::Exec),
            8 => Some(Self::Rename),
            9 => Some(Self::Moved),
            _ => None,
        }
    }
}

/// The first 16 bytes of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// A [`RecordKind`] as number.
    pub kind: u32,
    /// The CPU that pushed it.
    pub cpu: u32,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
}

/// The memory of a domain changed: pushed when its counter has moved far enough since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Delta {
    /// `kind` is [`RecordKind::Delta`].
    pub header: Header,
    /// Index of the cell of the domain that was charged.
    pub cell: u32,
    /// The cells' generation that `cell` belongs to.
    pub generation: u32,
    /// How far the counter moved since then, in pages; negative when memory was given back.
    pub delta: i64,
    /// The cell's counter after it, in pages.
    pub counter: i64,
    /// The cgroup of the event that caused the flush (inode of the memory hierarchy's directory).
    pub cgroup: u64,
    /// The process that was running.
    pub pid: u32,
    /// Not used.
    pub reserved: [u32; 3],
}

/// A domain went past its line. Once for each line; `cell` may be an ancestor of the cell that was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Crossing {
    /// `kind` is [`RecordKind::Crossing`].
    pub header: Header,
    /// Index of the cell whose line was crossed.
    pub cell: u32,
    /// The cells' generation that `cell` belongs to.
    pub generation: u32,
    /// The line's epoch.
    pub epoch: u32,
    /// The process that was running.
    pub pid: u32,
    /// The cell's counter, in pages.
    pub counter: i64,
    /// The line, in pages.
    pub line: i64,
    /// Not used.
    pub reserved: [u64; 2],
}

/// A worker's process dies: the last of its threads began to exit. From kernel 6.16 on its memory is not given back yet
/// (`do_exit` in kernel/exit.c, kernel 6.18, calls the tracepoint before `exit_mm`; older ones after it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exit {
    /// `kind` is [`RecordKind::Exit`].
    pub header: Header,
    /// The worker it belonged to.
    pub worker: u64,
    /// When the process started, in nanoseconds of `CLOCK_BOOTTIME`.
    pub start_time: u64,
    /// Its cgroup (inode of the default hierarchy's directory, `bpf_get_current_cgroup_id`).
    pub cgroup: u64,
    /// Which process.
    pub pid: u32,
    /// As wait(2) encodes it: signal in the low 7 bits, core dump in bit 7, exit code in bits 8 to 15.
    pub status: u32,
    /// Not used.
    pub reserved: [u64; 2],
}

/// A process of a worker made another one, which belongs to the worker from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fork {
    /// `kind` is [`RecordKind::Fork`].
    pub header: Header,
    /// The worker.
    pub worker: u64,
    /// When the child started, in nanoseconds of `CLOCK_BOOTTIME`.
    pub start_time: u64,
    /// The parent.
    pub parent: u32,
    /// The new process.
    pub pid: u32,
    /// Not used.
    pub reserved: [u64; 3],
}

/// The brake stopped a worker's process at the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stopped {
    /// `kind` is [`RecordKind::Stopped`].
    pub header: Header,
    /// The worker.
    pub worker: u64,
    /// Index of the cell whose line was crossed.
    pub cell: u32,
    /// Which process was stopped.
    pub pid: u32,
    /// The cell's counter, in pages.
    pub counter: i64,
    /// Not used.
    pub reserved: [u64; 3],
}

/// The kernel's own out-of-memory killer chose a worker's process, or found it dying already: its end follows
/// (`mark_oom_victim` in mm/oom_kill.c, kernel 6.18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OomVictim {
    /// `kind` is [`RecordKind::OomVictim`].
    pub header: Header,
    /// The worker it belongs to.
    pub worker: u64,
    /// Which process.
    pub pid: u32,
    /// Not used.
    pub reserved: [u32; 9],
}

/// A process is not what it was: rules may match it now, or match it no more. Whose it is does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Changed {
    /// `kind` is [`RecordKind::Exec`], [`RecordKind::Rename`] or [`RecordKind::Moved`].
    pub header: Header,
    /// Which process.
    pub pid: u32,
    /// Not used.
    pub reserved: u32,
    /// The kernel's name of it, with a zero at its end; after a rename the new one.
    pub name: [u8; NAME_LENGTH],
    /// Not used.
    pub unused: [u64; 3],
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<Delta>() == RECORD_LEN);
    assert!(size_of::<Crossing>() == RECORD_LEN);
    assert!(size_of::<Exit>() == RECORD_LEN);
    assert!(size_of::<Fork>() == RECORD_LEN);
    assert!(size_of::<Stopped>() == RECORD_LEN);
    assert!(size_of::<OomVictim>() == RECORD_LEN);
    assert!(size_of::<Changed>() == RECORD_LEN);
};
