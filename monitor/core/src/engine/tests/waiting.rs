//! Victims that do not die, and how long the rest waits for them: the time from a crossing to a kill that helps is
//! bounded, whatever victims do.

use super::machine::Dice;
use super::*;

const HOG: WorkerId = WorkerId(1);
const INNER: DomainId = DomainId(3);
const EVERYWHERE: [DomainId; 3] = [INNER, BOX, NODE];

/// What a victim does when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It is in a state in which it cannot die: this letter of /proc/PID/stat.
    Stands(char),
    /// Its memory was taken, and it runs on.
    Emptied,
    /// It runs on, as a call that the kernel does not get out of.
    Runs,
    /// It is gone after this time.
    Dies(Duration),
}

/// A hog that was registered first, and victims that go before it. One user's, and tiny.
struct Stage {
    bench: Bench,
    plans: Vec<Plan>,
    /// The workers that are signaled, and when.
    signalled: Vec<(WorkerId, Nanos)>,
    gone: Vec<WorkerId>,
    above: Vec<DomainId>,
}

impl Stage {
    fn new(settings: Settings, hog_in: &[DomainId], plans: &[Plan], victims_in: &[DomainId]) -> Self {
        let mut bench = Bench::new(settings);
        bench.happen(Event::DomainAdded { domain: INNER, name: "cgroup:/box/in".into(), parent: Some(BOX) });
        bench.reading(INNER, 10);
        bench.worker(HOG.0, "hog", hog_in);
        for id in (2..).take(plans.len()) {
            bench.happen(Event::Registered {
                worker: WorkerId(id),
                pid: Pid(100 + u32::try_from(id).unwrap()),
                uid: 7,
                kind: Kind::Task { max_retries: Count::Unlimited },
                owner: Some("many".into()),
                name: None,
                attempt: 0,
                domains: victims_in.to_vec(),
                priority: 0,
                memory_declared: None,
            });
        }
        Self { bench, plans: plans.to_vec(), signalled: Vec::new(), gone: Vec::new(), above: vec![BOX] }
    }

    fn plan(&self, worker: WorkerId) -> Plan {
        self.plans[usize::try_from(worker.0 - 2).unwrap()]
    }

    fn obey(&mut self, actions: Vec<Action>) {
        let mut todo = VecDeque::from(actions);
        while let Some(action) = todo.pop_front() {
            let now = self.bench.now;
            let answer = match action {
                Action::Read(domain) => {
                    let used = if self.above.contains(&domain) { 99 } else { 10 };
                    let measured = Measured::Known { total: Bytes(100 << 20), used: Bytes(used << 20) };
                    Event::Reading { domain, measured, counter: 0 }
                }
                Action::Kill { worker, .. } => {
                    self.signalled.push((worker, now));
                    let pid = Pid(100 + u32::try_from(worker.0).unwrap());
                    if worker == HOG || self.plan(worker) != Plan::Emptied {
                        continue;
                    }
                    Event::Ended { worker, pid, seen: Seen::Released, status: None, at: now }
                }
                Action::Examine { kill, worker, pids } => {
                    let state = match self.plan(worker) {
                        Plan::Stands(state) => state,
                        Plan::Emptied | Plan::Runs | Plan::Dies(_) => 'R',
                    };
                    let remains = pids.into_iter().map(|pid| Remains {
                        pid,
                        state: Some(state),
                        wait_channel: None,
                        sigkill_pending: Some(true),
                    });
                    Event::Examined { kill, worker, remains: remains.collect() }
                }
                _ => continue,
            };
            todo.extend(self.bench.happen(answer));
        }
    }

    /// From the crossing to the order to kill the hog; `None`: it does not come within two minutes.
    fn time_to_help(&mut self) -> Option<Duration> {
        let began = self.bench.now;
        let read = self.above.iter().map(|domain| Action::Read(*domain)).collect();
        self.obey(read);
        while self.bench.now.since(began) < Duration::from_secs(120) {
            if let Some((_, at)) = self.signalled.iter().find(|(worker, _)| *worker == HOG) {
                return Some(at.since(began));
            }
            let deaths = self.signalled.iter().filter(|(worker, _)| !self.gone.contains(worker));
            let deaths: Vec<(Nanos, WorkerId)> = deaths
                .filter_map(|(worker, at)| match self.plan(*worker) {
                    Plan::Dies(after) => Some((at.after(after), *worker)),
                    Plan::Stands(_) | Plan::Emptied | Plan::Runs => None,
                })
                .collect();
            let next =
                deaths.iter().min().copied().filter(|(at, _)| *at <= self.bench.engine.next_deadline());
            match next {
                Some((at, worker)) => {
                    self.bench.now = self.bench.now.max(at);
                    self.gone.push(worker);
                    let actions = self.bench.ended(worker.0, Seen::Gone);
                    self.obey(actions);
                }
                None => {
                    self.bench.now = self.bench.now.max(self.bench.engine.next_deadline());
                    let actions = self.bench.happen(Event::Tick);
                    self.obey(actions);
                }
            }
        }
        None
    }
}

