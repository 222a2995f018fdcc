//! The report for people: Markdown tables, with what each number is of. Pure.

use crate::report::Report;
use crate::stats::{Ratios, Spread};
use crate::{cases, decision, faults, goodput, hooks, idle, programs, ray, release, rules, scale, side};

/// The whole of it.
pub(crate) fn render(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "# Measurements\n\nBy `{}` at {} (Unix time) on {} CPUs ({}), {} MiB, Linux {}, load {} at the start.\n",
        machine.command,
        machine.unix_time,
        machine.cpus,
        machine.cpu,
        machine.memory_kib >> 10,
        machine.kernel,
        machine.load
    );
    let parts = [
        report.kills.as_deref().map(kills),
        report.side_by_side.as_deref().map(side_by_side),
        report.faults.as_deref().map(page_faults),
        report.programs.as_deref().map(kernel_programs),
        report.hooks.as_deref().map(ways),
        report.idle.as_ref().map(idle_agent),
        report.release.as_deref().map(releases),
        report.goodput.as_deref().map(goodputs),
        report.scale.as_deref().map(scaling),
        report.decision.as_ref().map(decisions),
        report.rules.as_ref().map(by_rule),
        report.ray.as_ref().map(with_ray),
    ];
    for part in parts.into_iter().flatten() {
        text.push('\n');
        text.push_str(&part);
    }
    text
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

fn kills(measured: &[cases::Measured]) -> String {
    let rows = measured.iter().map(|case| {
        let triggers: Vec<String> =
            case.triggers.iter().map(|(name, count)| format!("{count} {name}")).collect();
        vec![
            case.case.to_owned(),
            case.kills.to_string(),
            triggers.join(", "),
            spread(case.decision.as_ref(), time),
            spread(case.signal.as_ref(), time),
            spread(case.dead.as_ref(), time),
            spread(case.memory_back.as_ref(), time),
            spread(case.overshoot.as_ref(), mib),
        ]
    });
    let head = ["case", "kills", "seen by", "decision", "SIGKILL", "dead", "memory back", "overshoot"];
    format!(
        "## From the crossing to memory back\n\nTimes since the kernel's record of the crossing, and the peak of \
         usage above the line: p50 / p90 / p99 / max.\n\n{}",
        table(&head, rows)
    )
}

fn side_by_side(compared: &[side::Compared]) -> String {
    let rows = compared.iter().map(|row| {
        vec![
            row.rate.to_owned(),
            row.guard.to_owned(),
            row.dead.map_or_else(String::new, |dead| dead.samples.to_string()),
            spread(row.signal.as_ref(), time),
            spread(row.dead.as_ref(), time),
            spread(row.overshoot.as_ref(), mib),
        ]
    });
    format!(
        "## Side by side\n\nThe same victim, one guard after the other. Times since the crossing as the victim itself \
         reports it (earlyoom: as MemAvailable shows it): p50 / p90 / p99 / max.\n\n{}",
        table(&["rate", "guard", "kills", "SIGKILL", "dead", "overshoot"], rows)
    )
}

fn page_faults(costs: &[faults::Cost]) -> String {
    let rows = costs.iter().map(|cost| {
        vec![
            cost.pages.to_owned(),
            cost.agent.to_owned(),
            cost.cpu.map_or_else(String::new, |cpu| cpu.pairs.to_string()),
            ratios(cost.cpu.as_ref()),
            ratios(cost.wall.as_ref()),
            cost.page_ns.map_or_else(String::new, |nanos| format!("{nanos:.0} ns")),
        ]
    });
    let head = ["pages", "agent", "pairs", "by CPU time", "by wall clock", "4 KiB without agent"];
    format!(
        "## Page faults\n\nThroughput of touching and giving back memory, with the agent to without it, of neighboring \
         rounds: median (lower quartile, upper quartile). 100% is no difference; the control shows the noise.\n\n{}",
        table(&head, rows)
    )
}

fn goodputs(outcomes: &[goodput::Outcome]) -> String {
    format!(
        "## Goodput\n\nForty tasks of three names, ten at a time, in a box of 512 MiB that holds about five; the mean of {} \
         orders. Lost is the run time of attempts that were killed, of all run time.\n\n{}",
        outcomes.iter().map(|outcome| outcome.seed).max().unwrap_or(0),
        goodput_table(outcomes)
    )
}

