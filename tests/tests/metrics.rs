//! The agent's metrics, from the command line and over HTTP on loopback.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::hog::Hog;
use monitor_tests::process::die_with_parent;
use monitor_tests::sandbox;

/// The answer to one request, headers included.
fn get(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of the sample that is written so, if there is one.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    let rest = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(rest.parse().unwrap())
}

fn address(agent: &Agent) -> String {
    let said = agent.said();
    let line = said.iter().find_map(|line| line.split_once("metrics at http://")).unwrap();
    line.1.strip_suffix("/metrics").unwrap().to_owned()
}

#[test]
fn a_kill_shows_in_the_metrics() {
    let sandbox = sandbox!(128);
    let flags = ["--usage-threshold", "0.5", "--metrics-listen", "127.0.0.1:0"];
    let agent = Agent::guard(&sandbox, flags).unwrap();
    let hog = Hog::new(1 << 20).rate(200).command().unwrap();
    let mut command = agent.command("run").unwrap();
    command.args(["--owner", "o", "--"]).arg(hog.get_program()).args(hog.get_args());
    sandbox.enter(&mut command).unwrap();
    die_with_parent(&mut command);
    assert_eq!(command.output().unwrap().status.code(), Some(137));
    let metrics = wait_for("the kill to be over", PATIENCE, || {
        let answer = get(&address(&agent), "GET /metrics");
        let over = sample(&answer, "monitor_kills_in_flight") == Some(0.0);
        Ok((over && sample(&answer, "monitor_workers_killed_total") == Some(1.0)).then_some(answer))
    });
    let metrics = metrics.unwrap();
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    let domain = format!("{{domain=\"cgroup:{}\"}}", sandbox.path());
    let of = |name: &str| sample(&metrics, &format!("{name}{domain}"));
    assert_eq!(sample(&metrics, "monitor_kills_total"), Some(1.0));
    assert_eq!(of("monitor_domain_total_bytes"), Some(134_217_728.0));
    assert_eq!(of("monitor_domain_threshold_bytes"), Some(67_108_864.0));
    assert_eq!(of("monitor_domain_above"), Some(0.0));
    assert!(of("monitor_domain_used_bytes").unwrap() < 67_108_864.0);
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");

    let printed = agent.command("metrics").unwrap().output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(sample(&printed, "monitor_kills_total"), Some(1.0), "{printed}");
}

#[test]
fn only_the_metrics_are_served() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--metrics-listen", "127.0.0.1:0"]).unwrap();
    let address = address(&agent);
    assert!(get(&address, "GET /").starts_with("HTTP/1.1 404 "));
    assert!(get(&address, "POST /metrics").starts_with("HTTP/1.1 405 "));
    let taken = Agent::guard(&sandbox, ["--metrics-listen", &address]).unwrap_err();
    let taken = format!("{taken:#}");
    assert!(taken.contains(&format!("cannot serve metrics at {address} (metrics_listen)")), "{taken}");
}
