//! The journal's disk, really full and really read-only: a small file system of the test's own, no answers in the
//! kernel's place.

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::skip::Lacks;
use monitor_tests::small_disk::SmallDisk;
use monitor_tests::{sandbox, skip};
use serde_json::Value;

use super::scene::{ABOVE, THRESHOLD};

const KIB: u32 = 256;
const JOURNAL: &str = "journal";

fn agent_on(disk: &SmallDisk, sandbox: &Sandbox) -> Agent {
    let journal = disk.path().join(JOURNAL);
    Agent::guard(sandbox, THRESHOLD.iter().copied().chain(["--journal", journal.to_str().unwrap()])).unwrap()
}

/// A worker goes above and dies as it should. The journal, when all that there is to say of it is written or lost.
#[track_caller]
fn kill_one(agent: &Agent, sandbox: &Sandbox) -> Value {
    let before = agent.kills().unwrap().len();
    let mut hog = Hog::new(ABOVE).on_line().spawn_in(sandbox).unwrap();
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "any").unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    wait_for("the journal to hear of the kill", PATIENCE, || {
        let kills: Vec<Value> = agent.ask("kills")?;
        let over = kills.iter().all(|kill| kill["used_after"].is_number() && kill["confirmed"] == true);
        let Some(last) = kills.get(before).filter(|_| over) else { return Ok(None) };
        // Its report is the last line of it, but for the chart, which is cut out ten seconds later.
        let report = agent.command("kills")?.arg(last["id"].to_string()).output()?;
        if !report.status.success() {
            return Ok(None);
        }
        let status: Value = agent.ask("status")?;
        let journal = &status["journal"];
        Ok((journal["waiting"] == 0).then(|| journal.clone()))
    })
    .unwrap()
}

/// The rest of the file's last block has room for a few lines. How many were lost when no more fit.
#[track_caller]
fn kill_until_lost(agent: &Agent, sandbox: &Sandbox) -> u64 {
    // A block holds no more kills than this.
    for _ in 0..4 {
        let journal = kill_one(agent, sandbox);
        if journal["error"].as_str().is_some_and(|error| error.contains("No space left")) {
            return journal["lost"].as_u64().unwrap();
        }
    }
    panic!("the disk is full and the journal grows: {}", agent.said().join("\n"));
}

/// What the metrics have of the lines lost.
fn lost_in_metrics(agent: &Agent) -> u64 {
    let out = agent.command("metrics").unwrap().output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("memory_monitor_journal_lost_total "));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// Every line that is on the disk, and whole; which kills they tell of.
fn kills_on(disk: &SmallDisk) -> Vec<u64> {
    let text = std::fs::read_to_string(disk.path().join(JOURNAL)).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "an unfinished line: {text}");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["killed"]["id"].as_u64()).collect()
}

fn said(agent: &Agent, what: &str) -> usize {
    agent.said().iter().filter(|line| line.contains(what)).count()
}

#[test]
fn on_a_disk_that_is_full_lines_are_lost_and_counted_and_none_is_half() {
    let sandbox = sandbox!(256);
    let ran = SmallDisk::with(KIB, |disk| {
        let agent = agent_on(disk, &sandbox);
        assert_eq!(kill_one(&agent, &sandbox)["lost"], 0);
        disk.fill().unwrap();
        let mut lost = kill_until_lost(&agent, &sandbox);
        for _ in 0..3 {
            let journal = kill_one(&agent, &sandbox);
            assert!(journal["error"].as_str().unwrap().contains("No space left"), "{journal}");
            assert!(journal["lost"].as_u64().unwrap() > lost, "{journal}");
            lost = journal["lost"].as_u64().unwrap();
        }
        assert_eq!(lost_in_metrics(&agent), lost);
        assert!(said(&agent, "the journal is not written") > 0);
        disk.make_room().unwrap();
        let journal = kill_one(&agent, &sandbox);
        assert_eq!((&journal["lost"], &journal["error"]), (&lost.into(), &Value::Null));
        assert!(said(&agent, "the journal is written again") > 0);
        let (kills, last) = (kills_on(disk), agent.kills().unwrap().last().unwrap().id);
        assert_eq!((kills.first(), kills.last()), (Some(&1), Some(&last)), "{kills:?}");
    });
    if ran.unwrap().is_none() {
        skip!(Lacks::Machine, "no mount namespace of its own");
    }
}