/// One row for each way to run the tasks: the mean, and the extremes where there are several.
pub(crate) fn goodput_table(outcomes: &[goodput::Outcome]) -> String {
    let mut ways: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !ways.contains(&&outcome.way[..]) {
            ways.push(&outcome.way);
        }
    }
    let rows = ways.into_iter().map(|way| {
        let of: Vec<_> = outcomes.iter().filter(|outcome| outcome.way == way).collect();
        let each = |part: fn(&goodput::Outcome) -> f64, digits: usize, unit: &str| {
            let all: Vec<f64> = of.iter().map(|outcome| part(outcome)).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let (least, most) =
                (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
            let extremes =
                if all.len() > 1 { format!(" ({least:.digits$}-{most:.digits$})") } else { String::new() };
            format!("{mean:.digits$}{unit}{extremes}")
        };
        vec![
            way.to_owned(),
            each(|outcome| outcome.kills.into(), 0, ""),
            each(|outcome| outcome.makespan_ms as f64 / 1000.0, 1, " s"),
            each(|outcome| 100.0 * outcome.lost(), 1, "%"),
            each(|outcome| outcome.failed.into(), 0, ""),
        ]
    });
    table(&["run by", "kills", "all done after", "work lost", "tasks that failed"], rows)
}

fn kernel_programs(programs: &[programs::Ran]) -> String {
    let rows = programs.iter().map(|ran| {
        vec![
            ran.program.clone(),
            ran.pages.to_owned(),
            ran.runs.to_string(),
            format!("{:.0}", ran.ns_per_run),
            format!("{:.2}", ran.runs_per_page),
        ]
    });
    format!(
        "## Kernel programs\n\nBy the kernel's statistics, which themselves take some 20 ns of each run; near the \
         line.\n\n{}",
        table(&["program", "pages", "runs", "ns per run", "runs per 4 KiB touched and given back"], rows)
    )
}

fn ways(compared: &[hooks::Compared]) -> String {
    let number = |number: Option<f64>, digits: usize| {
        number.map_or_else(|| "unknown".to_owned(), |number| format!("{number:.digits$}"))
    };
    let rows = compared.iter().map(|row| {
        vec![
            row.pages.to_owned(),
            row.tracepoint.clone(),
            row.program.to_owned(),
            ratios(row.throughput.as_ref()),
            number(row.ns_per_run, 0),
            number(row.runs_per_page, 2),
        ]
    });
    let head = ["pages", "tracepoint", "program", "throughput by CPU time", "ns per run", "runs per 4 KiB"];
    format!(
        "## Ways to be called\n\nThroughput of touching and giving back memory, the hook attached to not attached, of \
         neighboring rounds: median (lower quartile, upper quartile). Runs and their time by the kernel's statistics, \
         which take some 20 ns of each run.\n\n{}",
        table(&head, rows)
    )
}

fn idle_agent(idle: &idle::Idle) -> String {
    format!(
        "## Idle agent\n\n{:.4}% of a core over {:.0} s, beside {:.4}% for a bare loop that reads the same cgroup \
         once a second; {} resident, of which {} anonymous, {} file-backed, {} shared.\n",
        idle.cpu_share * 100.0,
        idle.seconds,
        idle.bare_share * 100.0,
        mib(idle.resident.cast_signed()),
        mib(idle.anonymous.cast_signed()),
        mib(idle.file_backed.cast_signed()),
        mib(idle.shared.cast_signed())
    )
}

fn releases(rows: &[release::Release]) -> String {
    let rows = rows.iter().map(|row| {
        vec![
            format!("{} MiB", row.mib),
            if row.contended { "nice 19 beside 4 busy processes" } else { "idle" }.to_owned(),
            if row.mrelease { "with" } else { "without" }.to_owned(),
            match row.memory_back {
                Some(back) if back.samples == row.kills as usize => row.kills.to_string(),
                back => format!("{} of {} in a minute", back.map_or(0, |back| back.samples), row.kills),
            },
            spread(row.memory_back.as_ref(), time),
        ]
    });
    format!(
        "## From the signal to memory back\n\nWithout an agent, by the calls that its reaper makes at its priority (nice \
         -20): from SIGKILL until the cgroup's usage is below a tenth of what the victim held: p50 / p90 / p99 / \
         max.\n\n{}",
        table(&["victim", "processors", "process_mrelease", "kills", "memory back"], rows)
    )
}

fn scaling(rows: &[scale::Row]) -> String {
    let rows = rows.iter().map(|row| {
        let bound = if row.at_least { "at least" } else { "at most" };
        vec![
            row.what.clone(),
            format!("{:.3} {}", row.measured, row.unit).trim().to_owned(),
            format!("{bound} {} {}", row.goal, row.unit).trim().to_owned(),
            if row.reached() { "reached" } else { "not reached" }.to_owned(),
        ]
    });
    format!("## Scale\n\nMedians.\n\n{}", table(&["what", "measured", "goal", ""], rows))
}

