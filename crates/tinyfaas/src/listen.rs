//! Binding the endpoints' sockets.
//!
//! Owns which addresses an endpoint's setting means and the one port of both
//! families, for connections and for datagrams. Must not know what is served on
//! them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Endpoint, Transport};

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
    /// One for each address, not blocking.
    sockets: Vec<Socket>,
    /// Addresses that this host lacks, with the system's word for it.
    pub(crate) skipped: Vec<String>,
}

impl Bound {
    /// Takes the sockets out, as what they are: `TcpListener`s or `UdpSocket`s.
    pub(crate) fn take<S: From<Socket>>(&mut self) -> Vec<S> {
        std::mem::take(&mut self.sockets).into_iter().map(S::from).collect()
    }
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
    let mut bound = Bound { port, sockets: Vec::new(), skipped: Vec::new() };
    let mut last = None;
    for ip in addresses {
        let address = SocketAddr::new(*ip, bound.port);
        let socket = open(endpoint.transport, address).and_then(|socket| {
            let local = socket.local_addr()?.as_socket();
            bound.port = local.map_or(bound.port, |local| local.port());
            Ok(socket)
        });
        match socket {
            Ok(socket) => bound.sockets.push(socket),
            Err(error) if family_missing(&error) => {
                bound.skipped.push(format!("{ip} ({error})"));
                last = Some((address, error));
            }
            Err(problem) => return Err(failure(endpoint, address, problem)),
        }
    }
    match last {
        Some((address, problem)) if bound.sockets.is_empty() => {
            Err(failure(endpoint, address, problem))
        }
        _ => Ok(bound),
    }
}

fn open(transport: Transport, address: SocketAddr) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    match transport {
        Transport::Tcp => {
            // Else a restart within a minute finds its port taken by dead connections.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
        }
        // Not so here: two servers would share the port, and each lose what the
        // other gets.
        Transport::Udp => socket.bind(&address.into())?,
    }
    Ok(socket)
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
    let variable = endpoint.variable();
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

    const LOOPBACK: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

    fn endpoint(transport: Transport, addresses: &[IpAddr]) -> Endpoint {
        Endpoint { name: "coap-x", transport, port: Some(0), addresses: addresses.to_vec() }
    }

    fn check_both_families(transport: Transport) {
        let mut bound = bind(&endpoint(transport, &LOOPBACK), 0).expect("a free port");
        assert_ne!(bound.port, 0);
        assert_eq!(bound.sockets.len() + bound.skipped.len(), 2);
        for socket in bound.take::<Socket>() {
            let address = socket.local_addr().expect("bound").as_socket().expect("of IP");
            assert_eq!(address.port(), bound.port);
            assert!(socket.nonblocking().expect("a socket"));
        }
    }

    #[test]
    fn both_families_share_one_port() {
        check_both_families(Transport::Tcp);
        check_both_families(Transport::Udp);
    }

    fn check_in_use(transport: Transport) {
        let first = bind(&endpoint(transport, &LOOPBACK[..1]), 0).expect("a free port");
        let taken = bind(&endpoint(transport, &LOOPBACK[..1]), first.port);
        let error = taken.expect_err("taken").to_string();
        assert!(error.contains(&format!("127.0.0.1:{} for coap-x", first.port)), "{error}");
        assert!(error.contains("COAP_X_PORT=0 takes any free one"), "{error}");
        let other = match transport {
            Transport::Tcp => Transport::Udp,
            Transport::Udp => Transport::Tcp,
        };
        let beside = bind(&endpoint(other, &LOOPBACK[..1]), first.port);
        assert!(beside.is_ok(), "TCP and UDP have ports of their own: {beside:?}");
    }

    #[test]
    fn a_port_in_use_is_named() {
        check_in_use(Transport::Tcp);
        check_in_use(Transport::Udp);
    }
}