#[test]
fn a_disk_that_has_room_again_is_written_again_without_a_kill() {
    let sandbox = sandbox!(256);
    let ran = SmallDisk::with(KIB, |disk| {
        let agent = agent_on(disk, &sandbox);
        kill_one(&agent, &sandbox);
        disk.fill().unwrap();
        let lost = kill_until_lost(&agent, &sandbox);
        disk.make_room().unwrap();
        wait_for("the journal to be written again", PATIENCE, || {
            let status: Value = agent.ask("status")?;
            Ok(status["journal"]["error"].is_null().then_some(()))
        })
        .unwrap();
        let text = std::fs::read_to_string(disk.path().join(JOURNAL)).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["lost"], lost, "the file itself says that lines are missing");
    });
    if ran.unwrap().is_none() {
        skip!(Lacks::Machine, "no mount namespace of its own");
    }
}

#[test]
fn a_journal_that_is_deleted_or_moved_is_begun_anew_and_nothing_goes_into_the_void() {
    let sandbox = sandbox!(256);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(JOURNAL);
    let flags = THRESHOLD.iter().copied().chain(["--journal", path.to_str().unwrap()]);
    let agent = Agent::guard(&sandbox, flags).unwrap();
    kill_one(&agent, &sandbox);
    for (reopened, elsewhere) in [(1, None), (2, Some(dir.path().join("moved")))] {
        match &elsewhere {
            None => std::fs::remove_file(&path).unwrap(),
            Some(to) => std::fs::rename(&path, to).unwrap(),
        }
        let journal = kill_one(&agent, &sandbox);
        assert_eq!((&journal["lost"], &journal["reopened"]), (&0.into(), &reopened.into()), "{journal}");
        let text = std::fs::read_to_string(&path).unwrap();
        let last = agent.kills().unwrap().last().unwrap().id;
        assert!(text.contains(&format!("\"killed\":{{\"id\":{last},")), "{text}");
    }
    let out = agent.command("status").unwrap().output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("The journal was deleted or moved 2 times"), "{said}");
}

/// The kernel takes no file that is open from its writer: the disk becomes read-only when the agent has closed its
/// journal, because it was full.
#[test]
fn a_disk_that_becomes_read_only_is_written_again_when_it_can_be() {
    let sandbox = sandbox!(256);
    let ran = SmallDisk::with(KIB, |disk| {
        let agent = agent_on(disk, &sandbox);
        disk.fill().unwrap();
        kill_until_lost(&agent, &sandbox);
        wait_for("the journal to be closed", PATIENCE, || Ok(disk.read_only(true).ok())).unwrap();
        let journal = kill_one(&agent, &sandbox);
        assert!(journal["error"].as_str().unwrap().contains("Read-only file system"), "{journal}");
        let lost = journal["lost"].as_u64().unwrap();
        disk.read_only(false).unwrap();
        disk.make_room().unwrap();
        let journal = kill_one(&agent, &sandbox);
        assert_eq!((&journal["lost"], &journal["error"]), (&lost.into(), &Value::Null));
        let last = agent.kills().unwrap().last().unwrap().id;
        assert_eq!(kills_on(disk).last(), Some(&last));
    });
    if ran.unwrap().is_none() {
        skip!(Lacks::Machine, "no mount namespace of its own");
    }
}

#[test]
fn on_a_disk_that_is_read_only_from_the_start_it_says_so_before_the_first_kill() {
    let sandbox = sandbox!(256);
    let ran = SmallDisk::with(KIB, |disk| {
        disk.read_only(true).unwrap();
        let agent = agent_on(disk, &sandbox);
        wait_for("it to be said", PATIENCE, || {
            let status: Value = agent.ask("status")?;
            let error = status["journal"]["error"].as_str().unwrap_or_default();
            Ok(error.contains("Read-only file system").then_some(()))
        })
        .unwrap();
        let journal = kill_one(&agent, &sandbox);
        let lost = journal["lost"].as_u64().unwrap();
        assert!(lost >= 3, "{journal}");
        assert_eq!(lost_in_metrics(&agent), lost);
        disk.read_only(false).unwrap();
        let journal = kill_one(&agent, &sandbox);
        assert_eq!((&journal["lost"], &journal["error"]), (&lost.into(), &Value::Null));
        assert_eq!(kills_on(disk), [2]);
    });
    if ran.unwrap().is_none() {
        skip!(Lacks::Machine, "no mount namespace of its own");
    }
}
