//! A server of this same program, for as long as `tinyfaas dev` runs.
//!
//! Owns the child process and its temporary data directory.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cli::END_WITH;
use crate::client::{Address, Server, Trust};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::terminal::say;

/// Where functions are called unless that port is taken.
const HTTP_PORT: u16 = 8000;
/// The same over CoAP.
const COAP_PORT: u16 = 5683;
/// The same over gRPC.
const GRPC_PORT: u16 = 9000;
/// How long an ordinary stop may take: the server itself gives calls 10 s.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A server that is ready.
pub(super) struct LocalServer {
    child: Child,
    address: Address,
    data_dir: Option<TempDir>,
}

impl LocalServer {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not start; it has said why on standard error.
    pub(super) async fn start(http_port: Option<u16>) -> Result<Self, Failure> {
        let _progress = Progress::start("starting a server");
        let data_dir = tempfile::Builder::new().prefix("tinyfaas-dev-").tempdir();
        let data_dir = data_dir
            .map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))?;
        let asked = http_port.is_some();
        let http_port = http_port.unwrap_or_else(|| usual_or_any(HTTP_PORT));
        let mut child = spawn(&data_dir, http_port)?;
        let mut lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        loop {
            let line = match &mut lines {
                Some(lines) => lines.next_line().await,
                None => Ok(None),
            };
            match line {
                Ok(Some(line)) if line == "ready" => break,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    drop(child.wait().await);
                    return Err(Failure::failed("the server did not start; what it said is above"));
                }
            }
        }
        let ports = std::fs::read_to_string(data_dir.path().join("ports.json"));
        let ports: Value = ports
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
            .map_err(|why| Failure::failed(format!("the server's ports.json: {why}")))?;
        let address = Address::parse(&format!("http://localhost:{}", ports["management"]));
        let address = address.map_err(Failure::failed)?;
        let http = ports["http"].as_u64().unwrap_or(0);
        if http_port == 0 && !asked {
            say(format!("port {HTTP_PORT} is taken; this server's is {http}"));
        }
        say(format!("other commands find this server by TINYFAAS_SERVER={address}"));
        Ok(Self { child, address, data_dir: Some(data_dir) })
    }

    /// A client of it.
    pub(super) fn client(&self) -> Result<Server, Failure> {
        Server::at(self.address.clone(), Trust::default())
    }

    /// Waits until it ends by itself; says how.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops it, and removes what it leaves.
    pub(super) async fn stop(&mut self) {
        self.signal();
        if tokio::time::timeout(STOP_MAX, self.child.wait()).await.is_err() {
            drop(self.child.kill().await);
        }
        self.remove();
    }

    /// The same without waiting for running calls.
    pub(super) async fn stop_at_once(&mut self) {
        self.signal();
        drop(tokio::time::timeout(STOP_MAX, self.child.wait()).await);
        drop(self.child.kill().await);
        self.remove();
    }

    fn signal(&self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended a moment ago: then nobody is there to be told.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    fn remove(&mut self) {
        if let Some(Err(error)) = self.data_dir.take().map(TempDir::close) {
            say(format!("a temporary folder stays behind: {error}"));
        }
    }
}

/// The usual port if nobody listens there, else 0: any free one.
fn usual_or_any(port: u16) -> u16 {
    let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    if free { port } else { 0 }
}

/// The same for CoAP.
fn usual_or_any_coap() -> u16 {
    let free = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, COAP_PORT)).is_ok();
    if free { COAP_PORT } else { 0 }
}

fn spawn(data_dir: &TempDir, http_port: u16) -> Result<Child, Failure> {
    let flags = [
        ("--management-port", "0".to_owned()),
        ("--management-address", "localhost".to_owned()),
        ("--http-port", http_port.to_string()),
        ("--http-address", "localhost".to_owned()),
        ("--coap-port", usual_or_any_coap().to_string()),
        ("--coap-address", "localhost".to_owned()),
        ("--coap-tcp-port", "-1".to_owned()),
        ("--coaps-port", "-1".to_owned()),
        ("--coaps-tcp-port", "-1".to_owned()),
        // Whose variables and files speak of TLS mean another server.
        ("--tls-certificate", String::new()),
        ("--tls-key", String::new()),
        ("--tls-self-signed", "no".to_owned()),
        ("--acme-domains", String::new()),
        ("--tls-clients", "none".to_owned()),
        ("--tls-client-ca", String::new()),
        ("--management-clients", "none".to_owned()),
        ("--management-client-ca", String::new()),
        ("--https-port", "-1".to_owned()),
        ("--grpc-tls-port", "-1".to_owned()),
        ("--management-tls-port", "-1".to_owned()),
        ("--grpc-port", usual_or_any(GRPC_PORT).to_string()),
        ("--grpc-address", "localhost".to_owned()),
        ("--log-level", "warn".to_owned()),
        // Another user could not be told of this process' end.
        ("--user", String::new()),
        (END_WITH, std::process::id().to_string()),
    ];
    Command::new("/proc/self/exe")
        .arg0("tinyfaas")
        .arg("serve")
        .arg("--data-dir")
        .arg(data_dir.path())
        .args(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]))
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A group of its own: Ctrl+C is for this process, which then tells the server.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::failed(format!("cannot start a server: {error}")))
}
