//! Asks the agent's loop, as a client of the socket that may only read, and as a user without workers; with
//! `http_details` as root. The number of questions to the loop is bounded, however many clients ask: an answer that is
//! the same for all is kept for a moment, and of the others there are only so many a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::{Response, StatusCode};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::live;
use super::response::{self, Body, HTML, JSON, OPEN_METRICS};
use super::route::{Api, Route};
use crate::control::protocol::{Op, Refusal, RefusalCode};
use crate::control::request::{Peer, Request, Requests};
use crate::page;
use crate::report::Report;
use crate::series::Series;

/// How long an answer is given again.
const FRESH: Duration = Duration::from_millis(200);
/// Reports a second, and how many at once.
const REPORTS: (f64, f64) = (20.0, 40.0);
/// The longest that the loop may take.
const LOOP: Duration = Duration::from_secs(5);
/// The number of no connection of the socket's.
const NOT_ON_THE_SOCKET: u64 = 0;
/// A user id that no process can have: nothing is theirs.
const STRANGER: u32 = u32::MAX;
const ROOT: u32 = 0;

type Answered = Result<Box<RawValue>, Refusal>;

/// See the module.
pub(super) struct Answers {
    requests: Requests,
    details: bool,
    state: Mutex<State>,
}

struct State {
    /// By operation: a handful.
    kept: HashMap<Asked, (Instant, String)>,
    /// Reports that may still be asked for, and when that was.
    left: (f64, Instant),
}

/// What is the same for all, and therefore kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    Status,
    Metrics,
    Workers,
    Explain,
    Kills,
    Samples,
}

impl Asked {
    fn op(self) -> Op {
        match self {
            Self::Status => Op::Status,
            Self::Metrics => Op::Metrics,
            Self::Workers => Op::Workers,
            Self::Explain => Op::Explain { domain: None },
            Self::Kills => Op::Kills,
            Self::Samples => Op::Samples { kill: None },
        }
    }
}

/// Why the loop gave no answer.
enum NoAnswer {
    Silent,
    TooMany,
    Refused(Refusal),
}

impl Answers {
    /// `details`: what only root may see on the socket is shown.
    pub(super) fn new(requests: Requests, details: bool) -> Self {
        let state = State { kept: HashMap::new(), left: (REPORTS.1, Instant::now()) };
        Self { requests, details, state: Mutex::new(state) }
    }

    pub(super) async fn to(&self, route: Route) -> Response<Body> {
        let answer = match route {
            Route::Home => return home(),
            Route::Metrics => self.kept(Asked::Metrics).await.map(metrics),
            Route::Health => self.kept(Asked::Status).await.map(|_| response::plain(StatusCode::OK, "ok\n")),
            Route::Ready => self.kept(Asked::Status).await.map(|status| ready(&status)),
            Route::Api(api) => self.json(api).await,
            Route::Report(kill) => self.page(kill).await,
        };
        answer.unwrap_or_else(|none| none.into_response(self.details))
    }

    async fn json(&self, api: Api) -> Result<Response<Body>, NoAnswer> {
        let asked = match api {
            Api::Status => Asked::Status,
            Api::Workers => Asked::Workers,
            Api::Explain => Asked::Explain,
            Api::Kills => Asked::Kills,
            Api::Samples => Asked::Samples,
            Api::Kill(kill) => {
                let report = self.report(kill).await?;
                return Ok(response::of(StatusCode::OK, JSON, report + "\n"));
            }
        };
        let text = self.kept(asked).await?;
        Ok(response::of(StatusCode::OK, JSON, text + "\n"))
    }

    async fn page(&self, kill: u64) -> Result<Response<Body>, NoAnswer> {
        let report = self.report(kill).await?;
        let report: Report = serde_json::from_str(&report).map_err(|_| NoAnswer::Silent)?;
        let series = self.ask(Op::Samples { kill: Some(kill) }).await?.ok();
        let series: Option<Series> = series.and_then(|series| serde_json::from_str(series.get()).ok());
        Ok(response::of(
            StatusCode::OK,
            HTML,
            page::report(&report, series.as_ref(), report.kill.at.as_deref()),
        ))
    }

    async fn report(&self, kill: u64) -> Result<String, NoAnswer> {
        self.take_one()?;
        let report = self.ask(Op::Report { kill }).await?;
        report.map(|text| text.get().to_owned()).map_err(NoAnswer::Refused)
    }

