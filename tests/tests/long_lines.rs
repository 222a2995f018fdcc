//! Lines that take long to read, from a user who reconnects as often as that is allowed: they cost the agent's loop no more
//! than a bounded share of its time, and root is answered meanwhile.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use monitor_tests::agent::Agent;
use monitor_tests::caller::Caller;
use monitor_tests::clock::{PATIENCE, scaled};
use monitor_tests::sandbox;
use serde_json::json;

const ANN: u32 = 60_001;

/// What is no call, and is seen to be none at its end only.
fn line() -> Vec<u8> {
    let mut line = format!(r#"{{"v":1,"seq":7,"nothing":[{}0]}}"#, "[1],".repeat(15_000));
    line.push('\n');
    line.into_bytes()
}

/// Sends such lines until it is over, and connects anew when the agent has had enough. Counts the bytes that were answered.
fn flood(socket: &Path, over: &AtomicBool, answered: &AtomicUsize) {
    // SAFETY: takes numbers only. The raw call changes this thread alone, which ends with the flood.
    let status = unsafe { libc::syscall(libc::SYS_setresuid, ANN, ANN, ANN) };
    assert_eq!(status, 0, "becoming another user");
    let line = line();
    while !over.load(Ordering::Relaxed) {
        let Ok(stream) = UnixStream::connect(socket) else { continue };
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut lines = BufReader::new(stream);
        for _ in 0..8 {
            let mut reply = String::new();
            if lines.get_mut().write_all(&line).is_err() || lines.read_line(&mut reply).unwrap_or(0) == 0 {
                break;
            }
            if reply.contains("malformed") {
                answered.fetch_add(line.len(), Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn a_users_long_lines_are_read_at_a_bounded_rate_however_often_it_reconnects() {
    let sandbox = sandbox!(64);
    let agent = Agent::guard(&sandbox, [""; 0]).unwrap();
    // Opens the way to the socket for others.
    drop(Caller::connect_as(agent.socket(), ANN).unwrap());
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| flood(agent.socket(), &over, &answered));
        }
        let until = began + Duration::from_secs(4);
        while Instant::now() < until {
            let asked = Instant::now();
            let answer = Caller::connect(agent.socket()).and_then(|mut root| root.call(&json!("status")));
            if answer.is_err() || asked.elapsed() > scaled(PATIENCE) {
                over.store(true, Ordering::Relaxed);
            }
            answer.unwrap();
            // Root too is refused after a thousand calls in a second.
            std::thread::sleep(Duration::from_millis(5));
        }
        over.store(true, Ordering::Relaxed);
    });
    let (seconds, answered) = (began.elapsed().as_secs_f64(), answered.into_inner());
    // 64 KiB at once, 128 KiB a second, and what was read when the time was over.
    let most = (64.0 + 128.0 * seconds) * 1024.0 + 4.0 * 65536.0;
    println!("{answered} bytes were answered in {seconds:.1} s");
    assert!(
        answered > 0 && (answered as f64) < most,
        "{answered} bytes in {seconds:.1} s, at most {most:.0}"
    );
}