fn decisions(decisions: &Result<Vec<decision::Decision>, String>) -> String {
    let body = match decisions {
        Err(why) => format!("Not measured: {why}\n"),
        Ok(decisions) => table(
            &["workers", "median"],
            decisions.iter().map(|one| vec![one.workers.to_string(), format!("{:.0} ns", one.median_ns)]),
        ),
    };
    format!(
        "## Decision\n\n`group_by_owner`: a worker comes, the victim is chosen, the worker goes \
         (`cargo bench --package monitor-core --bench policy`).\n\n{body}"
    )
}

fn by_rule(measured: &rules::Measured) -> String {
    let percent = |share: f64| format!("{:.3}%", share * 100.0);
    let soon = measured.soon.iter().map(|row| {
        let samples = row.to_worker.map_or_else(String::new, |spread| spread.samples.to_string());
        vec![row.rules.to_owned(), row.told.to_owned(), samples, spread(row.to_worker.as_ref(), time)]
    });
    let storm = measured.storm.iter().map(|row| {
        vec![
            row.rules.to_owned(),
            row.executed.map_or_else(String::new, |executed| executed.pairs.to_string()),
            ratios(row.executed.as_ref()),
            format!("{:.0}", row.execs_per_s),
            percent(row.agent),
            percent(row.agent_without),
        ]
    });
    let idle = measured.idle.iter().map(|row| {
        let start = format!("{:.0} ms", row.start / 1e6);
        vec![row.rules.to_owned(), row.told.to_owned(), row.rounds.to_string(), percent(row.idle), start]
    });
    let head = ["rules", "pairs", "execs", "execs a second without rules", "agent", "agent without rules"];
    format!(
        "## Rules\n\nFrom the exec of a process to the worker: p50 / p90 / p99 / max.\n\n{}\n\
         Every processor executes `/bin/true` without pause: programs executed with rules to without rules, of neighboring \
         rounds, median (lower quartile, upper quartile); the agent's share of one CPU, medians.\n\n{}\n\
         2,000 sleeping processes in 2,000 cgroups, none of which a rule matches: the agent's share of one CPU while \
         nothing happens, and its CPU time up to a second after its start, medians.\n\n{}",
        table(&["rules", "told", "samples", "to worker"], soon),
        table(&head, storm),
        table(&["rules", "told", "rounds", "idle", "start"], idle)
    )
}

fn with_ray(ray: &ray::Ray) -> String {
    let rows = ray.rows.iter().map(|row| {
        vec![
            row.case.to_owned(),
            row.guard.to_owned(),
            spread(row.stopped.as_ref(), time),
            spread(row.below.as_ref(), time),
            spread(row.overshoot.as_ref(), mib),
            row.innocents.to_string(),
            row.kernel_kills.to_string(),
            row.wrong_errors.to_string(),
            row.broken.to_string(),
            row.raylet_cpu.map_or_else(String::new, |percent| format!("{percent:.1}%")),
        ]
    });
    let head = [
        "workload",
        "guard",
        "growth stopped",
        "below again",
        "overshoot",
        "innocents",
        "kernel kills",
        "wrong errors",
        "broken",
        "raylet",
    ];
    let rates = ray
        .rates
        .iter()
        .map(|rate| vec![rate.guard.to_owned(), spread(rate.tasks.as_ref(), |tasks| tasks.to_string())]);
    format!(
        "## Ray\n\nTimes since the first crossing, by the node's memory read each millisecond, and the peak above the \
         threshold: p50 / p90 / p99 / max. Innocents are tasks that were killed although they did not grow; wrong errors are \
         leaks that ended otherwise than by OutOfMemoryError; broken are runs that Ray or the program itself did not \
         survive. The raylet's share is of one processor.\n\n{}\n{}",
        table(&head, rows),
        table(&["guard", "tasks a second"], rates)
    )
}

fn spread(spread: Option<&Spread>, form: fn(i64) -> String) -> String {
    spread.map_or_else(
        || "unknown".to_owned(),
        |spread| [spread.p50, spread.p90, spread.p99, spread.max].map(form).join(" / "),
    )
}

fn ratios(ratios: Option<&Ratios>) -> String {
    ratios.map_or_else(
        || "unknown".to_owned(),
        |of| format!("{:.1}% ({:.1}, {:.1})", of.median * 100.0, of.lower * 100.0, of.upper * 100.0),
    )
}

fn time(nanos: i64) -> String {
    let nanos = nanos as f64;
    if nanos.abs() < 1e6 { format!("{:.0} µs", nanos / 1e3) } else { format!("{:.1} ms", nanos / 1e6) }
}

fn mib(bytes: i64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}
