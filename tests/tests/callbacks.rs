//! `on_kill` and `on_approach`: commands that are run after kills and near a threshold, and what they cannot do: hold
//! the agent up, stay behind, or be made to do something else by a name.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::sandbox;
use serde_json::Value;
use tempfile::TempDir;

const THRESHOLD: &str = "--usage-threshold=0.5";

/// A script that only root can change.
fn script(dir: &TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("script");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn guard(sandbox: &Sandbox, setting: &str, script: &Path) -> Agent {
    Agent::guard(sandbox, [THRESHOLD, setting, script.to_str().unwrap()]).unwrap()
}

/// A worker with this name leaks until it is killed.
fn kill_one(agent: &Agent, sandbox: &Sandbox, name: &str) -> u32 {
    let before = agent.kills().unwrap().len();
    let mut hog = Hog::new(1 << 20).rate(1000).on_line().spawn_in(sandbox).unwrap();
    Caller::connect(agent.socket()).unwrap().register_of(hog.pid(), name, "-rf").unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    agent.kills_over(before + 1).unwrap();
    hog.pid()
}

fn counts(agent: &Agent) -> Value {
    agent.ask::<Value>("status").unwrap()["callbacks"].clone()
}

fn wait_for_count(agent: &Agent, key: &str, least: u64) -> Value {
    wait_for(&format!("{key} to be {least}"), PATIENCE, || {
        let counts = counts(agent);
        Ok((counts[key].as_u64() >= Some(least)).then_some(counts))
    })
    .unwrap()
}

#[test]
fn a_command_gets_the_facts_of_a_kill_and_a_name_is_only_a_name() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let (out, bad) = (dir.path().join("out"), dir.path().join("bad"));
    let path = script(&dir, &format!("cat > {0}.new; env > {0}.env; mv {0}.new {0}", out.display()));
    let agent = guard(&sandbox, "--on-kill", &path);
    let name = format!("$(touch {0}) `touch {0}`", bad.display());
    let pid = kill_one(&agent, &sandbox, &name);
    let text = wait_for("the command", PATIENCE, || Ok(std::fs::read_to_string(&out).ok())).unwrap();
    let facts: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&facts["event"], &facts["by"], &facts["id"]), (&"kill".into(), &"monitor".into(), &1.into()));
    let victim = &facts["victims"][0];
    assert_eq!(
        (&victim["pid"], &victim["name"], &victim["owner"]),
        (&pid.into(), &name.as_str().into(), &"-rf".into())
    );
    assert!(facts["at"].as_str().unwrap().ends_with('Z'), "{facts}");
    let environment = std::fs::read_to_string(out.with_extension("env")).unwrap();
    for line in
        [format!("MONITOR_PID={pid}"), "MONITOR_EVENT=kill".to_owned(), "MONITOR_OWNER=-rf".to_owned()]
    {
        assert!(environment.lines().any(|known| known == line), "{line} in {environment}");
    }
    assert!(!environment.contains("HOME="), "{environment}");
    assert!(!bad.exists(), "nothing of a name was carried out");
    assert_eq!(wait_for_count(&agent, "ran", 1)["failed"], 0);
}

#[test]
fn a_command_that_fails_is_counted_and_said() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let agent = guard(&sandbox, "--on-kill", &script(&dir, "exit 3"));
    kill_one(&agent, &sandbox, "any");
    let counts = wait_for_count(&agent, "failed", 1);
    assert_eq!(counts["error"], "exit code 3");
    let said = agent.said();
    assert!(said.iter().any(|line| line.contains("on_kill failed: exit code 3")), "{said:?}");
    // Others may change it: it is not run.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    kill_one(&agent, &sandbox, "any");
    let counts = wait_for_count(&agent, "failed", 2);
    assert!(counts["error"].as_str().unwrap().contains("may write"), "{counts}");
}

