//! Part `hooks`: what each way to be called in the page fault adds to it, by programs that do nothing, and what ours add.
//! One process touches and gives back memory, a hook attached and not attached in alternation.

use std::any::Any;

use anyhow::{Context, Result, anyhow};
use aya::programs::{BtfTracePoint, RawTracePoint, TracePoint};
use aya::sys::{Stats, enable_stats};
use aya::{Btf, Ebpf};
use monitor::kernel::cells::Tuning;
use monitor::kernel::empty;
use monitor::kernel::hook::{FUNCTION, Hook};
use monitor::kernel::programs::{KernelLog, Programs};
use monitor_common::{NO_PARENT, NODE_CELL};
use monitor_tests::hog::Kind;
use serde::Serialize;

use crate::Plan;
use crate::faults::cycles;
use crate::programs::ran;
use crate::run::Ground;
use crate::stats::Ratios;
use crate::toucher::{CYCLE, Took, Touching};

/// A way to be called, or one of our programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Btf,
    Raw,
    Classic,
    Ours(Hook),
}

/// What is compared: program, way, tracepoint.
const ALL: [(&str, Way, (&str, &str)); 9] = [
    ("lruvec_btf", Way::Btf, ("memcg", "mod_memcg_lruvec_state")),
    ("lruvec_raw", Way::Raw, ("memcg", "mod_memcg_lruvec_state")),
    ("lruvec_classic", Way::Classic, ("memcg", "mod_memcg_lruvec_state")),
    ("state_btf", Way::Btf, ("memcg", "mod_memcg_state")),
    ("events_btf", Way::Btf, ("memcg", "count_memcg_events")),
    ("rss_btf", Way::Btf, ("kmem", "rss_stat")),
    ("memcg", Way::Ours(Hook::Memcg), ("memcg", "mod_memcg_lruvec_state")),
    ("rss_stat", Way::Ours(Hook::RssStat), ("kmem", "rss_stat")),
    ("charge", Way::Ours(Hook::Charge), (FUNCTION, "page_counter_try_charge")),
];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Btf => "empty, tp_btf",
            Self::Raw => "empty, raw tracepoint",
            Self::Classic => "empty, tracepoint",
            Self::Ours(Hook::Charge) => "ours (fentry)",
            Self::Ours(_) => "ours (tp_btf)",
        }
    }
}

/// What was measured of one of them. The ratios are of throughput by CPU time: attached to not attached.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) pages: &'static str,
    pub(crate) tracepoint: String,
    pub(crate) program: &'static str,
    pub(crate) throughput: Option<Ratios>,
    /// Taking the time included: some 20 ns of it are that.
    pub(crate) ns_per_run: Option<f64>,
    /// For 4 KiB touched and given back.
    pub(crate) runs_per_page: Option<f64>,
}

/// The cell that counts the ground, and how much of it is left to its line when all of a cycle is touched.
const CELL: u32 = 1;
const NEAR: i64 = (2 << 20) / 4096;

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Compared>> {
    let mut bench = Bench::load()?;
    let mut all = Vec::new();
    for (pages, kind) in [("4 KiB", Kind::Anon), ("huge", Kind::Huge)] {
        let ground = Ground::new(256)?;
        let mut touching = Touching::start(kind, &ground.sandbox)?;
        bench.guard(&ground)?;
        for (program, way, (category, event)) in ALL {
            eprintln!("hooks: {pages} pages, {category}:{event}, {}", way.name());
            let tracepoint = format!("{category}:{event}");
            let none = Compared {
                pages,
                tracepoint,
                program: way.name(),
                throughput: None,
                ns_per_run: None,
                runs_per_page: None,
            };
            // A kernel without it has nothing to compare.
            let measured = if bench.has(program, way) {
                bench.one(plan, &mut touching, kind, program, way, none)?
            } else {
                none
            };
            all.push(measured);
        }
    }
    Ok(all)
}

struct Bench {
    empty: Ebpf,
    loaded: Vec<&'static str>,
    ours: Programs,
}

impl Bench {
    fn load() -> Result<Self> {
        let types = Btf::from_sys_fs().context("the kernel's BTF")?;
        let mut empty = Ebpf::load(empty::object().context("built without the kernel side")?)?;
        let mut loaded = Vec::new();
        for (name, way, (_, event)) in ALL {
            let Some(program) = empty.program_mut(name) else { continue };
            let done = match way {
                Way::Btf => <&mut BtfTracePoint>::try_from(program)?.load(event, &types),
                Way::Raw => <&mut RawTracePoint>::try_from(program)?.load(),
                Way::Classic => <&mut TracePoint>::try_from(program)?.load(),
                Way::Ours(_) => continue,
            };
            match done {
                Ok(()) => loaded.push(name),
                Err(error) => eprintln!("hooks: {name}: {error}"),
            }
        }
        let mut ours = Programs::load(KernelLog::Off).map_err(|rows| anyhow!("nothing loads: {rows:?}"))?;
        ours.links.choose(&Hook::USAGE);
        // What is refused shows only then.
        for hook in Hook::USAGE {
            ours.links.attach_counting(hook, &mut ours.cells.cells);
            ours.links.detach(hook);
        }
        Ok(Self { empty, loaded, ours })
    }

