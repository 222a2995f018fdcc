//! The control socket over a real socket, with a fake agent behind it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use monitor::control::client::{Client, ClientError};
use monitor::control::listen::{Access, ListenError, bind};
use monitor::control::protocol::{MAX_LINE, Op, Push, Refusal, RefusalCode, Reply, ReplyResult};
use monitor::control::request::{Peer, Request};
use monitor::control::server::Limits;
use serde_json::{Value, json};
use support::{Fake, soon, verdict};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A client that says what it likes.
struct Raw(BufReader<UnixStream>);

impl Raw {
    async fn connect(fake: &Fake) -> Self {
        Self(BufReader::new(UnixStream::connect(fake.path()).await.unwrap()))
    }

    async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon("a line from the server", self.0.read_line(&mut line)).await.unwrap();
        line
    }

    async fn reply(&mut self) -> Reply {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    async fn refusal(&mut self) -> Refusal {
        match self.reply().await.result {
            ReplyResult::Error(refusal) => refusal,
            ReplyResult::Ok(value) => panic!("not refused: {value}"),
        }
    }

    async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end as well: the server closed with bytes of ours unread.
        let _ = soon("the end of the connection", self.0.read_to_end(&mut rest)).await;
    }
}

fn echo(peer: &Peer, op: &Op) -> Result<Value, Refusal> {
    Ok(json!({ "uid": peer.uid, "op": op }))
}

const STATUS: &str = "{\"v\":1,\"seq\":4,\"op\":\"status\"}\n";

#[tokio::test]
async fn a_call_is_answered_with_its_seq_and_the_peer_is_known() {
    let agent = Fake::start(Limits::default()).answer_all(echo);
    let mut raw = Raw::connect(&agent.fake).await;
    raw.say(STATUS).await;
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(
        raw.reply().await,
        Reply { seq: 4, result: ReplyResult::Ok(json!({ "uid": uid, "op": "status" })) }
    );
    let mut client = Client::connect(agent.fake.path()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.call(Op::Kills).await.unwrap()["op"], "kills");
    }
    drop((raw, client));
}

#[tokio::test]
async fn malformed_lines_are_answered_and_the_connection_goes_on() {
    let agent = Fake::start(Limits::default()).answer_all(echo);
    let mut raw = Raw::connect(&agent.fake).await;
    raw.say("{\"v\":1,\"op\":{\"unregister\":{\"worker\":7}}}\n\n\u{fffd}\n").await;
    raw.say(b"\xff\xfe\n{\"v\":1,\"seq\":\"\xff\",\"op\":\"status\"}\n").await;
    assert_eq!(raw.refusal().await.field.as_deref(), Some("op.unregister.worker"));
    for _ in 0..4 {
        assert_eq!(raw.refusal().await.code, RefusalCode::Malformed);
    }
    raw.say(STATUS).await;
    assert_eq!(raw.reply().await.seq, 4);
}

#[tokio::test]
async fn many_lines_in_a_row_that_are_no_calls_close_their_connection() {
    let agent = Fake::start(Limits::default()).answer_all(echo);
    let mut raw = Raw::connect(&agent.fake).await;
    // A call between them begins the count anew.
    for _ in 0..7 {
        raw.say("{}\n").await;
        raw.refusal().await;
    }
    raw.say(STATUS).await;
    assert_eq!(raw.reply().await.seq, 4);
    for _ in 0..8 {
        raw.say("{}\n").await;
        assert_eq!(raw.refusal().await.code, RefusalCode::Malformed);
    }
    let last = raw.refusal().await;
    assert!(last.message.contains("the connection is closed"), "{last}");
    raw.closed().await;
    let mut other = Raw::connect(&agent.fake).await;
    other.say(STATUS).await;
    assert_eq!(other.reply().await.seq, 4);
}