fn help(plans: &[Plan]) -> Duration {
    let mut stage = Stage::new(Settings::default(), &[BOX, NODE], plans, &[BOX, NODE]);
    stage.time_to_help().expect("the hog dies")
}

#[test]
fn tiny_victims_that_are_traced_frozen_or_uninterruptible_do_not_suspend_protection() {
    let ms = Duration::from_millis;
    for state in ['t', 'T', 'D'] {
        let time = help(&[Plan::Stands(state); 3]);
        assert!(time > ms(200) && time < ms(500), "{state}: {time:?}");
    }
    let time = help(&[Plan::Emptied; 3]);
    assert!(time < ms(500), "their memory was taken, and the usage is still above: {time:?}");
    let time = help(&[Plan::Stands('t'); 60]);
    assert!(time < ms(2_700), "bounded in sum: {time:?}");
    let time = help(&[Plan::Dies(ms(190)); 3]);
    assert!(time > ms(570), "a dying victim is waited for: {time:?}");
}

#[test]
fn who_may_die_yet_is_waited_for_once_and_then_for_less() {
    let secs = Duration::from_secs;
    let time = help(&[Plan::Runs]);
    assert!(time >= secs(10) && time < secs(11), "{time:?}");
    let time = help(&[Plan::Runs; 3]);
    assert!(time < secs(12), "a second one by the same user is not waited for as long: {time:?}");
}

#[test]
fn who_cannot_die_is_stuck_and_on_the_books_and_the_next_kill_is_its_own() {
    let mut stage = Stage::new(Settings::default(), &[BOX, NODE], &[Plan::Stands('t')], &[BOX, NODE]);
    stage.time_to_help().unwrap();
    let (first, second) = (stage.bench.engine.kill(KillId(1)).unwrap(), KillId(2));
    assert_eq!((first.confirmed, first.stuck.first().and_then(|found| found.state)), (false, Some('t')));
    assert_eq!(stage.bench.engine.kill(second).unwrap().victims[0].worker, HOG);
    let states: Vec<WorkerState> = stage.bench.engine.workers().iter().map(|worker| worker.state).collect();
    assert_eq!(states, [WorkerState::BeingKilled, WorkerState::Stuck]);
}

#[test]
fn a_domain_waits_for_kills_within_it_only_for_a_short_time_in_sum() {
    for plan in [Plan::Runs, Plan::Stands('t'), Plan::Dies(Duration::from_millis(90))] {
        let mut stage = Stage::new(Settings::default(), &[BOX, NODE], &[plan; 12], &EVERYWHERE);
        // Two of one owner, so that one may go where no victim is left to choose.
        stage.bench.happen(Event::Unregistered { worker: HOG });
        for newest in [91, 90] {
            stage.bench.worker(newest, "hog", &[BOX, NODE]);
        }
        stage.above = vec![INNER];
        let began = stage.bench.now;
        stage.obey(vec![Action::Read(INNER)]);
        stage.above = vec![INNER, BOX];
        let mut help = None;
        for _ in 0..40 {
            stage.bench.now = stage.bench.now.after(Duration::from_millis(10));
            let actions = stage.bench.reading(BOX, 99);
            if !killed(&actions).is_empty() {
                help = Some(stage.bench.now.since(began));
                break;
            }
        }
        let help = help.expect("the domain around is relieved");
        assert!(help < Duration::from_millis(260), "{plan:?}: {help:?}");
        assert!(help > Duration::from_millis(190), "a kill within it may be enough: {help:?}");
    }
}

#[test]
fn the_time_to_a_kill_that_helps_is_bounded_whatever_victims_do() {
    let ms = Duration::from_millis;
    for seed in 1..=300_u64 {
        let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let can_run = dice.one_in(4);
        let plans: Vec<Plan> = (0..dice.below(20) + 1)
            .map(|_| match dice.below(if can_run { 5 } else { 4 }) {
                0 => Plan::Stands('t'),
                1 => Plan::Stands('D'),
                2 => Plan::Emptied,
                3 => Plan::Dies(ms(dice.below(60))),
                _ => Plan::Runs,
            })
            .collect();
        let brake = dice.one_in(2);
        let settings = Settings { brake, brake_max_ms: 60_000, ..Settings::default() };
        let mut stage = Stage::new(settings, &[BOX, NODE], &plans, &[BOX, NODE]);
        let at = stage.bench.now;
        stage.bench.happen(Event::Stopped { worker: HOG, pid: Pid(101), at });
        let time = stage.time_to_help();
        let each = if can_run { 300 } else { 100 };
        let once = if can_run { 10_000 } else { 1_000 };
        let bound = ms(once + each * u64::try_from(plans.len()).unwrap());
        assert!(time.is_some_and(|time| time < bound), "{time:?} of {bound:?}: {plans:?}");
    }
}
