//! What the loop does at each turn, and at a tick besides what the engine has due: what nothing else wakes it for. And
//! what comes from other threads and timers.

use std::time::Duration;

use super::{Components, Shell, WAITING, turn};
use crate::agent::event_loop::clock;
use crate::agent::event_loop::later::Later;
use crate::agent::rules::adopting::Around;
use crate::agent::survival::service;
use crate::agent::workers::members::Ended;
use crate::config::values::BrakeMode;
use crate::engine::Event;
use crate::kernel::hook::Hook;
use crate::rules::sighting::Sightings;
use crate::units::Nanos;

/// How often, at least, the agent shows that it works to whatever waits for that.
const BEAT: Duration = Duration::from_millis(250);

/// And to the thread that feeds raylets, which waits for twice as long.
const RAYLETS_BEAT: Duration = Duration::from_secs(1);

/// A refresh is due a little later than its time after a tick, which has already begun: it must not take two wake-ups.
const SLACK: Duration = Duration::from_millis(50);

impl Shell {
    /// At each turn of the loop: it does not hang.
    pub(in crate::agent) fn turn(&mut self) {
        self.parts.watchdog.beat();
        self.parts.raylets.beat();
        self.parts.upkeep.turn();
    }

    /// When the engine, or a process that waits for a sign of life, wants the next tick, after one at `ticked`. Hardly
    /// later than a refresh, whatever the clock did.
    pub(in crate::agent) fn next_tick(&self, ticked: Nanos) -> Nanos {
        let due = self.engine.next_deadline().min(ticked.after(self.engine.pace() + SLACK));
        let due = self.parts.measuring.next().map_or(due, |young| due.min(young));
        let watched = self.parts.watchdog.watches();
        let waits = (self.parts.brake.is_on() || watched).then_some(BEAT);
        let raylets = self.parts.raylets.wait_for_beats().then_some(RAYLETS_BEAT);
        let beat = waits.into_iter().chain(raylets).chain(service::every()).min();
        beat.map_or(due, |beat| due.min(ticked.after(beat)))
    }

    /// What is due at the engine's deadline, and what only a look can tell: deltas, which do not wake the loop, lost
    /// records, descendants without the fork hook.
    pub(in crate::agent) fn tick(&mut self) {
        let now = clock::now();
        let Components { measuring, domains, workers, .. } = &mut self.parts;
        measuring.tick(&self.engine, domains, &workers.registry, now);
        if now < self.whole_tick && self.engine.only_reads(now) {
            // Near a limit that is often: nothing but what is needed.
            self.drain();
            return self.happen(Event::Tick);
        }
        self.whole_tick = now.after(BEAT);
        self.beat();
        self.drain();
        self.check_drops();
        self.try_hooks_again();
        self.step(|parts, turn| parts.workers.look(turn, parts.hooks.told()));
        self.step(|parts, turn| parts.workers.sweep_victims(turn));
        self.step(|parts, turn| parts.rules.sweep_victims(turn, &mut parts.workers, &parts.domains));
        self.step(|parts, turn| parts.previous_agent.look_after_the_dying(turn));
        self.follow_raylets();
        self.happen(Event::Tick);
        // A reading, its line and a note or two for each domain.
        self.todo.reserve(WAITING + 4 * self.parts.domains.len());
        self.parts.workers.follow_again();
        for look in self.parts.workers.due_for_a_look(self.engine.kills_in_flight()) {
            self.step(|parts, turn| parts.workers.recheck(turn, &mut parts.domains, look));
        }
        self.step(|parts, turn| parts.domains.recheck(turn));
        self.nominate();
        let now = clock::now();
        let Components { samples, reports, callbacks, .. } = &mut self.parts;
        samples.tick(&self.engine, now);
        while let Some(chart) = samples.cut_out(&self.engine, now) {
            reports.chart(chart);
        }
        callbacks.tick(|| self.engine.domains(), self.engine.kills_in_flight());
        self.parts.measuring.time_glances(&self.engine);
        self.look_at_changes();
        let calm = || self.engine.kills_in_flight() == 0 && self.engine.near().is_empty();
        self.parts.upkeep.tick(now, self.parts.workers.registry.len(), calm);
        if !self.parts.hooks.tell_oom_victims() {
            self.parts.oom_counters.look(&self.parts.domains, now);
        }
        self.parts.api.look_after_the_socket(now);
        self.parts.learned.tick(&self.engine, now);
        self.step(|parts, turn| parts.starts.look(turn, &mut parts.domains));
    }