#[test]
fn a_command_that_hangs_holds_no_kill_up_and_is_ended() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    // It reads nothing either, and writes more than a pipe holds.
    let agent = guard(&sandbox, "--on-kill", &script(&dir, "yes & trap '' TERM; sleep 1000 & wait"));
    for _ in 0..5 {
        kill_one(&agent, &sandbox, "any");
    }
    let counts = wait_for_count(&agent, "timed_out", 1);
    assert_eq!((&counts["failed"], &counts["lost"]), (&counts["timed_out"], &0.into()), "the others wait");
}

#[test]
fn nothing_of_a_command_stays_behind() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    // Double forks, sessions of their own, and one that goes on forking.
    let many = "for i in 1 2 3 4 5 6 7 8 9 10; do (setsid sleep 98761 &) ; (sleep 98761 &) ; done";
    let text = format!("{many}\nf() {{ sleep 98761 & sleep 0.01; f & }}; f\nexit 0");
    let agent = guard(&sandbox, "--on-kill", &script(&dir, &text));
    kill_one(&agent, &sandbox, "any");
    wait_for_count(&agent, "ran", 1);
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"98761")
    });
    assert_eq!(left.count(), 0);
    assert!(agent.said().iter().any(|line| line.contains("left processes behind, which were killed")));
}

#[test]
fn coming_near_a_threshold_is_told_once() {
    let sandbox = sandbox!(200);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let agent = guard(&sandbox, "--on-approach", &script(&dir, &format!("cat >> {}", out.display())));
    let hog = Hog::new(95).spawn_in(&sandbox).unwrap();
    hog.wait_holding(PATIENCE).unwrap();
    Caller::connect(agent.socket()).unwrap().register(hog.pid(), "any").unwrap();
    wait_for_count(&agent, "ran", 1);
    let text = std::fs::read_to_string(&out).unwrap();
    let facts: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&facts["event"], &facts["domain"]), (&"approach".into(), &sandbox.domain().into()));
    assert!(
        facts["used"].as_u64() > facts["threshold"].as_u64().map(|threshold| threshold * 9 / 10),
        "{facts}"
    );
    assert!(agent.kills().unwrap().is_empty());
}

