//! One connection of the control socket, from its first byte to its last. It holds no state of the agent's and
//! trusts nothing that it reads; whatever goes wrong here ends this connection alone.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::codec::Decoder;

use super::admission::{Ticket, weight};
use super::codec::{Frame, LineCodec, encode_line, parse_call, refuse};
use super::limits::Limits;
use super::protocol::{Call, MAX_LINE, Op, Push, Refusal, RefusalCode, Reply, ReplyResult};
use super::request::{Peer, Request, Requests};

/// How many lines in a row may be no calls before the connection is closed: after a mistake the peer may try again.
const MALFORMED_MOST: u32 = 8;

/// How much is read at once.
const CHUNK: usize = 4096;

/// A line that is longer is paid by its bytes (`Limits::long_lines_per_second`), and what it is is not asked before it is
/// known that its uid may call at all.
const LONG: usize = 1024;

/// The line for a call: a [`Reply`] with the agent's answer as the text that it was given.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    /// `{"seq": .., "ok": ..}`
    Yes { seq: u64, ok: Box<RawValue> },
    /// It is refused.
    No(Reply),
}

/// Why a connection ended. None of them is an error of the agent's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the peer closed it")]
    Closed,
    #[error("reading failed: {0}")]
    Read(io::Error),
    #[error("writing failed: {0}")]
    Write(io::Error),
    #[error("the peer did not read within {0:?}")]
    SlowReader(Duration),
    #[error("a line was not finished within {0:?}")]
    SlowLine(Duration),
    #[error("its uid holds too much memory in unfinished lines")]
    TooMuch,
    #[error("its place was needed: its user has the most connections, and this was the most idle of them")]
    GaveWay,
    #[error("{MALFORMED_MOST} lines in a row were no calls")]
    Malformed,
    #[error("no call came for {0:?}")]
    Idle(Duration),
    #[error("the agent's loop is gone")]
    AgentGone,
}

/// One connection; `run` ends with it.
pub(super) struct Connection {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    /// Bytes that are not a whole line yet: less than [`MAX_LINE`] and one chunk.
    buffer: BytesMut,
    codec: LineCodec,
    peer: Peer,
    /// The other end is in `peer.pushes`, with the agent.
    pushes: mpsc::Receiver<Push>,
    requests: Requests,
    limits: Limits,
    ticket: Ticket,
    /// The agent had a call of it, and wants to know when it is closed.
    known: bool,
    /// It registered a worker or watches: it may be silent.
    keeps: bool,
    /// When the unfinished line in the buffer began.
    line_since: Option<Instant>,
    last_call: Instant,
    /// What was read of long lines is paid by then: nothing is done before.
    read_until: Option<Instant>,
    /// Lines since the last call that were none.
    malformed: u32,
}

impl Connection {
    pub(super) fn new(
        stream: UnixStream,
        connection: u64,
        uid: u32,
        requests: Requests,
        limits: Limits,
        ticket: Ticket,
    ) -> Self {
        let (read, write) = stream.into_split();
        let (sender, pushes) = mpsc::channel(limits.pushes.max(1));
        Self {
            read,
            write,
            buffer: BytesMut::new(),
            codec: LineCodec::new(MAX_LINE),
            peer: Peer { connection, uid, pushes: sender },
            pushes,
            requests,
            limits,
            ticket,
            known: false,
            keeps: false,
            line_since: None,
            last_call: Instant::now(),
            read_until: None,
            malformed: 0,
        }
    }

