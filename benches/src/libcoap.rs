//! libcoap's own server, the field's most complete one, as a baseline for CoAP.
//!
//! Owns its process, and the resource that it is given. Must not know what it is
//! compared with.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use tinyfaas_coap::message::{Code, Message};

use crate::bare_hyper::body;
use crate::load::coap::{Target, ask, request};

/// Without TLS it is smaller; both packages of Debian's libcoap3-bin will do.
const PROGRAMS: [&str; 2] = ["coap-server-notls", "coap-server"];
/// What to say where it is missing.
pub(crate) const MISSING: &str = "no coap-server on the PATH (Debian: libcoap3-bin)";
/// The resource of it that takes a PUT and gives it back, from memory.
const RESOURCE: &str = "example_data";
/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running server of libcoap's; it ends with this.
#[derive(Debug)]
pub(crate) struct Libcoap {
    child: Child,
    address: SocketAddr,
}

impl Libcoap {
    /// Starts it on a port of the kernel's choice; `None` where it is not installed.
    ///
    /// # Errors
    /// Where it does not start.
    pub(crate) fn start() -> anyhow::Result<Option<Self>> {
        let Some(program) = program() else { return Ok(None) };
        let shown = program.display().to_string();
        let child = Command::new(&program)
            .args(["-A", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let mut server = Self { child, address: (Ipv4Addr::LOCALHOST, 0).into() };
        server.address = server.wait_until_bound().context(shown)?;
        Ok(Some(server))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives its resource such a body that replies have so many bytes with all
    /// that stands around it; what to ask for it.
    ///
    /// # Errors
    /// Where it does not answer, or a reply cannot be so short.
    pub(crate) fn replying(&self, datagram_bytes: usize) -> anyhow::Result<Target> {
        let mut length = datagram_bytes;
        // Once to see what stands around a body, once more to be sure.
        for _ in 0..3 {
            let body = Bytes::from(body(length));
            self.put(body.clone())?;
            let reply = ask(self.address, &request(Code::GET, &[RESOURCE]))?;
            ensure!(reply.response.payload == body, "libcoap's server gives back something else");
            if reply.datagram_bytes == datagram_bytes {
                return Ok(Target::fixed(self.address, &[RESOURCE], body));
            }
            let around = reply.datagram_bytes - length;
            length = datagram_bytes
                .checked_sub(around)
                .with_context(|| format!("libcoap's replies have {around} bytes without body"))?;
        }
        bail!("libcoap's server sends no replies of {datagram_bytes} bytes");
    }

    fn put(&self, body: Bytes) -> anyhow::Result<()> {
        let put = Message { payload: body, ..request(Code::PUT, &[RESOURCE]) };
        let code = ask(self.address, &put)?.response.code;
        ensure!(code.is_success(), "libcoap's server answers PUT /{RESOURCE} with {code}");
        Ok(())
    }

    /// It does not tell the port that it was given, but the kernel does.
    fn wait_until_bound(&mut self) -> anyhow::Result<SocketAddr> {
        let begun = Instant::now();
        loop {
            if let Some(port) = udp_port(self.pid()) {
                return Ok((Ipv4Addr::LOCALHOST, port).into());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status} instead of listening");
            }
            ensure!(begun.elapsed() < PATIENCE, "it does not listen on UDP");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Libcoap {
    fn drop(&mut self) {
        // It keeps nothing that an orderly end would save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let named =
        |name: &&str| folders.iter().map(|folder| folder.join(name)).find(|it| it.is_file());
    PROGRAMS.iter().find_map(named)
}

/// The port of the first UDP socket over IPv4 that a process has bound.
fn udp_port(pid: u32) -> Option<u16> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/udp")).ok()?;
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let mut names = sockets.filter_map(|entry| fs::read_link(entry.path()).ok());
    names.find_map(|name| {
        let inode = name.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        port_of(&table, inode)
    })
}

/// The local port of a socket in `/proc/net/udp` (proc_net(5): the second column is
/// the local address, the tenth the inode).
fn port_of(table: &str, inode: u64) -> Option<u16> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (_, port) = columns.get(1)?.split_once(':')?;
        let found = columns.get(9)?.parse::<u64>().ok()?;
        u16::from_str_radix(port, 16).ok().filter(|port| found == inode && *port != 0)
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_processes_port_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\
                     \x20  uid  timeout inode ref pointer drops\n\
                     4244: 0100007F:B7B4 00000000:0000 07 00000000:00000000 00:00000000 00000000\
                     \x20    0        0 7475204 2 00000000f71122dc 0\n";
        assert_eq!(port_of(table, 7_475_204), Some(0xb7b4));
        assert_eq!(port_of(table, 7_475_205), None);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        assert!(socket.local_addr().is_ok());
        assert!(udp_port(std::process::id()).is_some());
        assert_eq!(udp_port(u32::MAX), None);
    }
}
