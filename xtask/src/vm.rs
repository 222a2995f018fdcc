//! `cargo xtask vm`: the tests on other kernels, in virtual machines of its own. No root, no disk, no network inside.

mod archive;
mod console;
mod emulator;
mod initramfs;
mod kernel;
mod programs;
mod qemu;
mod systemd;
mod table;

// One definition of the lines between the init in the VM and this side; the tests crate itself is built after setup.
#[path = "../../tests/src/vm_line.rs"]
#[expect(unreachable_pub, reason = "public in the tests crate, which has a library")]
mod line;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::command::{output, step};
use crate::debian::{self, apt};
use crate::setup;
use crate::toolchain::record;
use emulator::Emulator;
use kernel::{Kernels, Spec};
use qemu::Machine;
use table::Column;

/// What the table in the documentation is made of: all series that Debian has, those with cgroup v1 also so, and one
/// in each lockdown mode.
const ALL_KERNELS: [&str; 15] = [
    "5.10",
    "5.10+monitor.cgroup=v1",
    "6.1",
    "6.1+monitor.cgroup=v1",
    "6.12",
    "6.16",
    "6.17",
    "6.18",
    "6.18+lockdown=integrity",
    "6.18+lockdown=confidentiality",
    "6.19",
    "7.0",
    "7.1",
    "7.2",
    "7.3",
];
/// Those of another architecture: emulated or not, each takes minutes.
const OTHER_KERNELS: [&str; 2] = ["6.12", "6.18"];
/// The tests that are made for every kernel, and quick. Much of the others needs a machine that is not emulated.
const SUITE: [&str; 3] = ["kernel::", "kernels::", "programs::"];
/// Those that `cargo xtask test` boots: one with everything that the agent uses, and the oldest, which forgives the
/// programs least.
const EVERYDAY: [&str; 2] = [WITH_SYSTEMD, "5.10"];
const WITH_SYSTEMD: &str = "6.18";
/// MiB that the initramfs and the tests fit into.
const MEMORY: u32 = 512;
/// Seconds that a machine may take for all tests.
const DEADLINE: u64 = 1200;
/// How often a machine is booted that the emulator brings down.
const ATTEMPTS: u32 = 3;
/// Where the tables land.
const TABLES: &str = "docs/kernels.md";
/// Where the consoles of the machines land, one file each.
const CONSOLES: &str = "target/vm";

/// What the user typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Kernel series such as 6.12, each with arguments to boot it with if need be: 6.12+lockdown=integrity.
    /// +monitor.cgroup=v1 mounts cgroups of version 1; +monitor.icount=1 counts instructions for time [default: all that Debian has]
    #[arg(value_name = "KERNEL")]
    pub(crate) kernels: Vec<Spec>,
    /// Of what architecture; another than this machine's is cross-compiled for [default kernels: 6.12, 6.18]
    #[arg(long, value_name = "ARCH", default_value = "x86_64", conflicts_with = "systemd")]
    pub(crate) arch: Architecture,
    /// Run only tests with this in their name; separate several by commas. Empty: all kernel tests
    #[arg(long, value_name = "TEXT", value_delimiter = ',', default_values = SUITE)]
    pub(crate) filter: Vec<String>,
    /// Instead of the tests: start deploy/monitor.service by systemd in a small Debian, as root [default kernel: 6.18]
    #[arg(long, conflicts_with_all = ["filter", "write"])]
    pub(crate) systemd: bool,
    /// Write the table to docs/kernels.md, in place of the one of the same architecture
    #[arg(long)]
    pub(crate) write: bool,
    /// Fetch the newest build of each kernel, also where an older one is in the cache
    #[arg(long)]
    pub(crate) update: bool,
    /// Memory of each machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = MEMORY)]
    pub(crate) memory: u32,
    /// Seconds after which a machine is given up
    #[arg(long, value_name = "SECONDS", default_value_t = DEADLINE)]
    pub(crate) deadline: u64,
}

impl Options {
    /// The tests that are made for every kernel, on some.
    pub(crate) fn everyday() -> Result<Self> {
        Self::on(&EVERYDAY)
    }

    /// One machine with systemd.
    pub(crate) fn systemd() -> Result<Self> {
        Ok(Self { systemd: true, ..Self::on(&[WITH_SYSTEMD])? })
    }

    fn on(kernels: &[&str]) -> Result<Self> {
        let kernels = kernels.iter().map(|kernel| kernel.parse()).collect::<Result<_>>()?;
        Ok(Self {
            kernels,
            arch: programs::HOST,
            filter: SUITE.map(str::to_owned).to_vec(),
            systemd: false,
            write: false,
            update: false,
            memory: MEMORY,
            deadline: DEADLINE,
        })
    }
}

/// Whether machines can be booted here without fetching anything.
pub(crate) fn available() -> bool {
    cache().is_ok_and(|cache| Emulator::find(&cache, programs::HOST).is_some())
}

/// Fetches QEMU where there is none.
pub(crate) fn install() -> Result<()> {
    Emulator::get(&cache()?, programs::HOST).map(drop)
}

