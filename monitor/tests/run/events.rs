//! `--json-events` into a named pipe, and stderr, one write a line.

use std::os::unix::net::UnixDatagram;

use super::*;

fn fifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_holds_nobody_up() {
    let mut stage = Stage::new();
    fifo(&stage.file("events"));
    let child = stage.run(&["--json-events", "events"], "exit 4");
    stage.agent.register(1).await;
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("2 events were dropped"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_reader_that_comes_late_is_told_how_much_it_missed() {
    let mut stage = Stage::new();
    fifo(&stage.file("events"));
    let mut child = stage.run(&["--json-events", "events"], "echo ready; read wait < pipe; exit 4");
    fifo(&stage.file("pipe"));
    stage.agent.register(1).await;
    assert_eq!(first_line(&mut child).await, "ready\n");
    let events = rustix::fs::open(
        stage.file("events"),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    );
    let mut events = std::fs::File::from(events.unwrap());
    let pipe = stage.file("pipe");
    tokio::task::spawn_blocking(move || std::fs::write(pipe, "go\n").unwrap()).await.unwrap();
    assert_eq!(output(child).await.status.code(), Some(4));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut events, &mut text).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["event"], &events[0]["lines"]), (&json!("dropped"), &json!(1)));
    assert_eq!((&events[1]["event"], &events[1]["code"]), (&json!("exited"), &json!(4)));
}

#[tokio::test]
async fn a_pipe_that_is_full_holds_nobody_up() {
    let mut stage = Stage::new();
    fifo(&stage.file("events"));
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK;
    let pipe = rustix::fs::open(stage.file("events"), flags, rustix::fs::Mode::empty()).unwrap();
    while rustix::io::write(&pipe, &[b'\n'; 4096]).is_ok() {}
    let child = stage.run(&["--json-events", "events"], "exit 4");
    stage.agent.register(1).await;
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("2 events were dropped"), "{}", stderr(&output));
}

#[tokio::test]
async fn each_line_on_stderr_is_one_write() {
    let mut stage = Stage::new();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut command =
        stage.command(&["--max-retries", "1", "--crash-retry-base-ms", "1", "--", "sh", "-c", "exit 3"]);
    let child = command.stderr(std::os::fd::OwnedFd::from(theirs)).spawn().unwrap();
    drop(command);
    stage.agent.register(1).await;
    stage.agent.register(2).await;
    assert_eq!(output(child).await.status.code(), Some(3));
    ours.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    let mut lines = 0;
    while let Ok(length) = ours.recv(&mut bytes) {
        if length == 0 {
            break;
        }
        let line = std::str::from_utf8(&bytes[..length]).unwrap();
        assert!(line.starts_with("monitor: ") && line.find('\n') == Some(length - 1), "{line:?}");
        lines += 1;
    }
    assert_eq!(lines, 2);
}
