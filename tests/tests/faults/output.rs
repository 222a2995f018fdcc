//! Where the agent's words go: the journal's disk, the log's reader, its callers.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use monitor_tests::caller::start_time;
use monitor_tests::clock::PATIENCE;
use monitor_tests::hog::Hog;
use monitor_tests::intercept::Answer;
use monitor_tests::sandbox;
use rustix::io::Errno;

use super::scene::{ABOVE, Scene};

/// Full, read-only, broken: at the write and at the flush.
#[test]
fn a_journal_that_fails_loses_lines_says_so_and_goes_on_when_it_can() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &[], &[libc::SYS_write, libc::SYS_fdatasync]);
    let mut lost = 0;
    for (number, errno, says) in [
        (libc::SYS_write, Errno::NOSPC, "No space left"),
        (libc::SYS_write, Errno::ROFS, "Read-only file system"),
        (libc::SYS_fdatasync, Errno::IO, "Input/output error"),
        (libc::SYS_fdatasync, Errno::DQUOT, "quota"),
    ] {
        scene.calls.answer(move |call| {
            let fails = call.number == number && call.is_on("journal");
            if fails { Answer::Fail(errno) } else { Answer::Pass }
        });
        scene.kills_as_ever();
        let status = scene
            .status("its lines to be lost", |status| status["journal"]["lost"].as_u64().unwrap() >= lost + 3);
        assert!(status["journal"]["error"].as_str().unwrap().contains(says), "{status}");
        lost = status["journal"]["lost"].as_u64().unwrap();
        scene.calls.pass();
        let written = status["journal"]["written"].as_u64().unwrap();
        scene.kills_as_ever();
        scene.status("the journal to go on", |status| {
            status["journal"]["written"].as_u64().unwrap() >= written + 3
                && status["journal"]["error"].is_null()
        });
    }
    // What is in it is whole.
    let out = scene.agent.command("kills").unwrap().args(["--json"]).output().unwrap();
    assert!(out.status.success());
}

/// A pipe that is full and never read, as of a log collector that hangs; and one that nobody has open any more.
#[test]
fn whoever_does_not_read_the_log_holds_nothing_up() {
    for answer in [Answer::Hang, Answer::Fail(Errno::PIPE)] {
        let sandbox = sandbox!(256);
        let scene = Scene::new(&sandbox, &[], &[libc::SYS_write]);
        let given = answer.clone();
        scene.calls.answer(move |call| if call.args[0] == 2 { given.clone() } else { Answer::Pass });
        for _ in 0..3 {
            scene.kills_as_ever();
        }
        assert!(scene.calls.changed() > 0);
        if answer != Answer::Hang {
            scene.status("it to be counted", |status| status["faults"]["not_logged"].as_u64() > Some(3));
        }
    }
}

#[test]
fn a_verdict_that_nobody_takes_is_counted_and_the_kill_goes_on() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &[], &[libc::SYS_accept4]);
    // It hangs up when it has registered.
    let (mut worker, _) = scene.worker(ABOVE, "orphan");
    worker.start().unwrap();
    worker.wait(PATIENCE).unwrap();
    assert_eq!(scene.kills(1)[0]["confirmed"], true);
    scene.status("it to be counted", |status| status["faults"]["not_told"] == 1);
}

#[test]
fn a_caller_that_vanishes_in_the_middle_of_a_line_leaves_nothing_behind() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &[], &[libc::SYS_accept4]);
    let hog = Hog::new(1).on_line().spawn_in(&sandbox).unwrap();
    let start = start_time(hog.pid()).unwrap();
    let line = format!(
        r#"{{"v":1,"op":{{"register":{{"pid":{},"start_time":{start},"kind":"task"}}}}}}"#,
        hog.pid()
    );
    for cut in [1, line.len() / 2, line.len()] {
        let mut stream = UnixStream::connect(scene.agent.socket()).unwrap();
        stream.write_all(&line.as_bytes()[..cut]).unwrap();
    }
    scene.kills_as_ever();
    assert_eq!(scene.agent.workers().unwrap(), []);
}