    /// Answers calls and passes pushes on until the connection ends. Can be canceled at any await.
    pub(super) async fn run(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.step().await {
                return ended;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Ended> {
        if let Some(until) = self.read_until {
            return self.pause(until).await;
        }
        // The codec has no errors of its own.
        if let Some(frame) = self.codec.decode(&mut self.buffer).map_err(Ended::Read)? {
            self.line_since = None;
            return self.take(frame).await;
        }
        self.mind_the_buffer();
        if let Err(refusal) = self.ticket.hold(self.buffer.len()) {
            self.send(&Reply { seq: 0, result: ReplyResult::Error(refusal) }).await?;
            return Err(Ended::TooMuch);
        }
        let deadline = self.deadline();
        self.buffer.reserve(CHUNK);
        tokio::select! {
            read = self.read.read_buf(&mut self.buffer) => match read {
                Ok(0) => self.end_of_stream().await,
                Ok(read) => {
                    self.pay(read);
                    Ok(())
                }
                Err(error) => Err(Ended::Read(error)),
            },
            Some(push) = self.pushes.recv() => self.send(&push).await,
            () = self.ticket.told_to_leave() => self.give_way().await,
            reason = expire(deadline) => self.time_is_up(reason).await,
        }
    }

    /// These bytes were read: if they are of a long line, nothing is done with them before they are paid.
    fn pay(&mut self, read: usize) {
        if self.buffer.len() > LONG || self.codec.skips() {
            let wait = self.ticket.read_of_a_long_line(std::time::Instant::now(), read);
            self.read_until = (!wait.is_zero()).then(|| Instant::now() + wait);
        }
    }

    /// Until what was read is paid: pushes go out, and nothing is read.
    async fn pause(&mut self, until: Instant) -> Result<(), Ended> {
        tokio::select! {
            () = sleep_until(until) => {
                self.read_until = None;
                // It was not the peer who let the line wait.
                self.line_since = None;
                Ok(())
            }
            Some(push) = self.pushes.recv() => self.send(&push).await,
            () = self.ticket.told_to_leave() => self.give_way().await,
        }
    }

    async fn give_way(&mut self) -> Result<(), Ended> {
        let message = format!("{}: the connection is closed", Ended::GaveWay);
        self.send(&refuse(0, RefusalCode::Busy, None, message)).await?;
        Err(Ended::GaveWay)
    }

    /// Notes when an unfinished line began, and gives the memory of a long one back.
    fn mind_the_buffer(&mut self) {
        if self.codec.inside_line(&self.buffer) {
            self.line_since.get_or_insert_with(Instant::now);
        } else {
            self.line_since = None;
            if self.buffer.capacity() > 4 * CHUNK {
                self.buffer = BytesMut::new();
            }
        }
    }

    /// When this connection is given up, and why; `None`: it may be silent.
    fn deadline(&self) -> Option<(Instant, Ended)> {
        let Limits { line_timeout, idle_timeout, .. } = self.limits;
        let line = self.line_since.map(|since| (since + line_timeout, Ended::SlowLine(line_timeout)));
        let idle = (!self.keeps).then(|| (self.last_call + idle_timeout, Ended::Idle(idle_timeout)));
        line.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }

    async fn time_is_up(&mut self, reason: Ended) -> Result<(), Ended> {
        let message = format!("{reason}: the connection is closed");
        self.send(&refuse(0, RefusalCode::Timeout, None, message)).await?;
        Err(reason)
    }

    async fn end_of_stream(&mut self) -> Result<(), Ended> {
        if self.codec.inside_line(&self.buffer) {
            let message = "the last line has no newline: nothing was done";
            self.send(&refuse(0, RefusalCode::Malformed, None, message)).await?;
        }
        Err(Ended::Closed)
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Ended> {
        self.last_call = Instant::now();
        let now = std::time::Instant::now();
        let taken = self.ticket.call(now);
        let call = match frame {
            // Its number is not worth reading it.
            Frame::Line(line) if taken.is_err() && line.len() > LONG => {
                Err(refuse(0, RefusalCode::Busy, None, ""))
            }
            Frame::Line(line) => parse_call(&line),
            Frame::TooLong => {
                let message =
                    format!("the line is longer than {MAX_LINE} bytes: skipped up to the next newline");
                Err(refuse(0, RefusalCode::Malformed, None, message))
            }
        };
        self.malformed = if call.is_ok() { 0 } else { self.malformed + 1 };
        let more = call.as_ref().map_or(0, |call| weight(&call.op));
        if let Err(wait) = taken.and_then(|()| self.ticket.more(now, more)) {
            let seq = call.map_or_else(|reply| reply.seq, |call| call.seq);
            let message = format!(
                "uid {} makes more than {} calls a second (costly ones count for more): try again later",
                self.peer.uid, self.limits.calls_per_second
            );
            self.send(&refuse(seq, RefusalCode::Busy, None, message)).await?;
            // Not read for as long as it takes to be under the limit again: a flood slows itself down.
            sleep(wait).await;
            return Ok(());
        }
        let reply = match call {
            Ok(call) => self.ask(call).await?,
            Err(reply) => Answer::No(reply),
        };
        self.send(&reply).await?;
        if self.malformed >= MALFORMED_MOST {
            let message = format!("{}: the connection is closed", Ended::Malformed);
            self.send(&refuse(0, RefusalCode::Malformed, None, message)).await?;
            return Err(Ended::Malformed);
        }
        self.last_call = Instant::now();
        while let Ok(push) = self.pushes.try_recv() {
            self.send(&push).await?;
        }
        Ok(())
    }

    /// Whether the agent has heard of it.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// Hands the call to the agent and waits for its answer; pushes go out meanwhile.
    async fn ask(&mut self, call: Call) -> Result<Answer, Ended> {
        let Call { v: _, seq, op } = call;
        let deadline = Instant::now() + self.limits.answer_timeout;
        let keeps = matches!(op, Op::Register(_) | Op::Admit(_) | Op::Watch);
        let (sender, mut answer) = oneshot::channel();
        let request = Request::Call { peer: self.peer.clone(), op, reply: sender };
        self.known = true;
        match timeout_at(deadline, self.requests.send(request)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Ended::AgentGone),
            Err(_) => {
                let message = "the agent is busy: try again later";
                return Ok(Answer::No(refuse(seq, RefusalCode::Busy, None, message)));
            }
        }
        loop {
            let result = tokio::select! {
                // The answer first: a verdict about a worker must not overtake the answer that names it.
                biased;
                result = &mut answer => result,
                Some(push) = self.pushes.recv() => {
                    self.send(&push).await?;
                    continue;
                }
                () = sleep_until(deadline) => {
                    let message = format!("the agent did not answer within {:?}", self.limits.answer_timeout);
                    return Ok(Answer::No(refuse(seq, RefusalCode::Failed, None, message)));
                }
            };
            return Ok(self.reply(seq, keeps, result));
        }
    }

    fn reply(
        &mut self,
        seq: u64,
        keeps: bool,
        result: Result<Result<Box<RawValue>, Refusal>, oneshot::error::RecvError>,
    ) -> Answer {
        match result {
            Ok(Ok(ok)) => {
                if keeps {
                    self.keeps = true;
                    self.ticket.keep();
                }
                Answer::Yes { seq, ok }
            }
            Ok(Err(refusal)) => Answer::No(Reply { seq, result: ReplyResult::Error(refusal) }),
            Err(_) => Answer::No(refuse(seq, RefusalCode::Failed, None, "the agent gave no answer")),
        }
    }

    async fn send<T: Serialize>(&mut self, value: &T) -> Result<(), Ended> {
        let line = encode_line(value).map_err(|error| Ended::Write(error.into()))?;
        match timeout(self.limits.write_timeout, self.write.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::Write(error)),
            Err(_) => Err(Ended::SlowReader(self.limits.write_timeout)),
        }
    }

    /// Sends what the agent pushed before it stopped, as far as the peer takes it at once.
    pub(super) async fn last_words(&mut self) {
        const PATIENCE: Duration = Duration::from_millis(200);
        let _ = timeout(PATIENCE, async {
            while let Ok(push) = self.pushes.try_recv() {
                if self.send(&push).await.is_err() {
                    break;
                }
            }
        })
        .await;
    }
}

/// Waits for the deadline, for ever if there is none.
async fn expire(deadline: Option<(Instant, Ended)>) -> Ended {
    match deadline {
        Some((at, reason)) => {
            sleep_until(at).await;
            reason
        }
        None => std::future::pending().await,
    }
}
