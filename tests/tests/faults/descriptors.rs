//! No descriptors, no memory for them, a poller that refuses.

use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::intercept::{Answer, Call};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use rustix::io::Errno;

use super::scene::{ABOVE, Scene, lives};

fn fail(number: i64, errno: Errno) -> impl FnMut(&Call) -> Answer {
    move |call| if call.number == number { Answer::Fail(errno) } else { Answer::Pass }
}

#[test]
fn a_registration_without_a_descriptor_is_refused_with_the_reason() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &[], &[libc::SYS_pidfd_open]);
    let hog = Hog::new(1).on_line().spawn_in(&sandbox).unwrap();
    for errno in [Errno::MFILE, Errno::NOMEM] {
        scene.calls.answer(fail(libc::SYS_pidfd_open, errno));
        let error = Caller::connect(scene.agent.socket()).unwrap().register(hog.pid(), "any").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("failed") && error.contains("cannot open process"), "{error}");
    }
    scene.calls.pass();
    scene.kills_as_ever();
}

/// The children hold the memory. Nobody can open them while they are made; with or without a fork hook.
#[test]
fn children_that_could_not_be_opened_are_part_of_the_kill_once_they_can() {
    for probe in ["auto", "poll"] {
        let sandbox = sandbox!(256);
        let scene = Scene::new(&sandbox, &["--probe", probe, "--refresh-ms=50"], &[libc::SYS_pidfd_open]);
        let mut family = Hog::new(60).on_line();
        family.children = 3;
        let mut family = family.spawn_in(&sandbox).unwrap();
        scene.register(family.pid(), "family");
        scene.calls.answer(fail(libc::SYS_pidfd_open, Errno::MFILE));
        family.start().unwrap();
        family.wait_holding(PATIENCE).unwrap();
        scene.status("it to be counted", |status| status["faults"]["not_opened"].as_u64() > Some(2));
        scene.calls.pass();
        // What is above now is the children's and this one's.
        let filler = Hog::new(40).spawn_in(&sandbox).unwrap();
        filler.wait_holding(PATIENCE).unwrap();
        family.wait(PATIENCE).unwrap();
        assert_eq!(scene.kills(1)[0]["confirmed"], true, "{probe}");
        wait_for("only the unregistered to be left", PATIENCE, || {
            Ok((sandbox.members()? == [filler.pid()]).then_some(()))
        })
        .unwrap();
        scene.status("the worker to be gone", |status| status["workers"] == 0);
    }
}

#[test]
fn a_worker_whose_children_ended_unopened_is_gone_with_the_last() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--refresh-ms=20"], &[libc::SYS_pidfd_open]);
    let mut family = Hog::new(8).on_line().hold(std::time::Duration::ZERO);
    family.children = 8;
    let mut family = family.spawn_in(&sandbox).unwrap();
    scene.register(family.pid(), "family");
    // Every other try fails, so that some are found gone when they are tried again.
    let mut turn = false;
    scene.calls.answer(move |_| {
        turn = !turn;
        if turn { Answer::Fail(Errno::MFILE) } else { Answer::Pass }
    });
    family.start().unwrap();
    family.wait(PATIENCE).unwrap();
    scene.status("all of it to be gone", |status| status["workers"] == 0);
    scene.calls.pass();
    scene.kills_as_ever();
}

#[test]
fn a_kill_is_no_success_while_a_child_cannot_be_opened() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--kill-timeout-ms=1000"], &[libc::SYS_pidfd_open]);
    let status = scene.status("an answer", |_| true);
    let mut probes = status["probes"].as_array().unwrap().iter();
    if !probes.any(|probe| probe["name"] == "exit" && probe["state"] == "attached") {
        return skip!(Lacks::Kernel, "no fork hook: forks are not known at once");
    }
    let mut family = Hog::new(ABOVE).on_line();
    family.children = 2;
    let mut family = family.spawn_in(&sandbox).unwrap();
    scene.register(family.pid(), "family");
    scene.calls.answer(fail(libc::SYS_pidfd_open, Errno::MFILE));
    family.start().unwrap();
    family.wait(PATIENCE).unwrap();
    let kill = &scene.kills(1)[0];
    assert_eq!(kill["confirmed"], false, "{kill}");
    assert!(kill["refused"].as_str().unwrap().contains("could not be opened"), "{kill}");
    // There was room for it: that is not why.
    let said = scene.agent.said().join("\n");
    assert!(
        said.contains("cannot open a child of this worker") && !said.contains("more processes than"),
        "{said}"
    );
    scene.status("it to be counted", |status| status["counters"]["refused"].as_u64() > Some(0));
}

/// The poller takes everything but pidfds. Ends are found at the next tick, kills are confirmed.
#[test]
fn ends_that_cannot_be_waited_for_are_found() {
    for probe in ["auto", "poll"] {
        let sandbox = sandbox!(256);
        let scene = Scene::new(&sandbox, &["--probe", probe], &[libc::SYS_epoll_ctl]);
        scene.calls.answer(|call| {
            let pidfd = call.file(2).to_string_lossy().contains("pidfd");
            if pidfd { Answer::Fail(Errno::NOSPC) } else { Answer::Pass }
        });
        let (ends, _) = scene.worker(1, "ends by itself");
        scene.status("it to be counted", |status| status["faults"]["not_watched"].as_u64() > Some(0));
        drop(ends);
        scene.status("its end to be found", |status| status["workers"] == 0);
        scene.kills_as_ever();
    }
}

#[test]
fn while_no_connection_can_be_accepted_kills_go_on() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &[], &[libc::SYS_accept4]);
    let (mut worker, _) = scene.worker(ABOVE, "any");
    scene.calls.answer(fail(libc::SYS_accept4, Errno::MFILE));
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    assert!(!lives(&worker));
    scene.calls.pass();
    assert_eq!(scene.kills(1)[0]["confirmed"], true);
}