/// Each writes its arguments, a line each, and its standard input beside itself.
fn fake(dir: &Path, name: &str, says: &str) {
    let path = dir.join(name);
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >> {0}.args\n[ \"$1\" = get ] || cat > {0}.in\nprintf '%s' '{says}'\n",
        path.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_examples_tell_whom_they_should_and_a_name_is_only_a_name() {
    const POD: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let fakes = dir.path().join("fakes");
    std::fs::create_dir(&fakes).unwrap();
    fake(&fakes, "mail", "");
    fake(&fakes, "curl", "");
    fake(&fakes, "kubectl", "batch train-7");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/hooks");
    // The way to them is the only thing that is not as in an installation.
    let script = script(
        &dir,
        &format!(
            "PATH={fakes}:$PATH; export PATH; cat > {dir}/facts\nfor hook in mail-owner 'webhook /w.curl' \
             'annotate-pod /kubeconfig'; do {examples}/$hook < {dir}/facts || echo $hook >> {dir}/failed; done\n\
             mv {fakes}/curl.args {dir}/webhook.args; mv {fakes}/curl.in {dir}/webhook.in\n\
             {examples}/slack /s.curl < {dir}/facts || echo slack >> {dir}/failed",
            fakes = fakes.display(),
            dir = dir.path().display(),
            examples = examples.display()
        ),
    );
    let agent = guard(&sandbox, "--on-kill", &script);
    let bad = dir.path().join("bad");
    let name = format!("<!channel> \"q\" \\ $(touch {0}) `touch {0}` -rf", bad.display());
    let mut hog = Hog::new(1 << 20).rate(200).on_line().spawn_in(&sandbox).unwrap();
    let owner = format!("pod-{}", POD.replace('-', "_"));
    Caller::connect(agent.socket()).unwrap().register_of(hog.pid(), &name, &owner).unwrap();
    hog.start().unwrap();
    hog.wait(PATIENCE).unwrap();
    let counts = wait_for_count(&agent, "ran", 1);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    assert_eq!((read("failed").as_str(), &counts["failed"]), ("", &0.into()), "{counts}");
    assert!(!bad.exists(), "nothing of a name was carried out");

    let lines = |name: &str| read(name).lines().map(str::to_owned).collect::<Vec<_>>();
    // The worker's user, who is root here.
    assert_eq!(lines("fakes/mail.args").last().unwrap(), "root");
    let mail = read("fakes/mail.in");
    assert!(mail.contains(&name) && mail.contains("monitor why --kill 1"), "{mail}");
    // What the agent gives is posted as it is.
    let facts: Value = serde_json::from_str(&read("webhook.in")).unwrap();
    assert_eq!((&facts["event"], &facts["victims"][0]["name"]), (&"kill".into(), &name.as_str().into()));
    assert!(lines("webhook.args").contains(&"/w.curl".to_owned()), "{:?}", lines("webhook.args"));
    let slack: Value = serde_json::from_str(&read("fakes/curl.in")).unwrap();
    let text = slack["text"].as_str().unwrap();
    assert!(text.contains("&lt;!channel&gt; \"q\" \\ $(touch") && text.contains("(kill 1)"), "{text}");
    let kubectl = read("fakes/kubectl.args");
    assert!(kubectl.contains(&format!("@.metadata.uid==\"{POD}\"")), "{kubectl}");
    for line in ["annotate", "batch", "train-7", "memory-monitor/kill=1"] {
        assert!(kubectl.lines().any(|known| known == line), "{line} in {kubectl}");
    }
}

/// The unit refuses what each of them does, unless it is told otherwise.
#[test]
fn each_example_says_what_the_unit_must_allow_it() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/hooks");
    let all: Vec<_> = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(all.len() >= 4, "{all:?}");
    for path in all {
        let text = std::fs::read_to_string(&path).unwrap();
        let head = text.split("set -eu").next().unwrap();
        assert!(head.contains("docs/http.md#as-a-service"), "{}", path.display());
    }
}

/// Of many kills in a row each is called for, or counted as lost; a kill waits for none.
#[test]
fn a_hundred_kills_in_a_row_are_all_called_for_or_counted() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let agent =
        guard(&sandbox, "--on-kill", &script(&dir, &format!("echo $MONITOR_KILL >> {}", out.display())));
    for _ in 0..100 {
        kill_one(&agent, &sandbox, "any");
    }
    let counts = wait_for("all calls", PATIENCE, || {
        let counts = counts(&agent);
        let of = |key: &str| counts[key].as_u64().unwrap();
        Ok((of("ran") + of("lost") == 100).then_some(counts))
    })
    .unwrap();
    assert_eq!(counts["failed"], 0, "{counts}");
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().count() as u64, counts["ran"].as_u64().unwrap());
    assert!(counts["ran"].as_u64() > Some(50), "{counts}");
}

/// The command takes all the memory that the agent has too: the kernel takes the command, and the agent kills as ever.
#[test]
fn a_command_that_exhausts_the_agents_memory_holds_no_kill_up() {
    let sandbox = sandbox!(128);
    let of_agent = sandbox!(96);
    let dir = tempfile::tempdir().unwrap();
    let script = script(&dir, "while :; do head -c 500000000 /dev/zero | tail; done");
    let flags = [THRESHOLD, "--on-kill", script.to_str().unwrap()];
    let agent = Agent::guard_changed(&sandbox, flags, |command| of_agent.enter(command)).unwrap();
    for _ in 0..5 {
        kill_one(&agent, &sandbox, "any");
    }
    let kills = agent.kills_over(5).unwrap();
    assert!(kills.iter().all(|kill| kill["confirmed"] == true), "{kills:?}");
    let counts = wait_for_count(&agent, "timed_out", 1);
    assert_eq!(counts["lost"], 0, "{counts}");
    assert!(of_agent.oom_kills().unwrap() > 0, "memory was exhausted");
}
