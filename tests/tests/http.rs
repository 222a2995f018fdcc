//! What is served over HTTP, to whom, and that nobody keeps the others out.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::clock::{PATIENCE, wait_for};
use monitor_tests::http::{body, get, get_as};
use monitor_tests::skip::Lacks;
use monitor_tests::{sandbox, skip, worker};
use serde_json::{Value, json};

/// An agent that has killed one worker, with a name that is no secret only where details are shown.
fn after_a_kill(sandbox: &Sandbox, flags: &[&str]) -> Agent {
    let flags = [&["--usage-threshold", "0.5", "--http-listen", "0"], flags].concat();
    let agent = Agent::guard(sandbox, flags).unwrap();
    worker::outgrow(&agent, sandbox, &["--name", "secret-name", "--owner", "secret-owner"]).unwrap();
    agent.kills_over(1).unwrap();
    agent
}

fn json_at(address: &str, path: &str) -> Value {
    let answer = get(address, &format!("GET {path}")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    serde_json::from_str(body(&answer)).unwrap()
}

#[test]
fn a_stranger_sees_counts_and_with_details_everything() {
    let sandbox = sandbox!(128);
    let agent = after_a_kill(&sandbox, &[]);
    let address = agent.http().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "a port alone is loopback: {address}");
    let status = json_at(&address, "/api/status");
    assert_eq!((&status["counters"]["killed"], &status["workers"]), (&json!(1), &json!(0)));
    let kills = json_at(&address, "/api/kills");
    assert_eq!((&kills[0]["victims"], &kills[0]["others"]), (&json!([]), &json!(1)), "{kills}");
    assert_eq!(json_at(&address, "/api/workers"), json!([]));
    for path in [
        "/api/status",
        "/api/workers",
        "/api/kills",
        "/api/explain",
        "/api/kills/1",
        "/kills/1",
        "/metrics",
        "/",
    ] {
        let answer = get(&address, &format!("GET {path}")).unwrap();
        assert!(!answer.contains("secret"), "{path}: {answer}");
    }
    let refused = get(&address, "GET /kills/1").unwrap();
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("http_details"), "{refused}");
    drop(agent);

    let agent = after_a_kill(&sandbox, &["--http-details"]);
    let address = agent.http().unwrap();
    let asked: Value = agent.ask("kills").unwrap();
    assert_eq!(json_at(&address, "/api/kills"), asked, "as the command line has it");
    assert_eq!(asked[0]["victims"][0]["name"], "secret-name");
    let report = json_at(&address, "/api/kills/1");
    assert_eq!(report["victims"][0]["owner"], "secret-owner");
    assert!(get(&address, "GET /api/kills/2").unwrap().starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_foreign_host_is_refused_and_no_method_changes_anything() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--http-listen", "0", "--http-host", "node1.example.org"]).unwrap();
    let address = agent.http().unwrap();
    let port = address.rsplit(':').next().unwrap();
    for host in ["evil.example", "localhost.evil.example", &format!("127.0.0.1.evil.example:{port}")] {
        for path in ["/", "/metrics", "/healthz", "/api/status"] {
            let answer = get_as(&address, &format!("GET {path}"), host).unwrap();
            assert!(answer.starts_with("HTTP/1.1 403 "), "{host}{path}: {answer}");
            assert!(!answer.contains("memory_monitor"), "{answer}");
        }
    }
    for host in ["localhost", "[::1]:1", "10.0.0.1", "node1.example.org:80"] {
        let answer = get_as(&address, "GET /healthz", host).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{host}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = get(&address, &format!("{method} /api/workers")).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    }
    let answer = get(&address, "GET /readyz").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ready\n"), "{answer}");
    for header in [
        "content-security-policy: default-src 'none'; style-src 'unsafe-inline';",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "cache-control: no-store",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    assert!(!answer.to_ascii_lowercase().contains("access-control-allow"), "{answer}");
}

#[test]
fn two_hundred_silent_connections_keep_no_scrape_out() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--http-listen", "0"]).unwrap();
    let address = agent.http().unwrap();
    let mut silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // Half of them send a head that never ends.
    for stream in silent.iter_mut().step_by(2) {
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ");
    }
    let began = Instant::now();
    for _ in 0..5 {
        let answer = get(&address, "GET /metrics").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("# EOF\n"), "{answer}");
    }
    // Their three seconds were not waited for.
    assert!(began.elapsed() < monitor_tests::clock::scaled(Duration::from_secs(2)), "{:?}", began.elapsed());
    // And the loop answers the socket meanwhile.
    assert_eq!(agent.ask::<Value>("status").unwrap()["workers"], 0);
    drop(silent);
}

/// What `monitor metrics` says of HTTP, and `monitor status`.
fn http_of(agent: &Agent) -> (bool, Value) {
    let metrics = agent.command("metrics").unwrap().output().unwrap();
    let served = String::from_utf8(metrics.stdout).unwrap().contains("\nmemory_monitor_http_on 1\n");
    (served, agent.ask::<Value>("status").unwrap()["http"].take())
}

#[test]
fn an_address_that_is_taken_ends_no_agent_and_is_had_when_it_is_free() {
    let sandbox = sandbox!(128);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--http-listen", &address]).unwrap();
    worker::outgrow(&agent, &sandbox, &[]).unwrap();
    agent.kills_over(1).unwrap();
    let said = format!("nothing is served over HTTP at {address} (http_listen): ");
    let lines = |agent: &Agent| agent.said().iter().filter(|line| line.contains(&said)).count();
    assert_eq!(lines(&agent), 1, "{:?}", agent.said());
    let (served, http) = http_of(&agent);
    assert_eq!((served, &http["address"]), (false, &json!(address)));
    assert!(http["error"].as_str().unwrap().contains("name another port"), "{http}");
    let shown = agent.command("status").unwrap().output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&format!("Nothing is served over HTTP at {address}: ")), "{shown}");
    assert!(agent.command("reload").unwrap().output().unwrap().status.success());
    drop(taken);
    wait_for("the address to be had", PATIENCE, || {
        Ok(agent.ask::<Value>("status")?["http"]["error"].is_null().then_some(()))
    })
    .unwrap();
    let metrics = get(&address, "GET /metrics").unwrap();
    assert!(metrics.contains("\nmemory_monitor_http_on 1\n"), "{metrics}");
    assert_eq!(json_at(&address, "/api/status")["counters"]["killed"], 1, "it is the same agent");
    assert_eq!(lines(&agent), 1, "once for each reason: {:?}", agent.said());
}

#[test]
fn an_ipv6_address_is_served_where_there_is_one() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip!(Lacks::Kernel, "no IPv6");
    }
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, ["--http-listen", "[::]:0"]).unwrap();
    let address = agent.http().unwrap();
    let port = address.rsplit(':').next().unwrap();
    let both = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap().trim() == "0";
    for host in ["[::1]", "127.0.0.1"].into_iter().take(1 + usize::from(both)) {
        let answer = get(&format!("{host}:{port}"), "GET /healthz").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
}
