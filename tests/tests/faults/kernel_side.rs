//! The kernel programs refused: by lockdown or a missing capability, by the verifier, when they are to be attached.
//! What is left is polling, which kills at the next reading.

use std::process::Command;

use monitor_tests::binary::monitor;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::intercept::{Answer, Call};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip};
use rustix::io::Errno;
use serde_json::Value;

use super::scene::{ABOVE, Scene};

/// `BPF_MAP_CREATE` and its like of include/uapi/linux/bpf.h.
const MAP_CREATE: u64 = 0;
const MAP_UPDATE_ELEM: u64 = 2;
const PROG_LOAD: u64 = 5;
const TYPE_TRACING: u32 = 26;
const RAW_TRACEPOINT_OPEN: u64 = 17;
const LINK_CREATE: u64 = 28;

fn refuse(commands: &'static [u64], errno: Errno) -> impl FnMut(&Call) -> Answer {
    move |call| if commands.contains(&call.args[0]) { Answer::Fail(errno) } else { Answer::Pass }
}

/// The hooks that are loaded without being asked for.
fn probes(status: &Value) -> Vec<&Value> {
    let all = status["probes"].as_array().unwrap().iter();
    all.filter(|probe| probe["name"] != "charge").collect()
}

fn states(status: &Value) -> Vec<&str> {
    probes(status).into_iter().map(|probe| probe["state"].as_str().unwrap()).collect()
}

#[test]
fn programs_that_are_refused_at_the_start_are_named_and_polling_kills() {
    let sandbox = sandbox!(256);
    for (commands, errno, state) in [
        // No capability; lockdown; the verifier; no memory.
        (&[MAP_CREATE, PROG_LOAD][..], Errno::PERM, "denied"),
        (&[PROG_LOAD][..], Errno::PERM, "denied"),
        (&[PROG_LOAD][..], Errno::INVAL, "failed"),
        (&[MAP_CREATE][..], Errno::NOMEM, "failed"),
    ] {
        let rule = move |call: &Call| {
            // The library's own small trial programs are of other types.
            let ours = call.args[0] != PROG_LOAD || call.first_word(1) == Some(TYPE_TRACING);
            if ours { refuse(commands, errno)(call) } else { Answer::Pass }
        };
        let scene = Scene::answering(&sandbox, &[], &[libc::SYS_bpf], rule);
        let status = scene.status("an answer", |_| true);
        assert!(scene.calls.changed() > 0);
        assert_eq!(states(&status), [state; 10], "{commands:?} {errno}: {status}");
        for probe in probes(&status) {
            assert!(probe["why"].is_string() && probe["fallback"].is_string(), "{probe}");
        }
        let said = scene.agent.said();
        // There are no rules, so that those for rules are not missed.
        assert_eq!(said.iter().filter(|line| line.contains("a kernel hook is not available")).count(), 5);
        scene.kills_as_ever();
        assert_eq!(scene.agent.ask::<Vec<Value>>("kills").unwrap()[0]["trigger"], "tick");
    }
}

/// The hook that counts usage is attached when a domain comes near its threshold: the worst moment to be refused.
#[test]
fn a_hook_that_is_refused_when_it_is_needed_is_named_and_polling_kills() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &[], &[libc::SYS_bpf]);
    let status = scene.status("an answer", |_| true);
    if states(&status)[..2] != ["detached"; 2] {
        return skip!(Lacks::Kernel, "no hook that could be attached: {}", status["probes"][0]);
    }
    scene.calls.answer(refuse(&[RAW_TRACEPOINT_OPEN, LINK_CREATE], Errno::PERM));
    scene.kills_as_ever();
    let status = scene.status("the hook to be named", |status| states(status)[..2] == ["denied"; 2]);
    assert!(status["domains"][0]["gear"].is_null(), "there is nothing to shift: {status}");
    assert!(scene.agent.said().iter().any(|line| line.contains("a kernel hook is not available")));
}

