//! The agent's metrics, from the command line and over HTTP on loopback.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use monitor_tests::agent::Agent;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::{sandbox, worker};

fn get(address: &str, request: &str) -> String {
    monitor_tests::http::get(address, request).unwrap()
}

/// The value of the sample that is written so, if there is one.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    let rest = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(rest.parse().unwrap())
}

fn address(agent: &Agent) -> String {
    agent.http().unwrap()
}

#[test]
fn a_kill_shows_in_the_metrics() {
    let sandbox = sandbox!(128);
    let flags = ["--usage-threshold", "0.5", "--http-listen", "127.0.0.1:0"];
    let agent = Agent::guard(&sandbox, flags).unwrap();
    worker::outgrow(&agent, &sandbox, &["--owner", "o"]).unwrap();
    let metrics = wait_for("the kill to be over", PATIENCE, || {
        let answer = get(&address(&agent), "GET /metrics");
        let over = sample(&answer, "memory_monitor_kills_in_flight") == Some(0.0);
        Ok((over && sample(&answer, "memory_monitor_workers_killed_total") == Some(1.0)).then_some(answer))
    });
    let metrics = metrics.unwrap();
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    let domain = format!("{{domain=\"cgroup:{}\"}}", sandbox.path());
    let of = |name: &str| sample(&metrics, &format!("{name}{domain}"));
    assert_eq!(sample(&metrics, "memory_monitor_kills_total"), Some(1.0));
    assert_eq!(of("memory_monitor_domain_total_bytes"), Some(134_217_728.0));
    assert_eq!(of("memory_monitor_domain_threshold_bytes"), Some(67_108_864.0));
    assert_eq!(of("memory_monitor_domain_above"), Some(0.0));
    assert!(of("memory_monitor_domain_used_bytes").unwrap() < 67_108_864.0);
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");

    let printed = agent.command("metrics").unwrap().output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(sample(&printed, "memory_monitor_kills_total"), Some(1.0), "{printed}");
}

#[test]
fn what_is_not_served_is_refused() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--http-listen", "127.0.0.1:0"]).unwrap();
    let address = address(&agent);
    assert!(get(&address, "GET /metric").starts_with("HTTP/1.1 404 "));
    assert!(get(&address, "POST /metrics").starts_with("HTTP/1.1 405 "));
}
