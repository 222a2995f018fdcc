//! Starts that wait for leave.

use std::os::unix::process::ExitStatusExt as _;

use monitor::admission::Admission;
use monitor::control::protocol::Push;
use monitor::units::Bytes;
use monitor::worker::LastTask;

use super::*;

#[tokio::test]
async fn a_start_waits_until_it_may_begin_and_says_for_what_once() {
    let mut stage = Stage::new();
    let events = stage.file("events");
    let options = ["--name", "n", "--memory", "5MiB", "--json-events", events.to_str().unwrap()];
    let child = stage.run(&[&options[..], &["--admission", "all"]].concat(), "echo ran > ran");
    let (peer, admit) = stage.agent.lets_wait(7).await;
    assert_eq!((admit.memory, admit.admission), (Some(Bytes(5 << 20)), Some(Admission::All)));
    assert_eq!((admit.name.as_deref(), admit.after_kill, admit.attempt), (Some("n"), false, 0));
    peer.pushes.send(Push::Admitted { worker: WorkerId(6) }).await.unwrap();
    peer.pushes.send(Push::Admitted { worker: WorkerId(7) }).await.unwrap();
    let (_, register) = stage.agent.register(7).await;
    assert_eq!(register.worker, Some(WorkerId(7)));
    let output = output(child).await;
    let said = stderr(&output);
    assert!(said.contains("monitor: waits for 5.0 MiB in cgroup:/box, where 1.0 MiB are free"), "{said}");
    assert_eq!(said.matches("waits for").count(), 1, "{said}");
    assert!(output.status.success() && stage.file("ran").exists());
    let events = stage.events();
    assert_eq!((&events[0]["event"], &events[0]["need"]), (&json!("waiting"), &json!(5 << 20)), "{events:?}");
    assert_eq!(events[1]["event"], "registered");
}

#[tokio::test]
async fn a_signal_ends_a_wait_and_the_command_never_ran() {
    let mut stage = Stage::new();
    let child = stage.run(&[], "echo ran > ran");
    let runner = pid(child.id().unwrap());
    let (peer, _) = stage.agent.lets_wait(7).await;
    kill_process(runner, Signal::INT).unwrap();
    assert_eq!(output(child).await.status.signal(), Some(2));
    assert!(!stage.file("ran").exists());
    soon("its connection to be closed", peer.pushes.closed()).await;
}

#[tokio::test]
async fn a_retry_says_what_was_reached_and_an_agent_after_this_one_is_told_its_place() {
    let mut stage = Stage::new();
    let mut child = stage.run(&["--oom-retry-base-ms", "0"], &until_run(2));
    let (peer, register) = stage.agent.register(1).await;
    exists(&stage.file("ready")).await;
    let Push::Verdict(mut verdict) = verdict(1, true) else { panic!() };
    verdict.reached = Some(Bytes(9));
    peer.pushes.send(Push::Verdict(verdict)).await.unwrap();
    kill_process(pid(register.pid.0), Signal::KILL).unwrap();
    let (_, first) = stage.agent.lets_wait(2).await;
    assert_eq!((first.reached, first.after_kill, first.attempt), (Some(Bytes(9)), true, 1));
    assert!(first.within_ms.unwrap() <= 60_000);
    let path = stage.agent.path().to_owned();
    let _directory = std::mem::replace(&mut stage.agent, Fake::start(Limits::default())).stop().await;
    stage.agent = Fake::start_at(&path, Limits::default());
    let (peer, again) = stage.agent.lets_wait(3).await;
    assert_eq!(again.since, first.since, "it keeps its place");
    peer.pushes.send(Push::Admitted { worker: WorkerId(3) }).await.unwrap();
    let (_, register) = stage.agent.register(3).await;
    assert_eq!(register.worker, Some(WorkerId(3)));
    assert!(soon("the end of the runner", child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn who_is_told_that_it_can_never_start_fails_with_the_reason() {
    let mut stage = Stage::new();
    let child = stage.run(&["--admission=all", "--memory=1TiB"], "echo ran > ran");
    let call = stage.agent.any_call().await;
    assert!(matches!(call.op, Op::Admit(_)), "{:?}", call.op);
    let message = "it can never start there".to_owned();
    call.answer(Err(Refusal::new(RefusalCode::Invalid, Some("op.admit.memory"), message)));
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("it can never start there"), "{}", stderr(&output));
    assert!(!stage.file("ran").exists());
}

#[tokio::test]
async fn who_switches_it_off_does_not_ask() {
    let mut stage = Stage::new();
    let child = stage.run(&["--admission=off"], "true");
    assert!(matches!(stage.agent.any_call().await.op, Op::Register(_)));
    drop(child);
}

#[tokio::test]
async fn the_last_task_of_its_owner_waits_for_room_without_end_if_it_was_started_so() {
    let mut stage = Stage::new();
    let options = ["--last-task=wait", "--admission=off", "--oom-retry-base-ms", "0"];
    let mut child = stage.run(&options, &until_run(2));
    let (peer, register) = stage.agent.register(1).await;
    assert_eq!(register.last_task, LastTask::Wait);
    exists(&stage.file("ready")).await;
    let Push::Verdict(mut told) = verdict(1, true) else { panic!() };
    (told.reached, told.waits) = (Some(Bytes(9)), true);
    let kill = told.kill;
    peer.pushes.send(Push::Verdict(told)).await.unwrap();
    kill_process(pid(register.pid.0), Signal::KILL).unwrap();
    let (peer, admit) = stage.agent.lets_wait(2).await;
    assert_eq!((admit.waits_after, admit.within_ms, admit.reached), (Some(kill), None, Some(Bytes(9))));
    assert_eq!(admit.admission, Some(Admission::Retries), "it waits although other starts do not");
    peer.pushes.send(Push::Admitted { worker: WorkerId(2) }).await.unwrap();
    stage.agent.register(2).await;
    assert!(soon("the end of the runner", child.wait()).await.unwrap().success());
}
