//! A UDP socket that knows which of the host's addresses a datagram was sent to,
//! and sends from any of them.
//!
//! Owns the control messages for it (RFC 3542 section 6, ip(7)). Must not know
//! what the datagrams hold.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A socket of one address family.
pub(super) struct Socket {
    udp: UdpSocket,
    address: SocketAddr,
    /// Room for what the kernel tells with a datagram.
    control: Vec<u8>,
    received: u64,
    sent: Cell<u64>,
}

/// A datagram that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Bytes of it, at the buffer's start.
    pub(super) bytes: usize,
    /// Who sent it.
    pub(super) remote: SocketAddr,
    /// The address of ours that it was sent to.
    pub(super) local: IpAddr,
    /// It was sent to a group or to everyone in a network.
    pub(super) to_many: bool,
}

impl Socket {
    /// Takes over a bound socket that does not block.
    ///
    /// # Errors
    /// The system's, where it cannot be used so.
    pub(super) fn new(udp: StdSocket) -> io::Result<Self> {
        let address = udp.local_addr()?;
        if address.ip().is_unspecified() {
            match address {
                SocketAddr::V4(_) => setsockopt(&udp, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&udp, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        let control = cmsg_space!(in6_pktinfo, in_pktinfo);
        let udp = UdpSocket::from_std(udp)?;
        Ok(Self { udp, address, control, received: 0, sent: Cell::new(0) })
    }

    /// How many datagrams have come.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// How many have left.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Where it is bound.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether datagrams from this address of ours leave here.
    pub(super) fn serves(&self, local: IpAddr) -> bool {
        let own = self.address.ip();
        own == local || (own.is_unspecified() && own.is_ipv4() == local.is_ipv4())
    }

    /// The next datagram, written to the buffer's start. One that is longer than
    /// the buffer is cut off.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Arrival>> {
        loop {
            ready!(self.udp.poll_recv_ready(cx))?;
            let (udp, control, own) = (&self.udp, &mut self.control, self.address.ip());
            let read = if own.is_unspecified() {
                udp.try_io(Interest::READABLE, || receive(udp, buffer, control))
            } else {
                let to_many = own.is_multicast();
                udp.try_recv_from(buffer).map(|(bytes, remote)| Arrival {
                    bytes,
                    remote,
                    local: own,
                    to_many,
                })
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => {
                    self.received += u64::from(other.is_ok());
                    return Poll::Ready(other);
                }
            }
        }
    }

    /// Sends a datagram from that address of ours.
    ///
    /// # Errors
    /// The system's; where nothing can be sent now, that it would block.
    pub(super) fn send(
        &self,
        remote: SocketAddr,
        local: IpAddr,
        datagram: &[u8],
    ) -> io::Result<()> {
        // Nothing leaves from ::1 or 127.0.0.1 but by the usual choice.
        if self.address.ip().is_unspecified() {
            let udp = &self.udp;
            udp.try_io(Interest::WRITABLE, || send(udp, remote, local, datagram))?;
        } else {
            self.udp.try_send_to(datagram, remote)?;
        }
        self.sent.set(self.sent.get() + 1);
        Ok(())
    }
}

fn receive(udp: &UdpSocket, buffer: &mut [u8], control: &mut Vec<u8>) -> io::Result<Arrival> {
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(
        udp.as_raw_fd(),
        &mut parts,
        Some(control.as_mut_slice()),
        flags,
    )?;
    let bytes = message.bytes;
    let unknown = || io::Error::other("the system does not say where a datagram is from");
    let address = message.address.ok_or_else(unknown)?;
    let remote = (address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4)))
        .or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
        .ok_or_else(unknown)?;
    let untold = || io::Error::other("the system does not say where a datagram was sent to");
    let (local, to_many) = message.cmsgs()?.find_map(target).ok_or_else(untold)?;
    Ok(Arrival { bytes, remote, local, to_many })
}

/// The address of ours that a datagram was sent to, and whether it was sent to
/// others too.
fn target(told: ControlMessageOwned) -> Option<(IpAddr, bool)> {
    match told {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let header = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
            let own = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
            Some((own.into(), header != own))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let header = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            Some((header.into(), header.is_multicast()))
        }
        _ => None,
    }
}

fn send(udp: &UdpSocket, remote: SocketAddr, local: IpAddr, datagram: &[u8]) -> io::Result<()> {
    let parts = [IoSlice::new(datagram)];
    let to = SockaddrStorage::from(remote);
    let (flags, socket) = (MsgFlags::MSG_DONTWAIT, udp.as_raw_fd());
    match local {
        IpAddr::V4(local) => {
            let own = in_addr { s_addr: u32::from_ne_bytes(local.octets()) };
            let info =
                in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: own, ipi_addr: in_addr { s_addr: 0 } };
            sendmsg(socket, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))?;
        }
        IpAddr::V6(local) => {
            let own = in6_addr { s6_addr: local.octets() };
            let info = in6_pktinfo { ipi6_addr: own, ipi6_ifindex: 0 };
            sendmsg(socket, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A datagram that was sent to `asked` is answered from there.
    async fn check(bound: &str, asked: &str) {
        let udp = StdSocket::bind((bound, 0)).expect("a free port");
        udp.set_nonblocking(true).expect("a socket");
        let mut socket = Socket::new(udp).expect("a socket");
        let port = socket.address().port();
        let client = UdpSocket::bind((asked, 0)).await.expect("a free port");
        client.connect((asked, port)).await.expect("loopback");
        client.send(b"hello").await.expect("sent");
        let mut buffer = [0; 64];
        let arrival = poll_fn(|cx| socket.poll_receive(cx, &mut buffer)).await.expect("it came");
        let local: IpAddr = asked.parse().expect("an address");
        let remote = client.local_addr().expect("bound");
        assert_eq!(arrival, Arrival { bytes: 5, remote, local, to_many: false }, "{bound} {asked}");
        assert!(socket.serves(local));
        socket.send(remote, local, b"there").expect("sent");
        // A connected socket takes nothing from another address.
        assert_eq!(client.recv(&mut buffer).await.expect("an answer"), 5);
    }

    #[tokio::test]
    async fn answers_leave_from_the_address_that_was_asked() {
        check("0.0.0.0", "127.0.0.1").await;
        check("0.0.0.0", "127.0.0.2").await;
        check("127.0.0.1", "127.0.0.1").await;
        check("::1", "::1").await;
    }
}
