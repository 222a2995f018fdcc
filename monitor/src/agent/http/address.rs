//! The address that HTTP is served at (`http_listen`). An address that cannot be bound ends no agent: workers are guarded without
//! it. The agent says why and what to do, `status` shows it, and it is tried again.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use crate::control::answers::HttpView;

/// How long after a failed try the next one comes.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// What became of it, for the agent's loop and the thread that serves. Without a view nothing is to be served.
#[derive(Debug, Clone, Default)]
pub(in crate::agent) struct Serving(Arc<Mutex<Option<HttpView>>>);

impl Serving {
    /// For `status`.
    pub(in crate::agent) fn view(&self) -> Option<HttpView> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The listener; `None`: this try failed.
    pub(super) fn bind(&self, address: SocketAddr) -> Option<TcpListener> {
        match listen(address) {
            Ok(listener) => {
                // With port 0 the kernel chose one.
                let address = listener.local_addr().unwrap_or(address);
                self.set(HttpView { address, error: None });
                tracing::info!(
                    "the live page is at http://{address}/, the metrics at http://{address}/metrics"
                );
                Some(listener)
            }
            Err(error) => {
                let (todo, every) = (remedy(address, &error), AGAIN.as_secs());
                self.fail(address, format!("{error}. {todo}. The agent retries every {every} s"));
                None
            }
        }
    }

    /// Nothing is served, for this reason. Said once for each reason: the next try is seconds away.
    pub(super) fn fail(&self, address: SocketAddr, why: String) {
        let before = self.set(HttpView { address, error: Some(why.clone()) });
        if before.and_then(|view| view.error).as_ref() != Some(&why) {
            tracing::error!("nothing is served over HTTP at {address} (http_listen): {why}");
        }
    }

    fn set(&self, view: HttpView) -> Option<HttpView> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(view)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What to do about an address that cannot be bound.
fn remedy(address: SocketAddr, error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::AFNOSUPPORT) if address.is_ipv6() => {
            "Allow the unit the network (docs/http.md), or name an IPv4 address where there is no IPv6"
        }
        // RestrictAddressFamilies= of the unit, or a filter of system calls.
        Some(Errno::AFNOSUPPORT | Errno::PERM) => "Allow the unit the network: docs/http.md has the drop-in",
        Some(Errno::ADDRINUSE) => {
            "End the program that has this port, which answers in the agent's place, or name another port"
        }
        Some(Errno::ADDRNOTAVAIL) => {
            "Name an address of this machine; a unit with PrivateNetwork=yes has no other than loopback (docs/http.md)"
        }
        Some(Errno::ACCESS) => "Name a port above 1023, or allow CAP_NET_BIND_SERVICE",
        _ => "See docs/http.md",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_said_with_what_to_do_and_had_when_it_is_free() {
        let serving = Serving::default();
        assert_eq!(serving.view(), None);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(serving.bind(address).is_none());
        let why = serving.view().unwrap().error.unwrap();
        assert!(why.contains("in use") && why.contains("name another port") && why.contains("5 s"), "{why}");
        drop(taken);
        let listener = serving.bind(address).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        assert_eq!(serving.view(), Some(HttpView { address, error: None }));
    }

    #[test]
    fn each_reason_has_its_remedy() {
        let of = |address: &str, errno: Errno| remedy(address.parse().unwrap(), &errno.into());
        assert!(of("127.0.0.1:1", Errno::AFNOSUPPORT).contains("drop-in"));
        assert!(of("[::1]:1", Errno::AFNOSUPPORT).contains("IPv4"));
        assert!(of("10.0.0.1:1", Errno::ADDRNOTAVAIL).contains("PrivateNetwork"));
        assert!(of("127.0.0.1:80", Errno::ACCESS).contains("CAP_NET_BIND_SERVICE"));
        assert!(of("127.0.0.1:1", Errno::NOMEM).contains("docs/http.md"));
    }
}
