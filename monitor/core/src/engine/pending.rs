//! What a kill still waits for, process by process and in sum.

/// A process that belongs to a worker and is not gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Process {
    /// Its exit record was seen.
    pub(super) dying: bool,
    /// Its memory was taken by `process_mrelease`. No proof of its death: a frozen process is released too.
    pub(super) released: bool,
    /// The signal to it was refused: its death is not waited for.
    pub(super) refused: bool,
}

impl Process {
    /// What of it is still to come.
    pub(super) fn pending(self) -> Pending {
        Pending {
            deaths: usize::from(!self.dying && !self.refused),
            memory: usize::from(!self.released && !self.refused),
            refused: usize::from(self.refused && !self.dying),
        }
    }
}

/// Sums over a worker's processes, so that the end of one of thousands does not cost a look at all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pending {
    /// Processes that a kill waits for to die.
    pub(super) deaths: usize,
    /// Processes whose memory it waits for.
    pub(super) memory: usize,
    /// Those that live and could not be signaled.
    pub(super) refused: usize,
}

impl Pending {
    pub(super) fn add(&mut self, one: Self) {
        self.deaths += one.deaths;
        self.memory += one.memory;
        self.refused += one.refused;
    }

    /// `one` was added before.
    pub(super) fn remove(&mut self, one: Self) {
        self.deaths -= one.deaths;
        self.memory -= one.memory;
        self.refused -= one.refused;
    }
}
