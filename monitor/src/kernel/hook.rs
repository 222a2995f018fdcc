//! The kernel hooks: their names, where they are attached, what works without them, and what the agent is told by them.

/// The kernel programs, one for each hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Memory charged to cgroups and given back, exactly; one of the usage hooks, and the brake.
    Memcg,
    /// Pages that processes map and unmap, in steps; another one.
    RssStat,
    /// Memory of all kinds as cgroups are charged for it, many pages at a time; another one.
    Charge,
    /// Deaths of workers' processes.
    Exit,
    /// Children of workers' processes.
    Lineage,
    /// Processes of workers that the kernel's own out-of-memory killer chose.
    MarkVictim,
    /// Processes that execute a program.
    Exec,
    /// Processes that get another name.
    Rename,
    /// Processes that are moved to another cgroup.
    CgroupAttach,
    /// Cgroups that are made.
    CgroupMkdir,
    /// Cgroups that are removed.
    CgroupRmdir,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Memcg,
        Self::RssStat,
        Self::Charge,
        Self::Exit,
        Self::Lineage,
        Self::MarkVictim,
        Self::Exec,
        Self::Rename,
        Self::CgroupAttach,
        Self::CgroupMkdir,
        Self::CgroupRmdir,
    ];

    /// Those that run only while there are rules.
    pub const OF_RULES: [Self; 5] =
        [Self::Exec, Self::Rename, Self::CgroupAttach, Self::CgroupMkdir, Self::CgroupRmdir];

    /// Those that count usage, the one to be preferred first (docs/probes.md).
    pub const USAGE: [Self; 3] = [Self::RssStat, Self::Memcg, Self::Charge];

    /// The program's name in the object.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Memcg => "memcg",
            Self::RssStat => "rss_stat",
            Self::Charge => "charge",
            Self::Exit => "exit",
            Self::Lineage => "lineage",
            Self::MarkVictim => "mark_victim",
            Self::Exec => "exec",
            Self::Rename => "rename",
            Self::CgroupAttach => "cgroup_attach",
            Self::CgroupMkdir => "cgroup_mkdir",
            Self::CgroupRmdir => "cgroup_rmdir",
        }
    }

    /// Where it is attached: a tracepoint as `/sys/kernel/tracing/events` has it, or the kernel's function.
    #[must_use]
    pub fn place(self) -> Place {
        match (self, self.tracepoint()) {
            (Self::Charge, (_, function)) => Place::Function(function),
            (_, (_, event)) => Place::Tracepoint(event),
        }
    }

    /// The tracepoint as `/sys/kernel/tracing/events` has it; of a function, that it is one and its name.
    #[must_use]
    pub fn tracepoint(self) -> (&'static str, &'static str) {
        match self {
            Self::Memcg => ("memcg", "mod_memcg_lruvec_state"),
            Self::RssStat => ("kmem", "rss_stat"),
            Self::Charge => (FUNCTION, "page_counter_try_charge"),
            Self::Exit => ("sched", "sched_process_exit"),
            Self::Lineage => ("sched", "sched_process_fork"),
            Self::MarkVictim => ("oom", "mark_victim"),
            Self::Exec => ("sched", "sched_process_exec"),
            Self::Rename => ("task", "task_rename"),
            Self::CgroupAttach => ("cgroup", "cgroup_attach_task"),
            Self::CgroupMkdir => ("cgroup", "cgroup_mkdir"),
            Self::CgroupRmdir => ("cgroup", "cgroup_rmdir"),
        }
    }

    /// What works without it.
    #[must_use]
    pub fn fallback(self) -> &'static str {
        match self {
            Self::Memcg => {
                "rss_stat counts usage; without both it is polled every refresh_ms, without a brake"
            }
            Self::RssStat => {
                "memcg counts usage; without both it is polled every refresh_ms, without a brake"
            }
            Self::Charge => {
                "rss_stat counts usage, else memcg; without them it is polled every refresh_ms, without a brake"
            }
            Self::Exit => "the agent sees deaths only through pidfds, some microseconds later",
            Self::Lineage => "the agent searches /proc for descendants of workers at each check",
            Self::MarkVictim => {
                "the agent finds kills by the kernel in the oom_kill counters of workers' cgroups"
            }
            Self::Exec | Self::Rename | Self::CgroupAttach => {
                "the agent scans all processes for the rules, about once a second"
            }
            Self::CgroupMkdir | Self::CgroupRmdir => {
                "the agent checks the owners of the cgroups that rules match at each scan of all processes"
            }
        }
    }

    /// Whether it is loaded only where it is asked for: some machines refuse such programs, and it is not missed there.
    #[must_use]
    pub fn on_request(self) -> bool {
        self == Self::Charge
    }

    /// Whether it counts usage. One such hook is attached at a time.
    #[must_use]
    pub fn counts_usage(self) -> bool {
        Self::USAGE.contains(&self)
    }
}

/// In place of a tracepoint's category: a function of the kernel.
pub const FUNCTION: &str = "fentry";

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A tracepoint.
    Tracepoint(&'static str),
    /// The entry of a function.
    Function(&'static str),
}

impl Place {
    /// Of the tracepoint or the function.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tracepoint(name) | Self::Function(name) => name,
        }
    }
}

/// What the kernel tells of processes, by the hooks that run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Their ends.
    pub exits: bool,
    /// Their children.
    pub forks: bool,
    /// What they execute, how they are named, and which cgroup they are in: all that rules go by.
    pub changes: bool,
}