    fn has(&self, program: &str, way: Way) -> bool {
        match way {
            Way::Btf | Way::Raw | Way::Classic => self.loaded.contains(&program),
            Way::Ours(hook) => self.ours.links.usable(hook),
        }
    }

    /// Counts the ground in a cell with its line as near as it may be.
    fn guard(&mut self, ground: &Ground) -> Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        let cpus = u32::try_from(std::thread::available_parallelism()?.get())?;
        for (cell, parent) in [(NODE_CELL, NO_PARENT), (CELL, NODE_CELL)] {
            self.ours.cells.cells.describe(cell, parent, Tuning::new(cpus, 2));
        }
        self.ours.cells.guard(std::fs::metadata(ground.sandbox.dir())?.ino(), CELL)?;
        self.ours.cells.cells.set_generation(1);
        Ok(())
    }

    /// Dropped, it is detached.
    fn attach(&mut self, program: &str, way: Way, tracepoint: (&str, &str)) -> Result<Option<Box<dyn Any>>> {
        if let Way::Ours(hook) = way {
            self.ours.links.attach_counting(hook, &mut self.ours.cells.cells);
            let line = self.ours.cells.cells.counter(CELL) + i64::try_from(CYCLE / 4096)? + NEAR;
            self.ours.cells.cells.set_line(CELL, line, true, false);
            return Ok(None);
        }
        let program = self.empty.program_mut(program).context("no such program")?;
        let link: Box<dyn Any> = match way {
            Way::Btf => {
                let program = <&mut BtfTracePoint>::try_from(program)?;
                let id = program.attach()?;
                Box::new(program.take_link(id)?)
            }
            Way::Raw => {
                let program = <&mut RawTracePoint>::try_from(program)?;
                let id = program.attach(tracepoint.1)?;
                Box::new(program.take_link(id)?)
            }
            Way::Classic => {
                let program = <&mut TracePoint>::try_from(program)?;
                let id = program.attach(tracepoint.0, tracepoint.1)?;
                Box::new(program.take_link(id)?)
            }
            Way::Ours(_) => return Ok(None),
        };
        Ok(Some(link))
    }

    fn detach(&mut self, way: Way, link: Option<Box<dyn Any>>) {
        drop(link);
        if let Way::Ours(hook) = way {
            self.ours.links.detach(hook);
        }
        // Nobody reads what is pushed.
        while self.ours.events.ring.next().is_some() {}
    }

    fn one(
        &mut self,
        plan: &Plan,
        touching: &mut Touching,
        kind: Kind,
        program: &'static str,
        way: Way,
        none: Compared,
    ) -> Result<Compared> {
        let (category, event) = none.tracepoint.split_once(':').context("no category")?;
        let cycles = cycles(kind);
        let mut pairs: Vec<(Took, Took)> = Vec::new();
        for _ in 0..plan.pairs {
            plan.go_on()?;
            let link = self.attach(program, way, (category, event))?;
            touching.touch(cycles / 8)?;
            let with = touching.touch(cycles)?;
            self.detach(way, link);
            touching.touch(cycles / 8)?;
            pairs.push((with, touching.touch(cycles)?));
        }
        let counting = enable_stats(Stats::RunTime).context("switching the kernel's statistics on")?;
        let link = self.attach(program, way, (category, event))?;
        let before = statistics(program)?;
        touching.touch(cycles)?;
        let after = statistics(program)?;
        self.detach(way, link);
        drop(counting);
        let (runs, nanos) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
        Ok(Compared {
            throughput: Ratios::of(
                pairs.iter().map(|(with, without)| without.cpu as f64 / with.cpu.max(1) as f64),
            ),
            ns_per_run: (runs > 0.0).then(|| nanos / runs),
            runs_per_page: Some(runs / (f64::from(cycles) * (CYCLE / 4096) as f64)),
            ..none
        })
    }
}

/// Runs and nanoseconds of this process's program of that name.
fn statistics(name: &str) -> Result<(u64, u64)> {
    let found = ran(std::process::id())?.into_iter().find(|(program, ..)| program == name);
    found.map(|(_, runs, nanos)| (runs, nanos)).context("the program is not loaded")
}
