//! The listening socket: both address families where there are two.
//!
//! Listening sockets are opened here and nowhere else; [`super::server`] accepts from them.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// Connections in the backlog; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// The receive buffer of a connection. The kernel doubles it, for what it adds to each segment, and
/// never enlarges one that was set. All connections can fill theirs at the same time, before anything
/// is read.
pub const RECEIVE_BYTES: usize = 6 * 1024;

/// The send buffer of a connection: the smallest that there is. The kernel takes a whole segment, up
/// to 64 KiB, nevertheless; but it reports a connection as writable only once it keeps at most
/// 3 KiB for it.
pub const SEND_BYTES: usize = 2 * 1024;

/// Listens on this address and port; port 0 lets the system choose.
///
/// `::` means all addresses of both families, and where the machine has no IPv6
/// all of IPv4.
///
/// # Errors
/// When the address is not one of the machine's, the port is in use, or permission is missing.
pub fn listen(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    match bind(ip, port) {
        Err(error) if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && lacks_ipv6(&error) => {
            bind(Ipv4Addr::UNSPECIFIED.into(), port)
        }
        other => other,
    }
}

fn bind(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    let domain = if ip.is_ipv6() {
        Domain::IPV6
    } else {
        Domain::IPV4
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if ip.is_ipv6() {
        socket.set_only_v6(ip != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    // Lingering connections of a previous process must not prevent the start.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit both.
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    socket.set_send_buffer_size(SEND_BYTES)?;
    socket.bind(&SocketAddr::new(ip, port).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The kernel has no IPv6 (EAFNOSUPPORT), or no IPv6 address (EADDRNOTAVAIL).
fn lacks_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn all_addresses_means_both_families() {
        let listener = listen(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let first = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listen(Ipv4Addr::LOCALHOST.into(), port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
