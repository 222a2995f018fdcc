//! A report says all that docs/behavior.md#records lists, as text and as JSON.

use super::summary::{Node, Period};
use super::*;
use crate::engine::{
    ExecutorId, Grown, Input, KillId, LeftTo, Note, Sample, Settings, Times, Trigger, VictimRecord,
};
use crate::memory::users::User;
use crate::snapshot::ChosenVictim;
use crate::units::MemoryKind;
use crate::units::{Nanos, Pid};
use crate::worker::{Kind, LastTask, MemoryFacts, Times as Budget, WorkerId};

fn input(worker: u64, owner: &str, max_retries: u32, memory: u64) -> Input {
    Input {
        uid: 1000,
        worker: WorkerId(worker),
        kind: Kind::Task { max_retries: Budget::AtMost(max_retries) },
        owner: Some(owner.to_owned()),
        started: Nanos(worker),
        idle_ever_leased: None,
        memory: Some(Bytes(memory)),
        priority: 0,
        memory_declared: None,
        last_task: LastTask::Fail,
        facts: MemoryFacts::default(),
    }
}

/// Three workers, the second of which goes.
pub(crate) fn decision() -> Decision {
    Decision {
        kill: KillId(7),
        at: Nanos(2_000_000_000),
        domain: "cgroup:/box".to_owned(),
        settings: Settings::default(),
        total: Bytes(1000),
        used: Bytes(960),
        threshold: Bytes(950),
        executors_line: None,
        candidates: vec![input(1, "a", 3, 100), input(2, "a", 3, 200), input(3, "b", 0, 300)],
        rest: None,
        victims: vec![ChosenVictim { id: "w2".to_owned(), should_retry: true }],
    }
}

pub(crate) fn record() -> KillRecord {
    let ms = |ms: u64| Some(Nanos(2_000_000_000 + ms * 1_000_000));
    KillRecord {
        id: KillId(7),
        at: Some("2026-11-29T03:12:44.000Z".to_owned()),
        by: crate::retry::KilledBy::Monitor,
        domain: "cgroup:/box".to_owned(),
        policy: "group_by_owner".to_owned(),
        trigger: Trigger::Crossing,
        victims: vec![VictimRecord {
            worker: WorkerId(2),
            pid: Pid(42),
            uid: Some(1000),
            name: Some("load\x1b[2J".to_owned()),
            owner: Some("a".to_owned()),
            kind: "task".to_owned(),
            should_retry: true,
            waits: false,
            why: "newest of the 2 retriable workers of owner \"a\"; no owner has more".to_owned(),
            memory: Some(Bytes(200)),
            sample: Some(Sample {
                bytes: Bytes(200),
                measured: Some(MemoryKind::Pss),
                at: Nanos(500_000_000),
            }),
            peak: Some(Bytes(210)),
            facts: MemoryFacts {
                memory_declared: Some(Bytes(150)),
                memory_learned: None,
                memory_peak: Some(Bytes(210)),
                growth: Some(20),
                growth_minute: Some(-5),
            },
            rule: None,
            observed: false,
        }],
        others: 0,
        used: Bytes(960),
        threshold: Bytes(950),
        total: Bytes(1000),
        times: Times { crossing: ms(0), decision: ms(1), signal: ms(2), dead: ms(30), memory_back: None },
        cgroup_kill: None,
        confirmed: true,
        memory_late: false,
        dry_run: false,
        refused: None,
        stuck: Vec::new(),
        grown: Some(Grown { since: Nanos(1_700_000_000), used: 260, workers: 200, others: Some(-10) }),
        left_to: None,
        used_after: None,
        others_ended: false,
    }
}

fn report() -> Report {
    let users = Users {
        top: vec![User {
            pid: Some(Pid(42)),
            uid: Some(1000),
            memory: Bytes(200),
            measured: MemoryKind::Pss,
            command: "python load.py".to_owned(),
        }],
        complete: false,
        huge_pages: None,
    };
    Report {
        users: Some(users),
        freed: Some(Bytes(190)),
        ..Report::new(&decision(), record(), Path::new("/etc/monitor/monitor.toml"))
    }
}

#[test]
fn a_report_says_all_that_is_known_of_a_kill() {
    insta::assert_snapshot!(report());
}

#[test]
fn reserved_huge_pages_are_named_beside_the_top_users() {
    let mut report = report();
    for (huge, said) in [(None, false), (Some(Bytes(0)), false), (Some(Bytes(720 << 30)), true)] {
        report.users.as_mut().unwrap().huge_pages = huge;
        assert_eq!(report.to_string().contains("Reserved huge pages: 720.0 GiB"), said, "{report}");
    }
}

