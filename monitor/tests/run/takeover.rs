//! `monitor run` without a daemon: one of the runners is the agent, and when it is gone another takes over.

use monitor::control::client::Client;

use super::*;

struct Place {
    files: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { files: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.files.path().join("monitor.sock")
    }

    fn monitor(&self) -> Command {
        let mut command = monitor();
        command
            .env("MONITOR_SOCKET", self.socket())
            .env("MONITOR_JOURNAL", "none")
            .env("MONITOR_LOG", "error");
        command.current_dir(self.files.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A worker that runs until its standard input ends, and is registered.
    async fn run(&self, name: &str) -> Child {
        let mut command = self.monitor();
        command.args(["run", "--if-no-agent=start", "--owner", "o", "--name", name, "--"]);
        let mut child = command.args(["sh", "-c", "echo ready; cat"]).stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(first_line(&mut child).await, "ready\n");
        child
    }

    async fn ask(&self, op: Op) -> Option<Value> {
        Client::connect(&self.socket()).await.ok()?.call(op).await.ok()
    }

    /// Waits until an agent in process `pid`, or in another than `not`, guards workers of these names.
    async fn guards(&self, names: &[&str], is_agent: impl Fn(&Value) -> bool) -> Value {
        soon(&format!("an agent that guards {names:?}"), async {
            loop {
                if let (Some(status), Some(workers)) =
                    (self.ask(Op::Status).await, self.ask(Op::Workers).await)
                {
                    let mut found: Vec<&str> = workers
                        .as_array()
                        .unwrap()
                        .iter()
                        .filter_map(|worker| worker["name"].as_str())
                        .collect();
                    found.sort_unstable();
                    if found == names && is_agent(&status) {
                        return status;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

async fn end(mut child: Child) -> Output {
    drop(child.stdin.take());
    output(child).await
}

#[tokio::test]
async fn one_of_those_left_takes_over() {
    let place = Place::new();
    let first = place.run("a").await;
    let (second, third) = (place.run("b").await, place.run("c").await);
    let agent = place.guards(&["a", "b", "c"], |_| true).await["pid"].clone();
    assert_eq!(agent, json!(first.id().unwrap()));
    let workers = |workers: Value| {
        let workers = workers.as_array().unwrap().iter();
        workers.filter(|worker| worker["name"] != "a").map(|worker| worker["id"].clone()).collect::<Vec<_>>()
    };
    let had = workers(place.ask(Op::Workers).await.unwrap());
    // As it should be.
    assert_eq!(end(first).await.status.code(), Some(0));
    let status = place.guards(&["b", "c"], |status| status["pid"] != agent).await;
    assert_eq!(status["in_process"], true);
    assert_eq!(workers(place.ask(Op::Workers).await.unwrap()), had, "they keep their numbers");
    // And by force.
    let agent = status["pid"].as_u64().unwrap();
    let (mut killed, left, name) =
        if agent == u64::from(second.id().unwrap()) { (second, third, "c") } else { (third, second, "b") };
    let orphan = u32::try_from(agent).unwrap();
    let children = std::fs::read_to_string(format!("/proc/{orphan}/task/{orphan}/children")).unwrap();
    let children: Vec<Process> =
        children.split_whitespace().map(|pid| Process::open(pid.parse().unwrap())).collect();
    killed.kill().await.unwrap();
    drop(killed.stdin.take());
    place.guards(&[name], |status| status["pid"].as_u64() == left.id().map(u64::from)).await;
    for process in &children {
        process.gone().await;
    }
    let output = end(left).await;
    assert!(stderr(&output).contains("this process is the agent now"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(0));
    assert!(!place.socket().exists(), "the last one leaves nothing");
}

#[tokio::test]
async fn an_agent_in_a_runner_gives_way_to_a_daemon() {
    let place = Place::new();
    let (first, second) = (place.run("a").await, place.run("b").await);
    place.guards(&["a", "b"], |status| status["in_process"] == true).await;
    let mut daemon = place.monitor();
    daemon.args(["agent", "--socket"]).arg(place.socket());
    let daemon = daemon.spawn().unwrap();
    let pid = json!(daemon.id().unwrap());
    place.guards(&["a", "b"], |status| status["pid"] == pid && status["in_process"] == false).await;
    for child in [first, second] {
        let output = end(child).await;
        assert_eq!(output.status.code(), Some(0));
        assert!(!stderr(&output).contains("this process is the agent now"), "{}", stderr(&output));
    }
    // Another daemon finds no place.
    let mut another = place.monitor();
    another.args(["agent", "--socket"]).arg(place.socket());
    let another = output(another.spawn().unwrap()).await;
    assert_eq!(another.status.code(), Some(1));
    assert!(stderr(&another).contains("already listens"), "{}", stderr(&another));
    kill_process(pid_of(&daemon), Signal::TERM).unwrap();
    assert_eq!(output(daemon).await.status.code(), Some(0));
}

fn pid_of(child: &Child) -> Pid {
    pid(child.id().unwrap())
}

#[tokio::test]
async fn a_daemon_does_not_give_way() {
    let place = Place::new();
    let mut daemon = place.monitor();
    daemon.args(["agent", "--socket"]).arg(place.socket());
    let daemon = daemon.spawn().unwrap();
    place.guards(&[], |_| true).await;
    let answer = Client::connect(&place.socket()).await.unwrap().call(Op::GiveWay).await;
    assert!(answer.unwrap_err().to_string().contains("runs as a service"));
    let child = place.run("a").await;
    // A daemon that is gone is waited for: it comes back by itself.
    kill_process(pid_of(&daemon), Signal::KILL).unwrap();
    output(daemon).await;
    let mut daemon = place.monitor();
    daemon.args(["agent", "--socket"]).arg(place.socket());
    let daemon = daemon.spawn().unwrap();
    let id = json!(daemon.id().unwrap());
    place.guards(&["a"], |status| status["pid"] == id).await;
    let output_of_run = end(child).await;
    assert!(!stderr(&output_of_run).contains("this process is the agent"), "{}", stderr(&output_of_run));
    kill_process(pid_of(&daemon), Signal::TERM).unwrap();
    output(daemon).await;
}
