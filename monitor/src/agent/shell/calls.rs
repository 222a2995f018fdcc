//! The control socket's calls: each goes to the component that can answer it. Each refusal names the field that is at
//! fault; none takes long. What each user may see of an answer is said in `agent/visible`.

use super::{Components, Shell, turn};
use crate::agent::api::changes;
use crate::agent::api::metrics;
use crate::agent::api::register::Registrar;
use crate::agent::api::status::StatusOf;
use crate::agent::api::why::KnownKills;
use crate::agent::event_loop::clock;
use crate::agent::event_loop::later::{Found, Waiting};
use crate::agent::refusals::owning;
use crate::agent::reports::past::date;
use crate::agent::starts;
use crate::agent::visible::{Metrics, Raylets, Shown, Viewer};
use crate::control::answers::Status;
use crate::control::protocol::{Admit, Admitted, Op, Refusal, RefusalCode, Register, Registered};
use crate::control::request::{Peer, Reply};
use crate::engine::{Event, Explanation, KillId};
use crate::learn::LearnedView;
use crate::series::Series;
use crate::worker::WorkerId;

impl Shell {
    /// Answers a call: at once, or, if files must be read for it, later.
    pub(in crate::agent) fn call(&mut self, peer: Peer, op: Op, reply: Reply) {
        if op == Op::Reload {
            return self.reload(Some((peer, reply)));
        }
        if let Some(wanted) = self.kills(peer.uid).asks_the_journal(&op) {
            let of = (!self.viewer(peer.uid).sees_all()).then_some(peer.uid);
            return self.parts.past.look(wanted, of, Waiting { peer, op, reply });
        }
        // A client that went away needs no answer.
        let _ = reply.send(self.answer(peer, op).map(Shown::into_text));
    }

    /// The journal was searched for a caller.
    pub(super) fn found(&mut self, found: Found) {
        self.parts.past.looked();
        let Found { waiting: Waiting { peer, op, reply }, past } = found;
        let past = past.map(|past| past.and_then(|past| past.report()));
        let answer = self.kills(peer.uid).answer(&op, past);
        // A client that went away needs no answer.
        let _ = reply.send(answer.map(Shown::into_text));
    }

    /// Answers a call at once.
    pub(in crate::agent) fn answer(&mut self, peer: Peer, op: Op) -> Result<Shown, Refusal> {
        let uid = peer.uid;
        match op {
            Op::Register(register) => {
                let registered = self.register(peer, register)?;
                self.viewer(uid).show(registered)
            }
            Op::Admit(admit) => {
                let admitted = self.admit(peer, admit)?;
                self.viewer(uid).show(admitted)
            }
            Op::Learned => {
                let learned = self.engine.learned(clock::now()).collect::<Vec<_>>();
                self.viewer(uid).show(learned)
            }
            Op::ForgetLearned { name } => {
                let whose = (!self.viewer(uid).sees_all()).then_some(uid);
                let known = |view: &LearnedView| view.name == name && whose.is_none_or(|uid| uid == view.uid);
                let forgotten = self.engine.learned(clock::now()).filter(known).count();
                self.happen(Event::ForgetLearned { uid: whose, name });
                self.viewer(uid).show(forgotten)
            }
            Op::Unregister { worker } if self.parts.starts.is_of(worker, uid) => {
                self.step(|parts, turn| parts.starts.withdraw(turn, &mut parts.domains, worker));
                self.viewer(uid).show(())
            }
            Op::Unregister { worker } => {
                self.step(|parts, turn| changes::unregister(turn, &parts.workers.registry, &peer, worker))?;
                self.viewer(uid).show(())
            }
            Op::SetIdle { worker, idle } => {
                self.step(|parts, turn| {
                    changes::set_idle(turn, &parts.workers.registry, &peer, worker, idle)
                })?;
                self.viewer(uid).show(())
            }
            Op::Watch => {
                self.parts.api.watchers.add(peer)?;
                self.viewer(uid).show(())
            }
            Op::GiveWay => {
                self.parts.previous_agent.give_way(&peer)?;
                self.viewer(uid).show(())
            }
            Op::RayStatus => self.viewer(uid).show(Raylets(self.parts.raylets.views())),
            Op::RayDetach { pid } => {
                changes::only_root(&peer)?;
                self.parts.raylets.detach(pid);
                self.viewer(uid).show(())
            }
            Op::Status => self.viewer(uid).show(self.status()),
            Op::Config => self.viewer(uid).show(self.parts.api.settings()),
            Op::Metrics => {
                let raylets = self.parts.raylets.views();
                // Of single workers, if without names: not for everybody.
                let all = self.viewer(uid).sees_all();
                let largest = if all { self.engine.largest(metrics::LARGEST) } else { Vec::new() };
                let latencies = &self.parts.api.latencies;
                let text = metrics::text(&self.status(), latencies, &largest, raylets.as_deref());
                self.viewer(uid).show(Metrics(text))
            }
            Op::Workers => self.viewer(uid).show(self.engine.workers()),
            Op::Explain { domain } => self.viewer(uid).show(self.explain(domain.as_deref())?),
            Op::Kills => self.viewer(uid).show_each(|| {
                self.parts.past.kills().chain(self.engine.kills()).cloned().map(|mut record| {
                    date(&mut record);
                    record
                })
            }),
            Op::Report { kill } => self.viewer(uid).show(self.kills(uid).report(kill)?),
            Op::Samples { kill } => self.viewer(uid).show(self.samples(kill)?),
            Op::Why(asked) => self.viewer(uid).show(self.kills(uid).why(&asked)),
            Op::Reload => Err(Refusal::new(RefusalCode::Failed, None, "it is answered elsewhere".to_owned())),
        }
    }

