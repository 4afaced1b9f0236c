//! Binding the endpoints' sockets.
//!
//! Owns which addresses an endpoint's setting means and the one port of both
//! families. Must not know what is served on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Endpoint;

/// Connections that may wait to be accepted; the kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// How often another port is tried where the kernel's choice for the first
/// family is taken in the second.
const PORT_TRIES: usize = 32;

/// The sockets of one endpoint.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The port that all of them have.
    pub(crate) port: u16,
    /// One for each address.
    pub(crate) listeners: Vec<TcpListener>,
    /// Addresses that this host lacks, with the system's word for it.
    pub(crate) skipped: Vec<String>,
}

/// Why an endpoint has no sockets.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {endpoint}: {problem}; {advice}")]
pub(crate) struct ListenError {
    endpoint: &'static str,
    address: SocketAddr,
    problem: io::Error,
    advice: String,
}

/// Binds all addresses of an endpoint to one port.
///
/// # Errors
/// Names the address and what to do.
pub(crate) fn bind(endpoint: &Endpoint, port: u16) -> Result<Bound, ListenError> {
    let all = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    let addresses = if endpoint.addresses.is_empty() { &all } else { &endpoint.addresses[..] };
    let mut tries = PORT_TRIES;
    loop {
        match bind_all(endpoint, addresses, port) {
            Err(error) if port == 0 && tries > 0 && in_use(&error.problem) => tries -= 1,
            other => return other,
        }
    }
}

fn bind_all(endpoint: &Endpoint, addresses: &[IpAddr], port: u16) -> Result<Bound, ListenError> {
    let mut bound = Bound { port, listeners: Vec::new(), skipped: Vec::new() };
    let mut last = None;
    for ip in addresses {
        let address = SocketAddr::new(*ip, bound.port);
        let listener = listen(address).and_then(|listener| {
            bound.port = listener.local_addr()?.port();
            Ok(listener)
        });
        match listener {
            Ok(listener) => bound.listeners.push(listener),
            Err(error) if family_missing(&error) => {
                bound.skipped.push(format!("{ip} ({error})"));
                last = Some((address, error));
            }
            Err(problem) => return Err(failure(endpoint, address, problem)),
        }
    }
    match last {
        Some((address, problem)) if bound.listeners.is_empty() => {
            Err(failure(endpoint, address, problem))
        }
        _ => Ok(bound),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Else a restart within a minute finds its port taken by dead connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Whether the host has no such address family, or (as containers often are set
/// up) has it without its loopback address.
fn family_missing(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn failure(endpoint: &Endpoint, address: SocketAddr, problem: io::Error) -> ListenError {
    let name = endpoint.name;
    let variable = name.to_ascii_uppercase();
    let advice = if in_use(&problem) {
        format!("stop what uses that port, or give another: {variable}_PORT=0 takes any free one")
    } else if problem.kind() == io::ErrorKind::PermissionDenied {
        format!("ports under 1024 need root; give another by {variable}_PORT")
    } else {
        format!("see {variable}_ADDRESS and {variable}_PORT")
    };
    ListenError { endpoint: name, address, problem, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(addresses: &[IpAddr]) -> Endpoint {
        Endpoint { name: "http", port: Some(0), addresses: addresses.to_vec() }
    }

    #[test]
    fn both_families_share_one_port() {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let bound = bind(&endpoint(&both), 0).expect("a free port");
        assert_ne!(bound.port, 0);
        assert_eq!(bound.listeners.len() + bound.skipped.len(), 2);
        for listener in &bound.listeners {
            assert_eq!(listener.local_addr().expect("bound").port(), bound.port);
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let first = bind(&endpoint(&loopback), 0).expect("a free port");
        let error = bind(&endpoint(&loopback), first.port).expect_err("taken").to_string();
        assert!(error.contains(&format!("127.0.0.1:{}", first.port)), "{error}");
        assert!(error.contains("HTTP_PORT"), "{error}");
    }
}
