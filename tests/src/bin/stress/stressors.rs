//! The stressors of stress-ng that take memory, and with what arguments.

/// As much as each takes that can be told, in a box of 300 MiB.
const BYTES: &str = "400M";

/// One kind of growth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stressor {
    pub(crate) name: &'static str,
    instances: &'static str,
    /// It has an option `--NAME-bytes`.
    sized: bool,
    more: &'static [&'static str],
}

impl Stressor {
    /// What stress-ng is called with.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--{}", self.name), self.instances.to_owned()];
        if self.sized {
            arguments.extend([format!("--{}-bytes", self.name), BYTES.to_owned()]);
        }
        arguments.extend(self.more.iter().map(|more| (*more).to_owned()));
        arguments
    }
}

const fn sized(name: &'static str) -> Stressor {
    Stressor { name, instances: "2", sized: true, more: &[] }
}

const fn plain(name: &'static str) -> Stressor {
    Stressor { name, instances: "2", sized: false, more: &[] }
}

/// Its memory classes (`memory`, `vm`, and what else charges memory: pipes, sockets, keys, files in memory). Left out: those
/// that only read, compute or sort in little memory.
pub(crate) const ALL: &[Stressor] = &[
    plain("brk"),
    plain("bigheap"),
    sized("malloc"),
    sized("memfd"),
    sized("memrate"),
    plain("memthrash"),
    plain("mincore"),
    sized("mmap"),
    Stressor { name: "mmap", instances: "2", sized: true, more: &["--mmap-file"] },
    plain("mmapaddr"),
    plain("mmapfork"),
    plain("mmapmany"),
    plain("mlockmany"),
    sized("mremap"),
    sized("msync"),
    plain("munmap"),
    plain("null"),
    plain("oom-pipe"),
    Stressor { name: "pageswap", instances: "1", sized: false, more: &[] },
    plain("pagemove"),
    plain("physpage"),
    plain("pipeherd"),
    plain("remap"),
    plain("resources"),
    plain("rmap"),
    sized("shm"),
    sized("shm-sysv"),
    plain("sock"),
    plain("sockmany"),
    plain("stack"),
    plain("stackmmap"),
    plain("tlb-shootdown"),
    plain("tmpfs"),
    plain("tree"),
    sized("userfaultfd"),
    Stressor { name: "vm", instances: "2", sized: true, more: &["--vm-keep"] },
    Stressor { name: "vm", instances: "2", sized: true, more: &["--vm-locked"] },
    plain("vm-addr"),
    sized("vm-rw"),
    plain("vm-segv"),
    sized("vm-splice"),
    plain("zlib"),
    plain("vforkmany"),
    plain("forkheavy"),
    plain("zombie"),
];