    /// A connection is closed.
    pub(in crate::agent) fn hang_up(&mut self, connection: u64) {
        self.parts.api.watchers.remove(connection);
        self.parts.workers.registry.disconnected(connection);
        self.step(|parts, turn| parts.starts.hang_up(turn, &mut parts.domains, connection));
    }

    pub(super) fn viewer(&self, uid: u32) -> Viewer<'_> {
        Viewer::new(uid, &self.parts.workers.registry)
    }

    fn register(&mut self, peer: Peer, register: Register) -> Result<Registered, Refusal> {
        let Components { domains, workers, hooks, previous_agent, watchdog, reports, rules, starts, .. } =
            &mut self.parts;
        let kernel = hooks.told();
        let mut registrar =
            Registrar { domains, workers, previous_agent, watchdog, reports, rules, starts, kernel };
        let registered = registrar.register(turn!(self), peer, register);
        self.settle();
        let registered = registered?;
        self.came(registered.worker);
        Ok(registered)
    }

    /// There is a new worker, registered or made by a rule: the other components that track it learn of it.
    pub(super) fn came(&mut self, worker: WorkerId) {
        let Components { domains, workers, killing, measuring, oom_counters, .. } = &mut self.parts;
        let now = clock::now();
        killing.find_own_cgroup(workers, worker);
        measuring.came(worker, now);
        oom_counters.enter(domains, worker, now);
    }

    /// A start that may begin at once, or waits. Its domains are read before that is decided.
    fn admit(&mut self, peer: Peer, admit: Admit) -> Result<Admitted, Refusal> {
        let since = starts::since(&admit);
        let checked = self.step(|parts, turn| {
            let Components { starts, domains, workers, .. } = parts;
            starts.check(turn, (domains, workers), &peer, &admit)
        })?;
        starts::refuse_hopeless(&self.engine, &admit, &checked)?;
        let uid = peer.uid;
        let outer = self.parts.workers.outer_of(self.parts.hooks.told(), admit.pid, None);
        let owned_by = owning(&self.engine, outer, admit.owner.as_deref(), uid);
        let (worker, begins) = self.parts.workers.number_for_start(uid);
        if let Some(block) = begins {
            self.parts.reports.note_numbers(block);
        }
        self.step(|parts, turn| {
            let Components { starts, domains, .. } = parts;
            starts.enter(turn, domains, (worker, owned_by), (peer, admit), checked);
        });
        let waits_for = self.engine.waits_for(worker);
        Ok(Admitted { worker, admitted: waits_for.is_none(), waits_for, since })
    }

    fn explain(&self, domain: Option<&str>) -> Result<Explanation, Refusal> {
        self.engine.explain(domain).ok_or_else(|| {
            let names: Vec<String> = self.engine.domains().into_iter().map(|view| view.domain).collect();
            let message = format!("no such domain is guarded; guarded are: {}", names.join(", "));
            Refusal::new(RefusalCode::NotFound, Some("op.explain.domain"), message)
        })
    }

    fn status(&self) -> Status {
        let Components { domains, workers, hooks, killing, brake, previous_agent, reports, api, .. } =
            &self.parts;
        let (watchdog, callbacks) = (self.parts.watchdog.is_on(), &self.parts.callbacks);
        let of =
            StatusOf { domains, workers, hooks, killing, brake, previous_agent, reports, api, callbacks };
        of.status(&self.engine, self.started, watchdog, self.faults)
    }

    /// What the caller may know of kills.
    fn kills(&self, uid: u32) -> KnownKills<'_> {
        let Components { past, reports, .. } = &self.parts;
        KnownKills { engine: &self.engine, past, reports, viewer: self.viewer(uid) }
    }

    fn samples(&self, kill: Option<u64>) -> Result<Series, Refusal> {
        self.parts.samples.series(&self.engine, kill.map(KillId)).ok_or_else(|| {
            let message = "this agent knows no such kill".to_owned();
            Refusal::new(RefusalCode::NotFound, Some("op.samples.kill"), message)
        })
    }
}