#[test]
fn a_dry_run_is_told_as_what_would_have_been() {
    let mut report = report();
    report.kill.dry_run = true;
    let text = report.to_string();
    assert!(text.contains("would kill 7 (dry run") && text.contains("Would kill: w2"), "{text}");
    assert!(!text.contains("Killed") && !text.contains("(killed)"), "{text}");
}

#[test]
fn of_a_victim_that_a_raylet_chose_ray_decides_whether_it_is_retried() {
    let mut kill = record();
    kill.victims[0].should_retry = false;
    kill.left_to = Some(LeftTo { executor: ExecutorId(Pid(7)), ours: None });
    let report = Report::new(&decision(), kill.clone(), Path::new("/etc/monitor/monitor.toml"));
    let text = report.to_string();
    assert!(text.contains("retry: as Ray decides") && !text.contains("Not retried"), "{text}");
    let line = super::line::of(&Note::Killed(Box::new(kill)));
    assert!(line.contains("Ray decides") && !line.contains("not retried"), "{line}");
}

#[test]
fn nothing_in_a_report_commands_a_terminal() {
    let mut report = report();
    let evil = || "\u{1b}[2J\r".to_owned();
    (report.kill.policy, report.kill.domain, report.kill.refused) = (evil(), evil(), Some(evil()));
    report.advice.push(evil());
    for victim in &mut report.kill.victims {
        (victim.kind, victim.why, victim.name, victim.owner) = (evil(), evil(), Some(evil()), Some(evil()));
    }
    for next in &mut report.runners_up {
        (next.id, next.why) = (evil(), evil());
    }
    let text = report.to_string();
    assert_eq!(text.chars().find(|c| c.is_control() && *c != '\n'), None, "{text:?}");
}

#[test]
fn the_same_facts_are_json_with_the_keys_of_the_list_of_kills() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["id"], 7);
    assert_eq!(json["victims"][0]["worker"], "w2");
    assert_eq!(json["runners_up"][0]["id"], "w1");
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report());
}

#[test]
fn it_says_when_no_kill_can_help() {
    let usage = |used| Usage { total: Bytes(1000), used: Bytes(used), threshold: Bytes(500) };
    let found = Unhelpful::of(usage(900), [Some(Bytes(100)), Some(Bytes(200))]);
    assert_eq!(
        found,
        Some(Unhelpful { candidates_hold: Bytes(300), others_hold: Bytes(600), took: Bytes(0) })
    );
    assert_eq!(Unhelpful::of(usage(800), [Some(Bytes(300))]), None, "at the threshold is not above it");
    assert_eq!(Unhelpful::of(usage(900), [Some(Bytes(1)), None]), None, "unknown is not nothing");
    let mut decision = decision();
    decision.candidates.iter_mut().for_each(|input| input.memory = Some(Bytes(1)));
    let report = Report::new(&decision, record(), Path::new("/x.toml"));
    assert!(report.advice[0].contains("Killing workers cannot help"), "{:?}", report.advice);
}

#[test]
fn a_summary_counts_kills_and_crashes_and_begins_anew() {
    let node = Node { id: "n1".to_owned(), ip: "10.0.0.1".to_owned() };
    let mut period = Period::default();
    assert_eq!(period.take(&node, &Settings::default(), Path::new("/x.toml")), None);
    period.kill(&record());
    period.kill(&KillRecord { dry_run: true, ..record() });
    period.kill(&KillRecord { confirmed: false, ..record() });
    period.crashed(1);
    insta::assert_snapshot!(period.take(&node, &Settings::default(), Path::new("/x.toml")).unwrap());
    assert_eq!(period.take(&node, &Settings::default(), Path::new("/x.toml")), None);
}

#[test]
fn the_room_beside_victims_counts_what_they_took_since_they_were_measured_and_not_what_others_gave_back() {
    let mib = |mib: u64| Bytes(mib << 20);
    let room_of = |measured: u64, after: Option<u64>, others_ended: bool| {
        let mut record = KillRecord {
            used: mib(380),
            threshold: mib(380),
            used_after: after.map(mib),
            domain: "cgroup:/a".to_owned(),
            times: Times {
                decision: Some(Nanos(0)),
                memory_back: Some(Nanos(30_000_000)),
                ..Times::default()
            },
            others_ended,
            ..record()
        };
        record.victims.truncate(1);
        record.victims[0].memory = Some(mib(measured));
        record.room_beside()
    };
    let room = |measured, after| room_of(measured, after, false);
    assert_eq!(room(120, Some(260)), mib(120));
    assert_eq!(room(109, Some(260)), mib(120), "it had grown");
    assert_eq!(room(120, Some(300)), mib(80), "not all came back, or others grew");
    assert_eq!(room(5, Some(260)), mib(120), "all of it since it was measured");
    assert_eq!(room_of(109, Some(260), true), mib(120), "up to as much again");
    assert_eq!(room_of(50, Some(100), true), mib(50), "others ended too");
    assert_eq!(room(120, None), mib(120));
}
