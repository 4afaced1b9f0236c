//! Telling the service manager how the server does (sd_notify(3)).
//!
//! Owns the protocol: datagrams to the socket that `NOTIFY_SOCKET` names. Without
//! one, nothing is told. Must not know what the server does.

use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

/// How long a service manager that does not read may hold the server up.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager, if there is one that wants to know.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    /// How often the manager wants a sign of life, if at all.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    pub(crate) fn from_environment() -> Self {
        Self::named(
            env::var_os("NOTIFY_SOCKET"),
            watchdog(env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok(), process::id()),
        )
    }

    fn named(name: Option<OsString>, watchdog: Option<Duration>) -> Self {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Self { socket: None, watchdog: None };
        };
        match connect(&name) {
            Ok(socket) => Self { socket: Some(socket), watchdog },
            Err(error) => {
                let name = name.display();
                tracing::warn!("the service manager cannot be told anything at {name}: {error}");
                Self { socket: None, watchdog: None }
            }
        }
    }

    /// The server takes calls; `status` is for people.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The server has begun to stop.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// Gives signs of life at half the time that the manager waits for one. Never
    /// returns; whoever runs it shows by that that its runtime gets on.
    pub(crate) async fn stay_alive(&self) -> Infallible {
        let Some(watchdog) = self.watchdog else { return std::future::pending().await };
        let mut beat = tokio::time::interval(watchdog / 2);
        loop {
            beat.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(state.as_bytes())) {
            tracing::warn!("the service manager was not told {state:?}: {error}");
        }
    }
}

/// A path, or `@` and the name of a socket in the abstract namespace.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("neither a path nor an abstract name (@…)")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// How often this process is asked for a sign of life (sd_watchdog_enabled(3)).
fn watchdog(microseconds: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid != own_pid.to_string()) {
        return None;
    }
    let microseconds = microseconds?.parse().ok().filter(|microseconds| *microseconds > 0)?;
    Some(Duration::from_micros(microseconds))
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        listener.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let mut bytes = [0; 256];
        let count = listener.recv(&mut bytes).expect("something is told");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    fn check(name: &OsStr, listener: &UnixDatagram) {
        let manager = Manager::named(Some(name.to_owned()), None);
        manager.ready("calls on\nport 1");
        assert_eq!(heard(listener), "READY=1\nSTATUS=calls on port 1");
        manager.stopping("until calls have ended");
        assert_eq!(heard(listener), "STOPPING=1\nSTATUS=until calls have ended");
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().expect("room");
        let path = dir.path().join("notify");
        check(path.as_os_str(), &UnixDatagram::bind(&path).expect("bound"));
        let name = format!("tinyfaas-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("short enough");
        let listener = UnixDatagram::bind_addr(&address).expect("bound");
        check(OsStr::new(&format!("@{name}")), &listener);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for name in [None, Some(""), Some("relative"), Some("/no/such/socket")] {
            let manager = Manager::named(name.map(OsString::from), Some(Duration::from_secs(1)));
            manager.ready("to nobody");
            assert!(manager.socket.is_none() && manager.watchdog.is_none(), "{name:?}");
        }
    }

    #[test]
    fn the_watchdog_is_this_process_own() {
        let asked = |usec: &str, pid: Option<&str>| {
            watchdog(Some(usec.to_owned()), pid.map(str::to_owned), 7)
        };
        assert_eq!(asked("2000000", None), Some(Duration::from_secs(2)));
        assert_eq!(asked("2000000", Some("7")), Some(Duration::from_secs(2)));
        assert_eq!(asked("2000000", Some("8")), None);
        assert_eq!(asked("0", None), None);
        assert_eq!(asked("often", None), None);
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_come_at_half_the_time() {
        let dir = tempfile::tempdir().expect("room");
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).expect("bound");
        let manager = Manager::named(Some(path.into()), Some(Duration::from_secs(4)));
        let alive = tokio::time::timeout(Duration::from_secs(5), manager.stay_alive());
        assert!(alive.await.is_err(), "it goes on for ever");
        listener.set_nonblocking(true).expect("a socket");
        let beats = std::iter::from_fn(|| listener.recv(&mut [0; 64]).ok()).count();
        assert_eq!(beats, 3);
    }
}