    /// One report of those that may be asked for.
    fn take_one(&self) -> Result<(), NoAnswer> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = state.left;
        let now = Instant::now();
        let left = REPORTS.0.mul_add(now.duration_since(at).as_secs_f64(), left).min(REPORTS.1);
        if left < 1.0 {
            state.left = (left, now);
            return Err(NoAnswer::TooMany);
        }
        state.left = (left - 1.0, now);
        Ok(())
    }

    /// An answer that is the same for all, not older than [`FRESH`].
    async fn kept(&self, asked: Asked) -> Result<String, NoAnswer> {
        let fresh = |state: &State| {
            let (at, text) = state.kept.get(&asked)?;
            (at.elapsed() < FRESH).then(|| text.clone())
        };
        if let Some(text) = fresh(&self.state.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(text);
        }
        let answer = self.ask(asked.op()).await?.map_err(NoAnswer::Refused)?;
        let text = answer.get().to_owned();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.kept.insert(asked, (Instant::now(), text.clone()));
        Ok(text)
    }

    /// Asks the loop.
    async fn ask(&self, op: Op) -> Result<Answered, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        // Nothing is pushed to it.
        let (pushes, _) = mpsc::channel(1);
        let uid = if self.details { ROOT } else { STRANGER };
        let peer = Peer { connection: NOT_ON_THE_SOCKET, uid, pushes };
        let asking = async {
            self.requests.send(Request::Call { peer, op, reply }).await.ok()?;
            answer.await.ok()
        };
        timeout(LOOP, asking).await.ok().flatten().ok_or(NoAnswer::Silent)
    }
}

impl NoAnswer {
    fn into_response(self, details: bool) -> Response<Body> {
        match self {
            Self::Silent => response::plain(StatusCode::SERVICE_UNAVAILABLE, "The agent does not answer.\n"),
            Self::TooMany => {
                response::plain(StatusCode::TOO_MANY_REQUESTS, "Too many reports at once: try again.\n")
            }
            Self::Refused(refusal) => {
                let status = match refusal.code {
                    RefusalCode::NotFound => StatusCode::NOT_FOUND,
                    RefusalCode::Denied => StatusCode::FORBIDDEN,
                    RefusalCode::Malformed
                    | RefusalCode::Invalid
                    | RefusalCode::Duplicate
                    | RefusalCode::Busy
                    | RefusalCode::Timeout
                    | RefusalCode::Failed => StatusCode::SERVICE_UNAVAILABLE,
                };
                let hint = if status == StatusCode::FORBIDDEN && !details {
                    "\nReports are shown over HTTP with http_details = true; on the node: monitor kills N."
                } else {
                    ""
                };
                response::plain(status, format!("{}{hint}\n", refusal.message))
            }
        }
    }
}

/// The live page.
fn home() -> Response<Body> {
    match live::page() {
        Ok((page, policy)) => response::with_policy(page, &policy),
        Err(error) => response::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// The text in its quotes.
fn metrics(quoted: String) -> Response<Body> {
    match serde_json::from_str::<String>(&quoted) {
        Ok(text) => response::of(StatusCode::OK, OPEN_METRICS, text),
        Err(error) => response::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Ready: it kills if it should, and reads all that it guards.
fn ready(status: &str) -> Response<Body> {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let enforces = status["kills"] == true && status["dry_run"] == false;
    if enforces && status["protects"] != true {
        let text = "It could not kill a worker if memory ran out: see monitor doctor.\n";
        return response::plain(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let unreadable = |domain: &&Value| domain["error"].is_string();
    if let Some(domain) = status["domains"].as_array().and_then(|all| all.iter().find(unreadable)) {
        let text = format!("{}: {}\n", domain["domain"], domain["error"]);
        return response::plain(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    response::plain(StatusCode::OK, "ready\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> (Answers, mpsc::Receiver<Request>) {
        let (requests, calls) = mpsc::channel(8);
        (Answers::new(requests, false), calls)
    }

    #[test]
    fn reports_are_bounded_and_come_again() {
        let (answers, _calls) = answers();
        let given = (0..1000).filter(|_| answers.take_one().is_ok()).count();
        assert!((40..60).contains(&given), "{given}");
        answers.state.lock().unwrap().left.1 -= Duration::from_secs(1);
        assert!(answers.take_one().is_ok());
    }

    #[tokio::test]
    async fn a_thousand_requests_at_once_ask_the_loop_once() {
        let (answers, mut calls) = answers();
        let the_loop = tokio::spawn(async move {
            let mut asked = 0;
            while let Some(Request::Call { peer, reply, .. }) = calls.recv().await {
                assert_eq!(peer.uid, STRANGER);
                asked += 1;
                let _ = reply.send(Ok(RawValue::from_string("{}".to_owned()).unwrap()));
            }
            asked
        });
        for _ in 0..1000 {
            let response = answers.to(Route::Api(Api::Status)).await;
            assert_eq!(response.status(), StatusCode::OK);
        }
        drop(answers);
        assert!(the_loop.await.unwrap() < 10);
    }

    #[test]
    fn ready_is_an_agent_that_does_what_it_should() {
        let of = |protects: bool, dry_run: bool, error: Value| {
            let status = serde_json::json!({"kills": true, "dry_run": dry_run, "protects": protects,
                                            "domains": [{"domain": "node", "error": error}]});
            ready(&status.to_string()).status()
        };
        assert_eq!(of(true, false, Value::Null), StatusCode::OK);
        assert_eq!(of(false, true, Value::Null), StatusCode::OK);
        assert_eq!(of(false, false, Value::Null), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(of(true, false, "gone".into()), StatusCode::SERVICE_UNAVAILABLE);
    }
}
