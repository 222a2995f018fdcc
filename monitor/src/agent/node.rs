//! Which node this is: for summaries, because a reader may have those of many nodes.

use std::net::{Ipv4Addr, UdpSocket};

use crate::report::summary::Node;

/// The machine id, else the host name; and the address that packets to elsewhere would come from. Sends none.
pub(super) fn identify() -> Node {
    let read = |path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let id = ["/etc/machine-id", "/proc/sys/kernel/hostname"]
        .into_iter()
        .filter_map(read)
        .find(|id| !id.is_empty())
        .unwrap_or_else(|| "unknown".to_owned());
    Node { id, ip: address().unwrap_or(Ipv4Addr::LOCALHOST.into()).to_string() }
}

/// Connecting a datagram socket chooses the route and with it the address. The target is one that documentation
/// uses (RFC 5737): any would do.
fn address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
