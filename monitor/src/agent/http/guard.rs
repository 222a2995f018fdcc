//! For which hosts requests are answered. A web page in a user's browser can reach this machine by a name of its own
//! that leads to 127.0.0.1 (DNS rebinding), and could then read what is served: a request must name an address,
//! `localhost`, this machine, or a host that the configuration allows. Pure, but for the machine's name.

use std::net::IpAddr;

/// See the module.
pub(super) struct Hosts {
    /// In small letters.
    names: Vec<String>,
}

impl Hosts {
    /// `allowed` by the configuration, in small letters.
    pub(super) fn new(allowed: &[String]) -> Self {
        let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let names = allowed.iter().cloned().chain(["localhost".to_owned(), own]);
        Self { names: names.filter(|name| !name.is_empty()).collect() }
    }

    /// Whether a request with this header, and this host in its target if it has one, is answered.
    pub(super) fn allow(&self, header: Option<&str>, target: Option<&str>) -> bool {
        // A browser always sends the header. Without one it is HTTP/1.0, of a program.
        let named = header.is_none_or(|header| self.knows(without_port(header)));
        named && target.is_none_or(|host| self.knows(host))
    }

    fn knows(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        bare.parse::<IpAddr>().is_ok() || self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_answered_and_no_others() {
        let hosts = Hosts { names: ["localhost", "node1", "a.example.org"].map(str::to_owned).into() };
        let good = [
            "127.0.0.1",
            "127.0.0.1:9464",
            "[::1]",
            "[::1]:9464",
            "10.1.2.3:1",
            "localhost:9464",
            "LOCALHOST",
            "node1:80",
            "a.example.org:9464",
            "a.example.org.",
        ];
        for host in good {
            assert!(hosts.allow(Some(host), None), "{host}");
            assert!(hosts.allow(None, Some(without_port(host))), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:9464",
            "node1.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a.example.org.evil",
            "[evil]:1",
            "127.0.0.1@evil",
            "127.0.0.1 evil",
        ] {
            assert!(!hosts.allow(Some(host), None), "{host}");
        }
        assert!(hosts.allow(None, None));
        assert!(!hosts.allow(Some("localhost"), Some("evil.example")));
    }
}
