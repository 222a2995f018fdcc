//! The form of every answer: its type, and the headers that keep a browser from making more of it than it is. Knows
//! nothing of what is answered.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};

/// What an answer holds.
pub(super) type Body = Full<Bytes>;

/// OpenMetrics 1.0, "Overall Structure".
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What an answer may do in a browser: show itself. The live page has a policy of its own.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The answer with its headers.
pub(super) fn of(status: StatusCode, kind: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    let headers: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A line for people.
pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    of(status, TEXT, text.into())
}

/// A page with scripts of its own, under its own policy.
pub(super) fn with_policy(page: String, policy: &str) -> Response<Body> {
    let mut response = of(StatusCode::OK, HTML, page);
    if let Ok(policy) = HeaderValue::from_str(policy) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

pub(super) fn foreign_host() -> Response<Body> {
    let text = "This host name is not answered: use the address, or allow the name with http_hosts.\n";
    plain(StatusCode::FORBIDDEN, text)
}

pub(super) fn only_reading() -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET: nothing is changed over HTTP.\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}
