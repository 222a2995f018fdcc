//! A page says all that is known, whatever others call their workers.

use super::*;
use crate::engine::KillId;
use crate::memory::users::{User, Users};
use crate::report::tests::{decision, record};
use crate::series::{DomainSeries, Level, Pause, WorkerSeries};
use crate::snapshot::Ranked;
use crate::units::{Bytes, MemoryKind, Nanos, Pid};
use crate::worker::WorkerId;

/// A minute before the crossing at 2 s of the clock, and ten seconds after.
pub(crate) fn series(workers: u64) -> Series {
    let second = |second: u64| Nanos(100_000_000_000 + second * 1_000_000_000);
    let points = (0..=70).map(|at| Level {
        at: second(at),
        used: Bytes(if at < 60 { 300 + at * 11 } else { 700 }),
        threshold: Bytes(950),
    });
    let line = |number: u64| WorkerSeries {
        worker: WorkerId(number + 1),
        uid: Some(1000),
        name: Some(format!("load {number}")),
        owner: Some("a".to_owned()),
        points: (0..=60).step_by(5).map(|at| (second(at), Bytes(at * (number + 1) % 400))).collect(),
    };
    Series {
        kill: Some(KillId(7)),
        domains: vec![DomainSeries { domain: "cgroup:/box".to_owned(), points: points.collect() }],
        workers: (0..workers).map(line).collect(),
        pauses: vec![Pause { worker: WorkerId(2), from: Nanos(160_000_050_000), to: Nanos(160_030_000_000) }],
    }
}

fn a_report() -> Report {
    let mut record = record();
    let at = |ms: u64| Some(Nanos(160_000_000_000 + ms * 1_000_000));
    let times = &mut record.times;
    (times.crossing, times.decision, times.signal, times.dead, times.memory_back) =
        (at(0), at(1), at(2), at(30), at(41));
    Report::new(&decision(), record, std::path::Path::new("/x.toml"))
}

#[test]
fn every_moment_line_and_number_is_on_the_page() {
    for workers in [0, 1, 6, 50] {
        let page = report(&a_report(), Some(&series(workers)), Some("29 November 2026, 03:00:00 UTC"));
        for part in [
            "Threshold crossed",
            "Paused by the brake",
            "Decided",
            "Signal sent",
            "Processes dead",
            "Memory free",
            "+41 ms",
            "+50 µs",
            "class=\"used\"",
            "class=\"threshold\"",
            "Who grew",
            "processes that are no workers",
            "What to do",
            "Ranking",
            "The whole report",
            "29 November 2026",
        ] {
            assert!(page.contains(part), "{workers}: {part}");
        }
        let lines = page.matches("<path class=\"worker").count();
        // In both drawings.
        assert_eq!(lines as u64, 2 * workers.min(6), "{workers}");
        assert!(page.len() < 200 << 10, "{}", page.len());
    }
}

#[test]
fn without_samples_it_says_so() {
    for series in [None, Some(Series::default())] {
        let page = report(&a_report(), series.as_ref(), None);
        assert!(page.contains("There is no chart") && !page.contains("<svg"), "{page}");
        assert!(page.contains("+41 ms"), "the moments are known");
    }
}

#[test]
fn a_dry_run_is_told_as_what_would_have_been() {
    let mut would = a_report();
    would.kill.dry_run = true;
    let page = report(&would, Some(&series(3)), None);
    assert!(
        page.contains("Would be killed: ")
            && page.contains("(would be killed)")
            && !page.contains("(killed)")
    );
}

/// What a page must not be made to do by a name.
const HOSTILE: [&str; 5] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</title></style><script>x</script>",
    "\u{202e}gnp.exe\u{2066}",
    "&lt;script&gt; ${x} {{x}}",
];

#[test]
fn nothing_that_others_wrote_is_markup_or_turns_the_text_around() {
    for evil in HOSTILE {
        let evil = || evil.to_owned();
        let mut hostile = a_report();
        (hostile.kill.policy, hostile.kill.domain, hostile.kill.refused) = (evil(), evil(), Some(evil()));
        hostile.advice = vec![evil()];
        for victim in &mut hostile.kill.victims {
            (victim.kind, victim.why) = (evil(), evil());
            (victim.name, victim.owner) = (Some(evil()), Some(evil()));
        }
        hostile.runners_up =
            vec![Ranked { id: evil(), owner: Some(evil()), why: evil(), ..hostile.runners_up[0].clone() }];
        let user = User {
            pid: Some(Pid(1)),
            uid: None,
            memory: Bytes(1),
            measured: MemoryKind::Rss,
            command: evil(),
        };
        hostile.users = Some(Users { top: vec![user], complete: false, huge_pages: None });
        let mut drawn = series(2);
        drawn.domains[0].domain = evil();
        for worker in &mut drawn.workers {
            (worker.name, worker.owner) = (Some(evil()), Some(evil()));
        }
        let page = report(&hostile, Some(&drawn), None);
        let lower = page.to_ascii_lowercase();
        for bad in ["<script", "<img", "onerror=alert(1)>", "</title></style>"] {
            assert!(!lower.contains(bad), "{bad}: {page}");
        }
        assert_eq!(lower.matches("<style>").count(), 1);
        assert!(!page.chars().any(|c| crate::printable::is_hidden(c) && c != '\n' && c != '\t'), "{page}");
    }
}

#[test]
fn a_right_to_left_name_stays_in_its_place() {
    let mut report = a_report();
    report.kill.victims[0].name = Some("שלום".to_owned());
    let page = super::report(&report, None, None);
    assert!(page.contains("<bdi>שלום</bdi>"), "{page}");
}

#[test]
fn it_needs_nothing_from_elsewhere() {
    let page = report(&a_report(), Some(&series(6)), None);
    for bad in ["http:", "https:", "src=", "href=", "@import", "url(http"] {
        assert!(!page.contains(bad), "{bad}");
    }
}