    fn beat(&mut self) {
        let counts = self.parts.hooks.usage().is_some();
        self.step(|parts, turn| parts.brake.beat(turn, &mut parts.domains, &parts.workers, counts));
    }

    /// Which workers are those of raylets, and where these would kill by themselves.
    fn follow_raylets(&mut self) {
        self.step(|parts, turn| parts.raylets.look(turn, &parts.workers.registry));
        self.step(|parts, turn| parts.raylets.agree(turn, &parts.domains));
    }

    /// Tells the watchdog which workers the loop would kill next.
    pub(super) fn nominate(&mut self) {
        let Components { watchdog, domains, workers, .. } = &self.parts;
        watchdog.nominate(&mut self.engine, domains, &workers.registry);
    }

    /// Hooks that were refused for a reason that passes are tried again.
    fn try_hooks_again(&mut self) {
        for hook in self.parts.hooks.try_again() {
            match hook {
                Hook::Exit => {
                    // A process that ended unnoticed is taken off the map before children of its reused pid are taken
                    // for a worker's.
                    self.step(|parts, turn| parts.workers.sweep_all(turn));
                    if self.parts.hooks.attach_lineage() {
                        self.parts.workers.look_after_all();
                    }
                }
                Hook::Lineage => self.parts.workers.look_after_all(),
                Hook::MarkVictim => {}
                Hook::Exec | Hook::Rename | Hook::CgroupAttach | Hook::CgroupMkdir | Hook::CgroupRmdir => {
                    self.parts.rules.set_told(self.parts.hooks.told().changes)
                }
                Hook::Memcg | Hook::RssStat | Hook::Charge => {
                    self.parts.hooks.usage_is_back(turn!(self));
                    self.settle();
                    if self.parts.brake.failed() {
                        // It was asked for, and there was nothing to brake with.
                        let longest = Duration::from_millis(self.engine.settings().brake_max_ms);
                        self.prepare_brake(BrakeMode::On, longest);
                    }
                }
            }
        }
    }

    /// A pidfd became readable, or memory was taken.
    pub(in crate::agent) fn ended(&mut self, end: Ended) {
        self.step(|parts, turn| parts.workers.ended(turn, end));
    }

    /// A look for what the rules match is over.
    fn looked(&mut self, found: Sightings) {
        let Components { domains, workers, reports, watchdog, rules, raylets, .. } = &mut self.parts;
        let mut around = Around { domains, workers, reports, watchdog };
        let new = rules.looked(turn!(self), &mut around, found);
        // Before one of them can be a victim, or is taken for a worker of nobody's.
        if !new.is_empty() {
            raylets.look(turn!(self), &workers.registry);
        }
        self.settle();
        self.step(|parts, turn| parts.raylets.agree(turn, &parts.domains));
        for worker in new {
            self.came(worker);
        }
    }

    pub(in crate::agent) fn later(&mut self, later: Later) {
        let Components { domains, workers, measuring, reports, samples, raylets, past, .. } = &mut self.parts;
        match later {
            Later::Measured(measurement) => {
                samples.measured(&self.engine, clock::now(), &measurement.samples);
                measuring.measured(turn!(self), measurement);
            }
            Later::Glance => measuring.glance_by_timer(&self.engine, domains, &workers.registry),
            Later::Glanced(glance) => measuring.glanced(turn!(self), glance),
            Later::Gauged(domain, held) => turn!(self).tell(Event::Gauged { domain, held }),
            Later::Looked(found) => return self.looked(*found),
            Later::Report(report) => reports.complete(&workers.registry, *report),
            Later::Ray(news) => {
                raylets.heard(turn!(self), &workers.registry, news);
                self.settle();
                return self.step(|parts, turn| parts.raylets.agree(turn, &parts.domains));
            }
            Later::Summary => reports.summarize(&self.engine),
            Later::Before(kills) => past.know(kills),
            Later::Found(found) => self.found(found),
            Later::Reloaded(again) => self.reloaded(*again),
        }
        self.settle();
    }
}