/// Nobody tells the agent of the ends of children: their descriptors do.
#[test]
fn without_the_exit_hook_the_ends_of_children_are_seen() {
    let sandbox = sandbox!(256);
    let mut tries = 0;
    let scene = Scene::answering(&sandbox, &[], &[libc::SYS_bpf], move |call| {
        // The first is the library's trial, the second attaches the exit hook.
        let attaches = [RAW_TRACEPOINT_OPEN, LINK_CREATE].contains(&call.args[0]);
        tries += u32::from(attaches);
        if attaches && tries == 2 { Answer::Fail(Errno::PERM) } else { Answer::Pass }
    });
    let status = scene.status("an answer", |_| true);
    if states(&status)[2..4] != ["denied", "off"] {
        return skip!(Lacks::Kernel, "no hooks to choose from: {}", status["probes"]);
    }
    let mut family = Hog::new(4).on_line().hold(std::time::Duration::ZERO);
    family.children = 2;
    let mut family = family.spawn_in(&sandbox).unwrap();
    scene.register(family.pid(), "family");
    family.start().unwrap();
    family.wait(PATIENCE).unwrap();
    scene.status("all of it to be gone", |status| status["workers"] == 0);
    scene.kills_as_ever();
}

/// For want of memory or of descriptors: what passes by itself.
#[test]
fn hooks_that_were_refused_for_a_reason_that_passes_are_had_later() {
    let sandbox = sandbox!(256);
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("recording");
    let flags = ["--record", recording.to_str().unwrap()];
    let mut tries = 0;
    let scene = Scene::answering(&sandbox, &flags, &[libc::SYS_bpf], move |call| {
        let attaches = [RAW_TRACEPOINT_OPEN, LINK_CREATE].contains(&call.args[0]);
        tries += u32::from(attaches);
        // The first is the library's trial.
        if attaches && tries > 1 { Answer::Fail(Errno::NOMEM) } else { Answer::Pass }
    });
    let status = scene.status("an answer", |_| true);
    if states(&status)[2..4] != ["failed", "off"] {
        return skip!(Lacks::Kernel, "no hooks to choose from: {}", status["probes"]);
    }
    assert!(probes(&status)[2]["why"].as_str().unwrap().contains("the agent retries"), "{status}");
    let family = || {
        let mut family = Hog::new(ABOVE).on_line();
        family.children = 2;
        family.spawn_in(&sandbox).unwrap()
    };
    // Here before the hooks are; it forks when they are there.
    let mut before = family();
    scene.register(before.pid(), "before");
    // Near a threshold the one that counts usage is wanted, and refused too.
    scene.kills_as_ever();
    scene.status("polling", |status| {
        states(status)[..2] == ["failed"; 2] && status["domains"][0]["gear"].is_null()
    });

    scene.calls.pass();
    scene.status("all to be had", |status| {
        let [counts, spare, always @ ..] = &states(status)[..] else { panic!("{status}") };
        let usable = |state: &str| ["attached", "detached"].contains(&state);
        usable(counts) && usable(spare) && always[..3] == ["attached"; 3]
    });
    assert!(scene.agent.said().iter().any(|line| line.contains("is available now")));
    let mut after = family();
    scene.register(after.pid(), "after");
    // The newest is the first choice.
    for family in [&mut after, &mut before] {
        family.start().unwrap();
        family.wait(PATIENCE).unwrap();
    }
    let kills = scene.kills(3);
    assert!(kills.iter().all(|kill| kill["confirmed"] == true), "{kills:?}");
    wait_for("nobody to be left", PATIENCE, || Ok(sandbox.members()?.is_empty().then_some(()))).unwrap();
    let status = scene.status("a gear", |status| !status["domains"][0]["gear"].is_null());
    assert!(states(&status)[..2].contains(&"attached"), "near, with its hook: {status}");
    // Gears that come and go are in the recording.
    let replayed = wait_for("three kills in the recording", PATIENCE, || {
        let out = Command::new(monitor()?).arg("replay").arg(&recording).arg("--json").output()?;
        // Its last line may be on its way.
        if !out.status.success() {
            return Ok(None);
        }
        let kills: Vec<Value> = serde_json::from_slice(&out.stdout)?;
        Ok((kills.len() == 3).then_some(kills))
    });
    assert!(replayed.unwrap().iter().all(|kill| kill["confirmed"] == true));
}

