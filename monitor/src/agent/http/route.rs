//! From a request to what is asked for. Pure: a method and a path, or why there is no such thing.

use hyper::{Method, StatusCode, Uri};

use super::response::{self, Body};

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Route {
    /// The live page.
    Home,
    /// OpenMetrics text.
    Metrics,
    /// Whether the agent's loop turns.
    Health,
    /// Whether it does what it should.
    Ready,
    /// One of the socket's answers.
    Api(Api),
    /// A kill's report as a page.
    Report(u64),
}

/// The answers of the socket that are served as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Api {
    Status,
    Workers,
    /// For the domain that is nearest to its threshold.
    Explain,
    Kills,
    Kill(u64),
    Samples,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NoSuchPath,
    OnlyReading,
}

impl Refusal {
    pub(super) fn into_response(self) -> hyper::Response<Body> {
        match self {
            Self::NoSuchPath => response::plain(
                StatusCode::NOT_FOUND,
                "Not here. There are /, /metrics, /healthz, /readyz, /api/status, /api/workers, /api/explain, \
                 /api/kills, /api/kills/N, /api/samples and /kills/N.\n",
            ),
            Self::OnlyReading => response::only_reading(),
        }
    }
}

impl Route {
    /// # Errors
    /// Why there is none.
    pub(super) fn of(method: &Method, uri: &Uri) -> Result<Self, Refusal> {
        let route = Self::of_path(uri.path()).ok_or(Refusal::NoSuchPath)?;
        if method == Method::GET || method == Method::HEAD { Ok(route) } else { Err(Refusal::OnlyReading) }
    }

    fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Home,
            "/metrics" => Self::Metrics,
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/api/status" => Self::Api(Api::Status),
            "/api/workers" => Self::Api(Api::Workers),
            "/api/explain" => Self::Api(Api::Explain),
            "/api/samples" => Self::Api(Api::Samples),
            "/api/kills" => Self::Api(Api::Kills),
            path => match path.strip_prefix("/api/kills/") {
                Some(number) => Self::Api(Api::Kill(kill(number)?)),
                None => Self::Report(kill(path.strip_prefix("/kills/")?)?),
            },
        })
    }
}

/// A kill's number, as it is written: no sign, no zeros before it.
fn kill(number: &str) -> Option<u64> {
    let kill: u64 = number.parse().ok()?;
    (kill.to_string() == number).then_some(kill)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: Method, path: &str) -> Result<Route, Refusal> {
        Route::of(&method, &path.parse().unwrap())
    }

    #[test]
    fn only_what_is_there_can_be_asked_for_and_only_read() {
        for (path, is) in [
            ("/", Route::Home),
            ("/metrics", Route::Metrics),
            ("/healthz?x=1", Route::Health),
            ("/api/kills", Route::Api(Api::Kills)),
            ("/api/kills/7", Route::Api(Api::Kill(7))),
            ("/kills/18446744073709551615", Route::Report(u64::MAX)),
            ("http://host/readyz", Route::Ready),
        ] {
            assert_eq!(route(Method::GET, path), Ok(is.clone()), "{path}");
            assert_eq!(route(Method::HEAD, path), Ok(is), "{path}");
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT] {
                assert_eq!(route(method, path), Err(Refusal::OnlyReading), "{path}");
            }
        }
        for path in [
            "/metrics/",
            "/api",
            "/kills/",
            "/kills/+1",
            "/kills/01",
            "/kills/1/",
            "/kills/%31",
            "/../etc/passwd",
            "//",
        ] {
            assert_eq!(route(Method::GET, path), Err(Refusal::NoSuchPath), "{path}");
        }
    }
}
