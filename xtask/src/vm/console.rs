//! Reads the kernel's console for what means that the kernel itself is unwell. Pure.

/// What a line of the console means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// QEMU before 8.1 sometimes runs a breakpoint that the kernel has just patched away on the other CPU
    /// (fixed by its commits cb62bd15e14e and deba78709ae8): says nothing about the kernel or the tests.
    Emulation,
    /// The kernel stopped.
    Panic,
    /// It caught a fault of its own; what follows cannot be trusted.
    Oops,
    /// A CPU or task makes no progress.
    Stall,
    /// It found something that should not be, and goes on.
    Warning,
}

/// The words that kernels 5.10 to 7.3 print, each with its meaning. Order matters: a soft lockup is a BUG line too.
const SIGNS: [(&str, Alarm); 12] = [
    ("int3: 0000", Alarm::Emulation),
    ("Kernel panic - not syncing", Alarm::Panic),
    ("detected stalls on CPUs", Alarm::Stall),
    ("self-detected stall on CPU", Alarm::Stall),
    ("soft lockup - CPU", Alarm::Stall),
    ("blocked for more than", Alarm::Stall),
    ("BUG: ", Alarm::Oops),
    ("Oops: ", Alarm::Oops),
    ("general protection fault", Alarm::Oops),
    ("kernel BUG at", Alarm::Oops),
    ("Unable to handle kernel", Alarm::Oops),
    ("WARNING: ", Alarm::Warning),
];

impl Alarm {
    /// The first sign in `line`, if there is one.
    pub(super) fn in_line(line: &str) -> Option<Self> {
        SIGNS.into_iter().find(|(sign, _)| line.contains(sign)).map(|(_, alarm)| alarm)
    }

    /// Whether waiting for the machine makes sense.
    pub(super) fn is_fatal(self) -> bool {
        match self {
            Self::Emulation | Self::Panic => true,
            Self::Oops | Self::Stall | Self::Warning => false,
        }
    }

    /// For the table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Emulation => "fault of the emulator",
            Self::Panic => "kernel panic",
            Self::Oops => "oops",
            Self::Stall => "stall",
            Self::Warning => "kernel warning",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Alarm;

    #[test]
    fn signs_of_an_unwell_kernel_are_told_apart() {
        for (line, alarm) in [
            ("[    1.2] Kernel panic - not syncing: Attempted to kill init!", Some(Alarm::Panic)),
            ("[   26.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", Some(Alarm::Stall)),
            ("[   26.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", Some(Alarm::Stall)),
            ("[    3.0] INFO: task dd:80 blocked for more than 120 seconds.", Some(Alarm::Stall)),
            ("[    1.0] BUG: kernel NULL pointer dereference, address: 0000", Some(Alarm::Oops)),
            ("[    1.4] Oops: int3: 0000 [#1] SMP NOPTI", Some(Alarm::Emulation)),
            ("[    1.0] Oops: 0002 [#1] PREEMPT SMP", Some(Alarm::Oops)),
            ("[    1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1", Some(Alarm::Warning)),
            ("[    1.0] Memory cgroup out of memory: Killed process 80 (dd)", None),
        ] {
            assert_eq!(Alarm::in_line(line), alarm, "{line}");
        }
    }
}