#[tokio::test]
async fn a_long_line_is_one_call_and_is_named_by_its_number_all_the_same() {
    let agent = Fake::start(Limits { calls_per_second: 1, burst: 2, ..Limits::default() }).answer_all(echo);
    let mut raw = Raw::connect(&agent.fake).await;
    let long = format!("{{\"v\":1,\"seq\":9,\"op\":\"{}\"}}\n", "x".repeat(60_000));
    let mut codes = Vec::new();
    for _ in 0..2 {
        raw.say(&long).await;
        let reply = raw.reply().await;
        assert_eq!(reply.seq, 9);
        if let ReplyResult::Error(refusal) = reply.result {
            codes.push(refusal.code);
        }
    }
    // By its bytes it is paid elsewhere (`admission`): who is not root waits for the second answer.
    assert_eq!(codes, [RefusalCode::Malformed; 2]);
}

#[tokio::test]
async fn ten_megabytes_without_a_newline_are_refused_once_and_skipped() {
    let agent = Fake::start(Limits::default()).answer_all(echo);
    let mut raw = Raw::connect(&agent.fake).await;
    raw.say(vec![b'x'; 10 << 20]).await;
    raw.say("\n").await;
    raw.say(STATUS).await;
    let refusal = raw.refusal().await;
    assert!(refusal.message.contains(&MAX_LINE.to_string()), "{refusal}");
    assert_eq!(raw.reply().await.seq, 4);
}

#[tokio::test]
async fn a_line_that_is_not_finished_in_time_ends_its_connection_only() {
    let limits = Limits { line_timeout: Duration::from_millis(30), ..Limits::default() };
    let agent = Fake::start(limits).answer_all(echo);
    let mut other = Raw::connect(&agent.fake).await;
    let mut slow = Raw::connect(&agent.fake).await;
    slow.say("{\"v\":").await;
    assert_eq!(slow.refusal().await.code, RefusalCode::Timeout);
    slow.closed().await;
    other.say(STATUS).await;
    assert_eq!(other.reply().await.seq, 4);
}

