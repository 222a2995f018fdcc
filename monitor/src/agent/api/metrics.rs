//! The agent's numbers in the OpenMetrics text format: what `monitor metrics` prints and `/metrics` serves
//! (docs/metrics.md). Sums, which every user may read; and, for whoever sees all, the sizes of the largest workers. A gauge of
//! unknown value has no sample; every counter has one from the start, so that a rate sees its first step.

mod raylets;
mod top;

use std::time::Duration;

use prometheus_client::encoding::{self, EncodeLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::agent::api::latencies::Latencies;
use crate::control::answers::Status;
use crate::engine::{Counters, DomainView, Gear};
use crate::kernel::drops::CpuDrops;
use crate::kernel::probe::{Probe, ProbeState};
use crate::ray::RayletView;
use crate::units::{Bytes, Nanos};
use crate::worker::MemoryFacts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDomain {
    domain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGear {
    domain: String,
    gear: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHook {
    hook: String,
    tracepoint: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfName {
    hook: String,
}

pub(in crate::agent) use self::top::MOST as LARGEST;

/// What every name begins with.
const PREFIX: &str = "memory_monitor";

/// See the module.
pub(in crate::agent) fn text(
    status: &Status,
    latencies: &Latencies,
    largest: &[(Bytes, MemoryFacts)],
    raylets: Option<&[RayletView]>,
) -> String {
    let mut all = Registry::with_prefix(PREFIX);
    all.register("build", "The agent's version", Info::new(vec![("version", status.version.clone())]));
    state(&mut all, status);
    domains(&mut all, &status.domains, status.now);
    top::register(&mut all, largest);
    counters(&mut all, &status.counters);
    latencies.register(&mut all);
    raylets::register(&mut all, raylets);
    for (name, help, value) in status.faults.rows() {
        counter(&mut all, name, help, value);
    }
    hooks(&mut all, &status.probes);
    drops(&mut all, &status.drops);
    counter(&mut all, "socket_lost", "Looks that found the control socket's file gone", status.socket.lost);
    let (written, lost) = status.journal.as_ref().map_or((0, 0), |journal| (journal.written, journal.lost));
    counter(&mut all, "journal_lines", "Lines written to the journal", written);
    counter(&mut all, "journal_lost", "Lines that the journal could not take", lost);
    let callbacks = status.callbacks.clone().unwrap_or_default();
    counter(&mut all, "callbacks_run", "Commands of on_kill and on_approach that were run", callbacks.ran);
    counter(&mut all, "callbacks_failed", "Of them those that failed", callbacks.failed);
    counter(&mut all, "callbacks_timed_out", "Of them those that took too long", callbacks.timed_out);
    counter(&mut all, "callbacks_lost", "Calls that never came to it", callbacks.lost);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = encoding::text::encode(&mut out, &all);
    out
}

/// The agent as it stands now.
fn state(all: &mut Registry, status: &Status) {
    let mut one = |name: &str, help: &str, value: u64| all.register(name, help, gauge(value));
    let enforces = status.kills && !status.dry_run;
    one(
        "protects",
        "1 if the agent can kill: a domain is read, killing is on, and its self-test passed",
        status.protects.into(),
    );
    one(
        "enforces",
        "1 if the settings let the agent kill: neither refresh_ms = 0 nor dry_run",
        enforces.into(),
    );
    one("workers", "Registered workers that live", status.workers as u64);
    one("workers_observed", "Of them those that rules only observe", status.observed as u64);
    one("kills_in_flight", "Kills that are not over", status.kills_in_flight as u64);
    one("brake_on", "1 if the brake pauses workers at the threshold", status.brake.on.into());
    one("brake_held", "Processes that are paused by the brake now", status.brake.held.len() as u64);
    one("watchdog_on", "1 if a backup thread kills should the agent hang", status.watchdog.into());
    one("socket_found", "1 if new callers find the control socket", status.socket.error.is_none().into());
    let journal = status.journal.is_some().into();
    one("journal_on", "1 if the agent writes a journal", journal);
    if let Some(http) = &status.http {
        one("http_on", "1 if HTTP is served at http_listen", http.error.is_none().into());
    }
    let up = Duration::from_millis(status.uptime_ms).as_secs_f64();
    all.register_with_unit("uptime", "How long the agent runs", Unit::Seconds, ConstGauge::new(up));
}

#[expect(clippy::cast_possible_wrap, reason = "sizes and counts are far below 2^63")]
fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(value as i64)
}

fn counter(all: &mut Registry, name: &str, help: &str, value: u64) {
    all.register(name, help, ConstCounter::new(value));
}

/// A gauge for each domain of which the value is known.
fn domains(all: &mut Registry, domains: &[DomainView], now: Nanos) {
    let bytes = |bytes: Option<Bytes>| bytes.map(|Bytes(bytes)| bytes);
    let of = |value: &dyn Fn(&DomainView) -> Option<u64>| {
        let family = Family::<OfDomain, Gauge>::default();
        for view in domains {
            if let Some(value) = value(view) {
                let label = OfDomain { domain: view.domain.clone() };
                family.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        family
    };
    let mut sized = |name: &str, help: &str, value: &dyn Fn(&DomainView) -> Option<u64>| {
        all.register_with_unit(name, help, Unit::Bytes, of(value));
    };
    sized("domain_total", "Memory of the domain", &|view| bytes(view.total));
    sized("domain_used", "Memory used at the last memory check", &|view| bytes(view.used));
    sized("domain_threshold", "A worker is killed when more than this is used", &|view| {
        bytes(view.threshold)
    });
    sized("domain_estimate", "The last memory check, and what was charged since", &|view| {
        bytes(view.estimate)
    });
    let mut plain = |name: &str, help: &str, value: &dyn Fn(&DomainView) -> Option<u64>| {
        all.register(name, help, of(value));
    };
    plain("domain_above", "1 if the last memory check was over the threshold", &|view| {
        view.above.map(u64::from)
    });
    plain("domain_unreadable", "1 if the last memory check failed", &|view| {
        Some(view.error.is_some().into())
    });
    plain("domain_workers", "Workers that count towards the domain", &|view| Some(view.workers as u64));
    let age = Family::<OfDomain, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let gears = Family::<OfGear, Gauge>::default();
    for view in domains {
        if let Some(read) = view.read_at {
            let label = OfDomain { domain: view.domain.clone() };
            age.get_or_create(&label).set(now.since(read).as_secs_f64());
        }
        for (gear, word) in [(Gear::Near, "near"), (Gear::Far, "far")] {
            if let Some(actual) = view.gear {
                let label = OfGear { domain: view.domain.clone(), gear: word };
                gears.get_or_create(&label).set(i64::from(actual == gear));
            }
        }
    }
    all.register_with_unit("domain_reading_age", "Time since the last memory check", Unit::Seconds, age);
    all.register("domain_gear", "1 for the kind of tracking that the domain is under", gears);
}

fn counters(all: &mut Registry, counters: &Counters) {
    let mut count = |name: &str, help: &str, value: u64| counter(all, name, help, value);
    count("workers_registered", "Workers registered", counters.registered);
    count("workers_killed", "Workers killed for memory", counters.killed);
    count(
        "workers_killed_by_kernel",
        "Workers killed by the kernel's own out-of-memory killer",
        counters.killed_by_kernel,
    );
    count("starts_waited", "Starts that waited for room before they began", counters.waited);
    let help = "Starts that began without room, since they had waited as long as they may";
    count("starts_without_room", help, counters.started_without_room);
    count("workers_exited", "Workers that ended with status 0", counters.exited);
    count("workers_crashed", "Workers that ended otherwise", counters.crashed);
    count("workers_unregistered", "Workers that were unregistered", counters.unregistered);
    count("workers_stuck", "Victims that did not die in time", counters.stuck);
    count("workers_died_late", "Stuck victims that died after all", counters.died_late);
    count("workers_refused", "Victims that could not be signaled", counters.refused);
    count("workers_tried_again", "Of them, those that became candidates again", counters.tried_again);
    count("kills", "Kills decided", counters.kills);
    count("would_kill", "Kills decided and not carried out, because of dry_run", counters.would_kill);
    count(
        "would_have_killed",
        "Workers that would have been killed, had their rule been in mode enforce",
        counters.would_have_killed,
    );
    count("memory_late", "Kills after which memory was not seen free in time", counters.memory_late);
    let help =
        "Memory checks over the threshold at which nothing was killed because it could not have helped";
    count("spared", help, counters.spared);
    count("watchdog_kills", "Kills by the backup thread while the agent hung", counters.watchdog_kills);
    let help = "Kills by the backup thread of a worker that was no longer a candidate";
    count("watchdog_strays", help, counters.watchdog_strays);
    count("false_crossings", "Crossings that the memory check did not confirm", counters.false_crossings);
    count("unknown_readings", "Memory checks that failed or made no sense", counters.unknown_readings);
    count("no_candidates", "Memory checks over the threshold with no worker to kill", counters.no_candidates);
    count("gear_changes", "How often page faults began or ceased to be tracked", counters.gear_changes);
    count("kills_left", "Kills that raylets were asked for", counters.left);
    count("kills_left_late", "Of them those after which no worker died in time", counters.left_late);
    count("kills_left_withdrawn", "Of them those that were not needed any more", counters.left_withdrawn);
    count("brake_stops", "Processes that the brake paused", counters.stopped);
    let held = Duration::from_nanos(counters.held_ns).as_secs_f64();
    let help = "How long the brake paused them, all together";
    all.register_with_unit("brake_held_time", help, Unit::Seconds, ConstCounter::new(held));
}

fn hooks(all: &mut Registry, probes: &[Probe]) {
    let family = Family::<OfHook, Gauge>::default();
    let locked = Family::<OfName, Gauge>::default();
    for probe in probes {
        let label = OfName { hook: probe.name.to_string() };
        locked.get_or_create(&label).set(probe.locked_down().into());
        let state = match &probe.state {
            ProbeState::Attached => "attached",
            ProbeState::Detached => "detached",
            ProbeState::Missing(_) => "missing",
            ProbeState::Denied(_) => "denied",
            ProbeState::Failed(_) => "failed",
            ProbeState::Off(_) => "off",
        };
        let label = OfHook { hook: probe.name.to_string(), tracepoint: probe.tracepoint.clone(), state };
        family.get_or_create(&label).set(1);
    }
    all.register("hook", "1 for the state that the kernel hook is in", family);
    all.register("hook_locked_down", "1 if the kernel's lockdown denies the hook, for good", locked);
}

/// Over all CPUs: which one it was, `status` says.
fn drops(all: &mut Registry, drops: &[CpuDrops]) {
    let family = Family::<OfKind, prometheus_client::metrics::counter::Counter>::default();
    let count = |kind, lost: fn(&CpuDrops) -> u64| {
        family.get_or_create(&OfKind { kind }).inc_by(drops.iter().map(lost).sum());
    };
    count("usage", |cpu| cpu.usage);
    count("exit", |cpu| cpu.exit);
    count("fork", |cpu| cpu.fork);
    count("stopped", |cpu| cpu.stopped);
    count("lineage", |cpu| cpu.lineage);
    count("changed", |cpu| cpu.changed);
    all.register("lost_records", "Records that the kernel side could not deliver", family);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::hook::Hook;
    use crate::kernel::probe::LOCKED_DOWN;

    #[test]
    fn a_hook_that_lockdown_denies_is_told_from_one_that_a_capability_would_allow() {
        let denied = |hook, why: &str| Probe::new(hook, ProbeState::Denied(why.to_owned()));
        let mut all = Registry::with_prefix(PREFIX);
        hooks(&mut all, &[denied(Hook::RssStat, LOCKED_DOWN), denied(Hook::Exit, "needs CAP_BPF")]);
        let mut text = String::new();
        encoding::text::encode(&mut text, &all).unwrap();
        for line in [
            "memory_monitor_hook_locked_down{hook=\"rss_stat\"} 1",
            "memory_monitor_hook_locked_down{hook=\"exit\"} 0",
            "memory_monitor_hook{hook=\"rss_stat\",tracepoint=\"kmem:rss_stat\",state=\"denied\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
