//! Signals that are refused, memory that cannot be taken early.

use monitor_tests::clock::PATIENCE;
use monitor_tests::intercept::{Answer, Call};
use monitor_tests::sandbox;
use rustix::io::Errno;

use super::scene::{Scene, lives};

fn refuse_sigkill(errno: Errno) -> impl FnMut(&Call) -> Answer {
    move |call| if call.args[1] == 9 { Answer::Fail(errno) } else { Answer::Pass }
}

#[test]
fn when_every_signal_is_refused_each_candidate_is_and_then_it_says_that_nobody_is_left() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--kill-timeout-ms=600000"], &[libc::SYS_pidfd_send_signal]);
    scene.calls.answer(refuse_sigkill(Errno::PERM));
    let (small, _) = scene.worker(1, "small");
    let (big, _) = scene.above("big");
    let status = scene.status("nobody to be left", |status| {
        status["counters"]["refused"] == 2 && status["counters"]["no_candidates"].as_u64() > Some(1)
    });
    assert_eq!(status["counters"]["killed"], 0, "{status}");
    assert_eq!(scene.calls.changed(), 2, "each is tried once");
    assert!(lives(&small) && lives(&big));
    for kill in scene.kills(2) {
        assert_eq!(kill["confirmed"], false, "{kill}");
        assert!(kill["refused"].as_str().unwrap().contains("not permitted"), "{kill}");
    }
    // Who is gone makes room for the next.
    drop((small, big));
    scene.calls.pass();
    scene.kills_as_ever();
}

#[test]
fn who_cannot_be_signalled_for_the_moment_is_tried_again_and_dies() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--kill-timeout-ms=600000"], &[libc::SYS_pidfd_send_signal]);
    scene.calls.answer(refuse_sigkill(Errno::NOMEM));
    let (mut big, id) = scene.above("big");
    scene.status("it to be refused twice", |status| {
        status["counters"]["refused"].as_u64() > Some(1)
            && status["counters"]["tried_again"].as_u64() > Some(0)
    });
    scene.calls.pass();
    big.wait(PATIENCE).unwrap();
    let kills = scene.kills(3);
    let last = kills.last().unwrap();
    assert_eq!((&last["confirmed"], &last["victims"][0]["worker"]), (&true.into(), &id.into()), "{last}");
}

#[test]
fn a_living_victim_that_is_said_to_be_gone_ends_as_stuck() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--kill-timeout-ms=300"], &[libc::SYS_pidfd_send_signal]);
    scene.calls.answer(refuse_sigkill(Errno::SRCH));
    let (big, id) = scene.above("big");
    scene.status("it to be given up on", |status| status["counters"]["stuck"] == 1);
    assert!(lives(&big));
    let kill = &scene.kills(1)[0];
    assert_eq!((&kill["confirmed"], &kill["victims"][0]["worker"]), (&false.into(), &id.into()), "{kill}");
    assert_eq!(kill["stuck"][0]["sigkill_pending"], false, "{kill}");
}

#[test]
fn an_agent_that_cannot_signal_its_own_child_says_that_it_protects_nobody() {
    let sandbox = sandbox!(256);
    let calls = [libc::SYS_pidfd_send_signal];
    let scene = Scene::answering(&sandbox, &[], &calls, refuse_sigkill(Errno::PERM));
    let status = scene.status("an answer", |_| true);
    assert_eq!(status["protects"], false, "{status}");
    let step =
        status["survival"].as_array().unwrap().iter().find(|step| step["name"] == "self_test").unwrap();
    assert_eq!(step["state"], "failed", "{status}");
}

/// As some containers' filters do.
#[test]
fn without_process_mrelease_it_kills_as_ever_and_says_what_is_lost() {
    let sandbox = sandbox!(256);
    for errno in [Errno::PERM, Errno::NOSYS] {
        let calls = [libc::SYS_process_mrelease];
        let scene = Scene::answering(&sandbox, &[], &calls, move |_| Answer::Fail(errno));
        let status = scene.status("an answer", |_| true);
        assert_eq!(status["protects"], true, "{status}");
        let (mut worker, _) = scene.worker(120, "any");
        worker.start().unwrap();
        worker.wait(PATIENCE).unwrap();
        let kill = &scene.kills(1)[0];
        assert_eq!((&kill["confirmed"], &kill["times"]["dead"].is_number()), (&true.into(), &true), "{kill}");
        scene.status("it to be counted", |status| status["faults"]["not_released"] == 1);
    }
}