#[tokio::test]
async fn a_silent_connection_is_closed_unless_it_registered_or_watches() {
    let limits = Limits { idle_timeout: Duration::from_millis(30), ..Limits::default() };
    let mut fake = Fake::start(limits);
    let mut watcher = Client::connect(fake.path()).await.unwrap();
    let (answer, peer) =
        tokio::join!(watcher.call(Op::Watch), async { fake.call().await.answer(Ok(Value::Null)) });
    answer.unwrap();
    let mut silent = Raw::connect(&fake).await;
    assert_eq!(silent.refusal().await.code, RefusalCode::Timeout);
    silent.closed().await;
    // The watcher was silent for longer than that.
    peer.pushes.send(Push::Lost { notes: 3 }).await.unwrap();
    assert_eq!(soon("the push", watcher.next_push()).await.unwrap(), Push::Lost { notes: 3 });
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let limits = Limits { write_timeout: Duration::from_millis(30), ..Limits::default() };
    let mut fake = Fake::start(limits);
    let mut raw = Raw::connect(&fake).await;
    raw.say("{\"v\":1,\"op\":\"watch\"}\n").await;
    let peer = fake.call().await.answer(Ok(Value::Null));
    let note = Push::Note { note: Value::String("x".repeat(60_000)) };
    // The socket's buffers fill up, the write times out, and the receiver of the pushes is dropped.
    soon("the end of the pushes", async { while peer.pushes.send(note.clone()).await.is_ok() {} }).await;
    soon("the word that it is closed", async {
        while !matches!(fake.request().await, Request::Closed { connection } if connection == peer.connection)
        {
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_calls_are_refused_and_later_ones_taken() {
    let limits = Limits { calls_per_second: 50, burst: 5, ..Limits::default() };
    let agent = Fake::start(limits).answer_all(echo);
    let mut raw = Raw::connect(&agent.fake).await;
    raw.say(STATUS.repeat(20)).await;
    let (mut taken, mut busy) = (0, 0);
    for _ in 0..20 {
        let reply = raw.reply().await;
        assert_eq!(reply.seq, 4);
        match reply.result {
            ReplyResult::Ok(_) => taken += 1,
            ReplyResult::Error(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Busy);
                busy += 1;
            }
        }
    }
    assert!(taken >= 5 && busy >= 1, "{taken} taken, {busy} refused");
}

#[tokio::test]
async fn unfinished_lines_of_a_uid_are_bounded_in_sum() {
    let limits = Limits { unfinished_per_uid: 50_000, ..Limits::default() };
    let agent = Fake::start(limits).answer_all(echo);
    let mut first = Raw::connect(&agent.fake).await;
    first.say(vec![b'x'; 30_000]).await;
    let mut second = Raw::connect(&agent.fake).await;
    second.say(vec![b'x'; 30_000]).await;
    // Whichever was read later is turned away; the other one's share is enough.
    let (over, within) = tokio::select! {
        refusal = first.refusal() => (refusal, &mut second),
        refusal = second.refusal() => (refusal, &mut first),
    };
    assert_eq!(over.code, RefusalCode::Busy);
    within.say("\n").await;
    assert_eq!(within.refusal().await.code, RefusalCode::Malformed);
    within.say(STATUS).await;
    assert_eq!(within.reply().await.seq, 4);
}

#[tokio::test]
async fn an_agent_that_never_answers_costs_one_call() {
    let limits = Limits { answer_timeout: Duration::from_millis(30), ..Limits::default() };
    let mut fake = Fake::start(limits);
    let mut client = Client::connect(fake.path()).await.unwrap();
    let ClientError::Refused(refusal) = client.call(Op::Status).await.unwrap_err() else { panic!() };
    assert_eq!(refusal.code, RefusalCode::Failed);
    let stuck = fake.call().await;
    let (answer, _) = tokio::join!(client.call(Op::Status), async { fake.call().await.answer(Ok(json!(2))) });
    assert_eq!(answer.unwrap(), json!(2));
    // An answer that nobody waits for any more is no harm.
    stuck.answer(Ok(json!(1)));
    let (answer, ()) = tokio::join!(client.call(Op::Status), async { drop(fake.call().await) });
    let ClientError::Refused(refusal) = answer.unwrap_err() else { panic!() };
    assert!(refusal.message.contains("no answer"), "{refusal}");
}

#[tokio::test]
async fn half_a_call_is_not_carried_out() {
    let agent = Fake::start(Limits::default()).answer_all(echo);
    let mut raw = Raw::connect(&agent.fake).await;
    raw.say(STATUS).await;
    raw.say(STATUS.trim_end()).await;
    raw.0.get_mut().shutdown().await.unwrap();
    assert_eq!(raw.reply().await.seq, 4);
    assert!(raw.refusal().await.message.contains("newline"));
    raw.closed().await;
}

#[tokio::test]
async fn a_thousand_connections_are_served_and_the_next_is_turned_away() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )
    .unwrap();
    let limits = Limits { connections: 1000, ..Limits::default() };
    let agent = Fake::start(limits).answer_all(echo);
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(Client::connect(agent.fake.path()).await.unwrap());
    }
    for client in &mut clients {
        client.call(Op::Status).await.unwrap();
    }
    let mut late = Client::connect(agent.fake.path()).await.unwrap();
    let ClientError::Refused(refusal) = late.call(Op::Status).await.unwrap_err() else { panic!() };
    assert_eq!(refusal.code, RefusalCode::Busy);
    drop(clients.pop());
    // Its place is free as soon as the server has seen its end.
    soon("a free place", async {
        loop {
            let mut client = Client::connect(agent.fake.path()).await.unwrap();
            if client.call(Op::Status).await.is_ok() {
                break;
            }
        }
    })
    .await;
    assert!(agent.stop().await >= 1);
}

#[tokio::test]
async fn pushes_come_between_replies_and_none_is_lost() {
    let mut fake = Fake::start(Limits::default());
    let mut client = Client::connect(fake.path()).await.unwrap();
    let (answer, peer) = tokio::join!(client.call(Op::Status), async {
        let call = fake.call().await;
        call.peer.pushes.send(verdict(1, true)).await.unwrap();
        call.answer(Ok(json!(1)))
    });
    assert_eq!(answer.unwrap(), json!(1));
    assert_eq!(client.next_push().await.unwrap(), verdict(1, true));
    // What was pushed before the agent stops still arrives.
    peer.pushes.send(verdict(2, false)).await.unwrap();
    let directory = fake.stop().await;
    assert_eq!(client.next_push().await.unwrap(), verdict(2, false));
    assert!(matches!(client.next_push().await, Err(ClientError::Closed { .. })));
    drop(directory);
}