/// The same of programs that could not even be loaded; with the brake, which needs one of them.
#[test]
fn programs_that_could_not_be_loaded_for_want_of_memory_are_loaded_later() {
    let sandbox = sandbox!(256);
    let flags = ["--brake", "on"];
    let scene = Scene::answering(&sandbox, &flags, &[libc::SYS_bpf], |call| {
        let ours = call.args[0] == PROG_LOAD && call.first_word(1) == Some(TYPE_TRACING);
        if ours { Answer::Fail(Errno::NOMEM) } else { Answer::Pass }
    });
    let status = scene.status("an answer", |_| true);
    let again = |probe: &&Value| probe["why"].as_str().is_some_and(|why| why.contains("the agent retries"));
    // Those behind are for rules, and not wanted here.
    if !probes(&status)[..5].iter().all(again) {
        return skip!(Lacks::Kernel, "no programs of this kind: {}", status["probes"]);
    }
    assert_eq!(status["brake"]["on"], false, "{status}");
    scene.kills_as_ever();
    scene.calls.pass();
    scene.status("all to be had", |status| {
        states(status)[2..5] == ["attached"; 3] && status["brake"]["on"] == true
    });
    let (_holds, _) = scene.worker(1, "holds little");
    scene.kills_as_ever();
    let status = scene.status("a gear", |status| !status["domains"][0]["gear"].is_null());
    assert!(states(&status)[..2].contains(&"attached"), "near, with its hook: {status}");
    // A program that was loaded late sees the line crossed; now and then a reading comes just before it.
    let kills = || scene.agent.ask::<Vec<Value>>("kills").unwrap();
    let seen = |kills: Vec<Value>| kills.last().unwrap()["trigger"] == "crossing";
    for _ in 0..5 {
        if seen(kills()) {
            return;
        }
        scene.kills_as_ever();
    }
    assert!(seen(kills()), "{:?}", kills());
}

/// What is forbidden stays so: nobody asks again and again.
#[test]
fn a_hook_that_is_forbidden_is_not_tried_again() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &["--refresh-ms=20"], &[libc::SYS_bpf]);
    scene.calls.answer(refuse(&[RAW_TRACEPOINT_OPEN, LINK_CREATE], Errno::PERM));
    scene.kills_as_ever();
    let status = scene.status("an answer", |_| true);
    if states(&status)[..2] != ["denied"; 2] {
        return skip!(Lacks::Kernel, "no hook that could be attached: {}", status["probes"][0]);
    }
    let tried = scene.calls.changed();
    // Longer than the first wait of what is tried again.
    let until = status["now"].as_u64().unwrap() + 1_500_000_000;
    scene.status("time to pass", |status| status["now"].as_u64().unwrap() > until);
    assert_eq!(scene.calls.changed(), tried);
}

/// Nobody tells the agent of the forks of a worker that the programs do not know: it looks itself.
#[test]
fn the_children_of_a_worker_that_the_programs_cannot_follow_die_with_it() {
    let sandbox = sandbox!(256);
    let scene = Scene::new(&sandbox, &[], &[libc::SYS_bpf]);
    let status = scene.status("an answer", |_| true);
    if states(&status).contains(&"denied") {
        return skip!(Lacks::Kernel, "no programs: {}", status["probes"]);
    }
    scene.calls.answer(refuse(&[MAP_UPDATE_ELEM], Errno::NOMEM));
    let mut family = Hog::new(120).on_line();
    family.children = 3;
    let mut family = family.spawn_in(&sandbox).unwrap();
    scene.register(family.pid(), "family");
    scene.status("it to be counted", |status| status["faults"]["not_followed"].as_u64() > Some(0));
    family.start().unwrap();
    family.wait(PATIENCE).unwrap();
    assert_eq!(scene.kills(1)[0]["confirmed"], true);
    wait_for("nobody to be left", PATIENCE, || Ok(sandbox.members()?.is_empty().then_some(()))).unwrap();
}