/// A static busybox of another architecture.
fn busybox(cache: &Path, architecture: Architecture) -> Result<PathBuf> {
    const PACKAGE: &str = "busybox-static";
    let name = architecture.name();
    let folder = cache.join(format!("busybox-{name}"));
    let program = folder.join("bin/busybox");
    if program.is_file() {
        return Ok(program);
    }
    step(&format!("Fetching {PACKAGE} for {name}"));
    let suites = apt::Suites::of_release(&debian::release()?);
    let apt = apt::Apt::open_for(&cache.join(format!("apt-busybox-{name}")), &suites, architecture.debian())?;
    let made = tempfile::tempdir_in(cache)?;
    apt.fetch_newest(PACKAGE, made.path())?;
    fs::rename(made.keep(), &folder).context("keeping busybox")?;
    Ok(program)
}

fn cache() -> Result<PathBuf> {
    Ok(record::cache_dir().context("no cache folder")?.join("vm"))
}

/// Boots each kernel, prints the table to stdout, and fails if any test or machine did.
pub(crate) fn run_machines(options: &Options) -> Result<()> {
    setup::ensure()?;
    let cache = cache()?;
    let emulator = Emulator::get(&cache, options.arch)?;
    let mut kernels = Kernels::new(cache.clone(), options.arch);
    let work = tempfile::tempdir().context("a temporary folder")?;
    let initrd = work.path().join("initrd");
    if options.systemd {
        systemd::build(&cache, &initrd)?;
    } else {
        let programs = programs::build(options.arch)?;
        let busybox =
            if options.arch == programs::HOST { None } else { Some(busybox(&cache, options.arch)?) };
        initramfs::build(&programs, &options.filter, busybox.as_deref(), &initrd)?;
    }
    let specs = match &options.kernels[..] {
        [] if options.systemd => vec![WITH_SYSTEMD.parse()?],
        [] if options.arch != programs::HOST => {
            OTHER_KERNELS.iter().map(|series| series.parse()).collect::<Result<_>>()?
        }
        [] => ALL_KERNELS.iter().map(|series| series.parse()).collect::<Result<_>>()?,
        named => named.to_vec(),
    };
    let mut columns = Vec::new();
    for spec in specs {
        columns.push(column(&spec, options, &mut kernels, &emulator, (&initrd, work.path())));
    }
    let text = table::markdown(&columns);
    print!("{text}");
    if options.write {
        write_table(&columns, &text, options)?;
    }
    match columns
        .iter()
        .filter(|column| !column.good())
        .map(|column| column.name.as_str())
        .collect::<Vec<_>>()
    {
        bad if bad.is_empty() => Ok(()),
        bad => bail!("not all is well on {}", bad.join(", ")),
    }
}

/// One kernel's column; what keeps it from booting is in there too, so that the others still get theirs.
/// Needs the initramfs and a folder to work in.
fn column(
    spec: &Spec,
    options: &Options,
    kernels: &mut Kernels,
    emulator: &Emulator,
    (initrd, work): (&Path, &Path),
) -> Column {
    let mut column = Column::new(spec.to_string());
    let kernel = match kernels.get(&spec.series, options.update) {
        Ok(kernel) => kernel,
        Err(error) => {
            column.trouble(format!("{error:#}"));
            return column;
        }
    };
    let consoles = Path::new(CONSOLES);
    if let Err(error) = fs::create_dir_all(consoles) {
        column.trouble(format!("{CONSOLES}: {error}"));
        return column;
    }
    let machine = Machine {
        emulator,
        kernel: &kernel.image,
        initrd,
        arguments: &spec.arguments,
        memory: memory(options, initrd),
        deadline: Duration::from_secs(options.deadline),
        console: &consoles.join(format!("{spec}.log")),
    };
    for attempt in 1..=ATTEMPTS {
        step(&format!("Booting {spec} ({})", kernel.package));
        column = Column::new(spec.to_string());
        column.package.clone_from(&kernel.package);
        if let Err(error) = machine.run(work, &mut column) {
            column.trouble(format!("{error:#}"));
        }
        eprintln!("{spec}: {}", column.summary());
        if !column.is_void() {
            break;
        }
        if attempt < ATTEMPTS {
            step("The emulator failed, not the kernel: once more");
        }
    }
    column
}

/// MiB of a machine: what the user wants, and room for the initramfs. The kernel unpacks it into half of the memory, and
/// keeps the packed one until then.
fn memory(options: &Options, initrd: &Path) -> u32 {
    const BESIDE_IT: u64 = 192;
    let wanted = if options.systemd { options.memory.max(systemd::MEMORY) } else { options.memory };
    let size = fs::metadata(initrd).map_or(0, |meta| meta.len()) >> 20;
    wanted.max(u32::try_from(size * 2 + BESIDE_IT).unwrap_or(u32::MAX))
}

fn write_table(columns: &[Column], text: &str, options: &Options) -> Result<()> {
    let date = output(std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let mut command = "cargo xtask vm --write".to_owned();
    if options.arch != programs::HOST {
        command.push_str(&format!(" --arch {}", options.arch.name()));
    }
    if options.filter != SUITE {
        command.push_str(&format!(" --filter={}", options.filter.join(",")));
    }
    for kernel in &options.kernels {
        command.push_str(&format!(" {kernel}"));
    }
    let part = table::Part { architecture: options.arch.name(), date: &date, command: &command, table: text };
    let before = fs::read_to_string(TABLES).unwrap_or_default();
    fs::write(TABLES, table::document(&before, columns, &part)).context(TABLES)?;
    step(&format!("Wrote {TABLES}"));
    Ok(())
}