#[tokio::test]
async fn no_agent_is_said_with_the_path_and_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.sock");
    let error = Client::connect(&path).await.unwrap_err();
    assert!(matches!(error, ClientError::NoAgent { .. }));
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("monitor agent"), "{text}");
    drop(StdListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path).await, Err(ClientError::NoAgent { .. })));
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/monitor.sock");
    let (listener, file) = bind(&path, Access::Everyone).unwrap();
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o666);
    let parent = std::fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(parent.permissions().mode() & 0o7777, 0o755);
    let error = bind(&path, Access::Everyone).unwrap_err();
    assert!(matches!(error, ListenError::Live { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "an agent already listens on {}: see `monitor status`, or give this one another --socket",
            path.display()
        )
    );
    // As a crash leaves it: the file without a listener.
    std::mem::forget(file);
    drop(listener);
    let (_listener, file) = bind(&path, Access::Group(rustix::process::getgid().as_raw())).unwrap();
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o660);
    drop(file);
    assert!(!path.exists());
}

#[test]
fn a_group_is_found_by_name_or_number_or_the_agent_does_not_start() {
    assert_eq!(Access::of(None).unwrap(), Access::Everyone);
    assert_eq!(Access::of(Some("60003")).unwrap(), Access::Group(60_003));
    assert_eq!(Access::of(Some("root")).unwrap(), Access::Group(0));
    let error = Access::of(Some("no-such-group-here")).unwrap_err();
    assert_eq!(error.to_string(), "socket_group \"no-such-group-here\": there is no group with this name");
}

/// A listener that nobody accepts from, with its queue full.
fn crowded(path: &std::path::Path) -> (StdListener, Vec<std::os::unix::net::UnixStream>) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};
    let address = SocketAddrUnix::new(path).unwrap();
    let server = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&server, &address).unwrap();
    listen(&server, 0).unwrap();
    let mut crowd = Vec::new();
    loop {
        let client = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::io::ioctl_fionbio(&client, true).unwrap();
        if connect(&client, &address).is_err() {
            return (server.into(), crowd);
        }
        crowd.push(client.into());
    }
}

#[tokio::test]
async fn an_agent_with_a_full_queue_is_waited_for_and_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("monitor.sock");
    let (listener, crowd) = crowded(&path);
    assert!(matches!(bind(&path, Access::Everyone), Err(ListenError::Live { .. })));
    let connecting = tokio::spawn({
        let path = path.clone();
        async move { Client::connect(&path).await }
    });
    tokio::task::yield_now().await;
    let accepting = tokio::task::spawn_blocking(move || {
        for _ in 0..=crowd.len() {
            listener.accept().unwrap();
        }
    });
    soon("the connection", connecting).await.unwrap().unwrap();
    accepting.await.unwrap();
}

#[tokio::test]
async fn nothing_but_a_stale_socket_is_ever_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("monitor.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path, Access::Everyone), Err(ListenError::NotASocket { .. })));
    let link = directory.path().join("link.sock");
    symlink(&path, &link).unwrap();
    assert!(matches!(bind(&link, Access::Everyone), Err(ListenError::Symlink { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let long = directory.path().join("x".repeat(120));
    assert!(matches!(bind(&long, Access::Everyone), Err(ListenError::BadPath { .. })));
}

#[tokio::test]
async fn a_socket_that_took_the_place_of_ours_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("monitor.sock");
    let (listener, file) = bind(&path, Access::Everyone).unwrap();
    std::fs::rename(&path, directory.path().join("moved.sock")).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    let inode = std::fs::symlink_metadata(&path).unwrap().ino();
    drop((listener, file));
    assert_eq!(std::fs::symlink_metadata(&path).unwrap().ino(), inode);
}
