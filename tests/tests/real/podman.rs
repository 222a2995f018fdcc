//! podman with runc and the preset `containers`.

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::process::{Process, lives};
use monitor_tests::sandbox;
use serde_json::Value;

use super::engine::{LEAK, Podman};
use super::{one_kill, output};

#[test]
#[ignore = "it needs podman: cargo xtask real-test podman"]
fn a_container_is_killed_whole_and_podman_and_the_one_beside_it_go_on() {
    let sandbox = sandbox!(400);
    let agent =
        Agent::guard(&sandbox, ["--usage-threshold=0.75", "--preset=containers", "--rules-mode=enforce"])
            .unwrap();
    let podman = Podman::new(&sandbox);
    let quiet = podman.run("quiet", "libpod_parent", "sleep 1000; true");
    let leak = podman.run("leak", "libpod_parent", LEAK);
    let conmon: u32 = podman.inspect("quiet", "{{.State.ConmonPid}}").parse().unwrap();
    let leaks: u32 = podman.inspect("leak", "{{.State.Pid}}").parse().unwrap();
    let its_conmon: u32 = podman.inspect("leak", "{{.State.ConmonPid}}").parse().unwrap();
    let its_conmon = Process::open(its_conmon).unwrap().unwrap();
    wait_for("two workers by rule", PATIENCE, || {
        let workers: Vec<Value> = agent.ask("workers")?;
        let of =
            |id: &String| workers.iter().any(|row| row["name"] == **id && row["rule"] == "containers:podman");
        Ok((workers.len() == 2 && of(&quiet) && of(&leak)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:#?}", agent.ask::<Value>("workers")));

    podman.go();
    let kill = one_kill(&agent);
    assert_eq!(
        (&kill["victims"][0]["name"], &kill["victims"][0]["pid"]),
        (&leak.as_str().into(), &leaks.into())
    );
    assert!(kill["domain"].as_str().unwrap().ends_with(&format!("libpod-{leak}")), "{kill}");
    // All of it, the process beside the one that leaked too.
    assert_eq!(output(podman.command("wait").arg("leak")), "137");
    let state = podman.inspect("leak", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}");
    assert_eq!(state, "exited 137 false", "podman knows of the kernel's kills only");
    let dir = sandbox.dir().join("libpod_parent").join(format!("libpod-{leak}"));
    wait_for("its cgroup to be gone", PATIENCE, || Ok((!dir.exists()).then_some(()))).unwrap();
    // Its conmon ended because its container did, which it has written down above.
    wait_for("its conmon to end", PATIENCE, || Ok(its_conmon.is_dead()?.then_some(()))).unwrap();

    assert_eq!(podman.inspect("quiet", "{{.State.Status}}"), "running");
    assert!(lives(conmon).unwrap(), "the conmon of the other one");
    let why: Value =
        serde_json::from_str(&output(agent.command("why").unwrap().arg(leaks.to_string()).arg("--json")))
            .unwrap();
    assert_eq!(why["killed_by"], "monitor", "{why}");
    assert_eq!(output(podman.command("stop").args(["--time", "0", "quiet"])), "quiet");
    assert_eq!(agent.kills().unwrap().len(), 1);
}
