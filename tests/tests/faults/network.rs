//! A network that the agent may not have, as under its unit without the drop-in for HTTP.

use monitor_tests::http::get;
use monitor_tests::intercept::Answer;
use monitor_tests::sandbox;
use rustix::io::Errno;

use super::scene::Scene;

#[test]
fn without_a_network_it_guards_and_says_what_http_lacks() {
    let sandbox = sandbox!(256);
    let scene = Scene::answering(&sandbox, &["--http-listen", "0"], &[libc::SYS_socket], |call| {
        let family = i32::try_from(call.args[0]).ok();
        let network = family.is_some_and(|family| [libc::AF_INET, libc::AF_INET6].contains(&family));
        if network { Answer::Fail(Errno::AFNOSUPPORT) } else { Answer::Pass }
    });
    let said = scene.agent.said().join("\n");
    assert!(said.contains("nothing is served over HTTP at 127.0.0.1:0 (http_listen): "), "{said}");
    scene.status("what to do", |status| {
        status["http"]["error"].as_str().is_some_and(|why| why.contains("docs/http.md has the drop-in"))
    });
    scene.kills_as_ever();
    scene.calls.pass();
    let served = scene.status("HTTP", |status| status["http"]["error"].is_null());
    let answer = get(served["http"]["address"].as_str().unwrap(), "GET /healthz").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
