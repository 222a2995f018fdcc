//! The numbers, as those who read them do: Prometheus' own client library parses a scrape strictly, promtool runs the
//! tests of the alerts, and a Prometheus scrapes an agent and evaluates every expression of alerts and dashboard.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Result;
use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::http::{body, get, raw};
use monitor_tests::process::die_with_parent;
use monitor_tests::skip::Lacks;
use monitor_tests::tools::{in_cache, in_path};
use monitor_tests::{sandbox, skip, worker};
use serde_json::Value;

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/dashboard.json";

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// A program of Prometheus, in `PATH` or fetched by `cargo xtask tools`.
fn tool(name: &str) -> Option<PathBuf> {
    in_path(name).or_else(|| in_cache(&format!("tools/usr/bin/{name}")))
}

/// Starts a worker under the agent that outgrows its cgroup, and waits for its death.
fn kill_one(sandbox: &Sandbox, agent: &Agent) {
    worker::outgrow(agent, sandbox, &["--owner", "o"]).unwrap();
}

#[test]
fn the_alerts_do_what_their_tests_say() {
    let Some(promtool) = tool("promtool") else {
        skip!(Lacks::Machine, "no promtool: cargo xtask tools fetches it");
        return;
    };
    for args in [&["check", "rules", ALERTS][..], &["test", "rules", "deploy/prometheus/alerts_test.yml"]] {
        let out = Command::new(&promtool).args(args).current_dir(workspace("")).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && text.contains("SUCCESS"), "{text}");
    }
}

#[test]
fn a_scrape_is_strict_open_metrics_and_every_counter_begins_at_0() {
    let sandbox = sandbox!(128);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--http-listen", "0"]).unwrap();
    let address = agent.http().unwrap();
    let fresh = get(&address, "GET /metrics").unwrap();
    let fresh = body(&fresh).to_owned();
    let counters = fresh.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    let counters: Vec<&str> = counters.collect();
    assert!(counters.len() > 30, "{counters:?}");
    for counter in counters {
        assert!(counter.starts_with("memory_monitor_"), "{counter}");
        let begins = |line: &&str| line.starts_with(&format!("{counter}_total"));
        let samples: Vec<&str> = fresh.lines().filter(begins).collect();
        assert!(!samples.is_empty(), "{counter} has no sample");
        // What the start itself counts.
        if !["memory_monitor_journal_lines", "memory_monitor_gear_changes"].contains(&counter) {
            assert!(samples.iter().all(|line| line.ends_with(" 0") || line.ends_with(" 0.0")), "{samples:?}");
        }
    }
    kill_one(&sandbox, &agent);
    agent.kills_over(1).unwrap();
    let counted =
        |name: &str, text: &str| text.contains(&format!("memory_monitor_kill_{name}_seconds_count 1\n"));
    let after = wait_for("the histograms to count the kill", PATIENCE, || {
        let text = body(&get(&address, "GET /metrics")?).to_owned();
        Ok(counted("signal", &text).then_some(text))
    });
    let after = after.unwrap();
    assert!(counted("death", &after) && counted("memory_back", &after), "{after}");

    let Some(python) = in_cache("python-client/bin/python").filter(|python| parses(python)) else {
        skip!(Lacks::Machine, "no prometheus_client: cargo xtask client-test installs it");
        return;
    };
    for text in [fresh, after] {
        let names = strictly(&python, &text);
        assert!(names.contains("memory_monitor_kill_signal_seconds"), "{names}");
    }
}

fn parses(python: &Path) -> bool {
    let import = ["-c", "import prometheus_client.openmetrics.parser"];
    Command::new(python).args(import).output().is_ok_and(|out| out.status.success())
}

/// The names of the families that Prometheus' own parser finds. It refuses what the standard forbids.
fn strictly(python: &Path, text: &str) -> String {
    const SCRIPT: &str = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        for family in parse(sys.stdin.read()):\n    print(family.name, family.type, len(family.samples))\n";
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}\n{text}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A Prometheus that scrapes one agent. Dropped, it is killed.
struct Prometheus {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    fn start(program: &Path, agent: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let alerts = workspace(ALERTS);
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n\
             - job_name: memory-monitor\n  static_configs: [{{targets: ['{agent}']}}]\n",
            alerts.display()
        );
        std::fs::write(dir.path().join("prometheus.yml"), config)?;
        // Free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        die_with_parent(&mut command);
        let child = command.spawn()?;
        Ok(Self { child, address, _dir: dir })
    }

    /// The results of an expression.
    fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        // This version closes the connection after the answer, and sends that whole.
        let answer = raw(&self.address, &format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n"))?;
        let value: Value = serde_json::from_str(body(&answer))?;
        anyhow::ensure!(value["status"] == "success", "{expression}: {value}");
        Ok(value["data"]["result"].as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every expression of the dashboard, as Grafana would ask it.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_slice(&std::fs::read(workspace(DASHBOARD)).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let annotations = dashboard["annotations"]["list"].as_array().unwrap();
    let expressions = targets.chain(annotations).map(|target| target["expr"].as_str().unwrap());
    let filled = |expression: &str| {
        let expression = expression.replace("$__rate_interval", "1m").replace("$__range", "5m");
        expression.replace("$instance", ".*").replace("$domain", ".*")
    };
    expressions.map(filled).collect()
}

/// The metrics that an expression names.
fn metrics_in(expression: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    expression.split(|c| !word(c)).filter(|name| name.starts_with("memory_monitor_")).collect()
}

#[test]
fn every_expression_of_alerts_and_dashboard_finds_its_numbers_in_a_real_scrape() {
    let Some(program) = tool("prometheus") else {
        skip!(Lacks::Machine, "no prometheus: cargo xtask tools fetches it");
        return;
    };
    let sandbox = sandbox!(128);
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--http-listen", "0"]).unwrap();
    let prometheus = Prometheus::start(&program, &agent.http().unwrap()).unwrap();
    let has = |expression: &str| {
        wait_for(expression, PATIENCE, || {
            Ok(prometheus.query(expression).ok().filter(|found| !found.is_empty()))
        })
        .unwrap()
    };
    has("memory_monitor_workers_killed_total == 0");
    kill_one(&sandbox, &agent);
    has("memory_monitor_workers_killed_total == 1");
    // The alert of a kill fires, and none that says that something is wrong.
    let firing = |name: &str| format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
    has(&firing("MonitorKilled"));
    for name in ["MonitorDown", "MonitorProtectsNothing", "MonitorNobodyToKill", "MonitorJournalFails"] {
        assert_eq!(prometheus.query(&firing(name)).unwrap(), Vec::<Value>::new(), "{name}");
    }

    let expressions = dashboard();
    assert!(expressions.len() > 30, "{expressions:?}");
    // What has no sample where nothing is wrong.
    let may_be_empty = ["state=~"];
    for expression in &expressions {
        let found = prometheus.query(expression).unwrap();
        let quiet = may_be_empty.iter().any(|part| expression.contains(part));
        assert!(quiet || !found.is_empty(), "{expression} finds nothing");
    }
    let alerts = std::fs::read_to_string(workspace(ALERTS)).unwrap();
    let of_alerts = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let all: Vec<String> = of_alerts.map(str::to_owned).chain(expressions).collect();
    for name in all.iter().flat_map(|expression| metrics_in(expression)) {
        assert!(!prometheus.query(name).unwrap().is_empty(), "there is no {name}");
    }
}
