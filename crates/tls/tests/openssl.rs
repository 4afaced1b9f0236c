//! TLS as openssl sees it: what its client gets, and the files that it makes.
//!
//! Not one word of this is rustls': two that share a mistake would agree on it.
#![allow(clippy::unwrap_used, reason = "a test without the harness is no test to clippy")]

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use tempfile::TempDir;
use tinyfaas_tls::{ClientCertificates, Roots, Source, Tls, TlsConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Works without a certificate and without a compromise (RFC 9325).
const GOOD_SUITES: [&str; 3] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
];

/// Without forward secrecy, with CBC, without encryption, without authentication.
const WEAK_SUITES: [&str; 7] = [
    "AES128-SHA",
    "AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "DHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-NULL-SHA",
    "AECDH-AES128-SHA",
];

type Case = fn(&Bench);

const CASES: [(&str, Case); 8] = [
    ("both good versions are spoken and the certificate is found good", good_versions),
    ("older versions are refused", old_versions),
    ("suites are modern ones only", suites),
    ("renegotiation is refused", renegotiation),
    ("protocols are agreed on", protocols),
    ("the pin is that of the public key", pin),
    ("keys of all kinds are read, or refused by name", keys),
    ("subjects are told as openssl tells them", subjects),
];

fn main() {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        println!("SKIPPED {} cases: there is no openssl on this machine", CASES.len());
        return;
    }
    let bench = Bench::new();
    for (name, case) in CASES {
        case(&bench);
        println!("{name}: passed");
    }
    println!("{} passed, 0 skipped", CASES.len());
}

/// A directory, and in it the files of a self-signed server that runs.
struct Bench {
    directory: TempDir,
    tls: Arc<Tls>,
    server: SocketAddr,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source =
            Source::SelfSigned { directory: directory.path().join("tls"), names: Vec::new() };
        let tls = Tls::open(source, TlsConfig::default()).unwrap();
        let server = serve(&tls, ClientCertificates::None);
        Self { directory, tls, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `openssl` with these words; a word `@name` is a file of the bench.
    fn openssl(&self, words: &str, input: &str) -> Output {
        let words = words.split_ascii_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => word.to_owned(),
        });
        let mut child = Command::new("timeout")
            .args(["20", "openssl"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who has ended already has not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn made(&self, words: &str) -> String {
        let output = self.openssl(words, "");
        assert!(output.status.success(), "openssl {words}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A client of the server that is to succeed, or not.
    fn connect(&self, words: &str, succeeds: bool) -> String {
        let words = format!("s_client -brief -connect {} {words}", self.server);
        let output = self.openssl(&words, "");
        assert_eq!(output.status.success(), succeeds, "openssl {words}: {}", said(&output));
        said(&output)
    }
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// A server that tells a client who it is, where it knows it.
fn serve(tls: &Arc<Tls>, clients: ClientCertificates) -> SocketAddr {
    let acceptor = tls.acceptor(&[b"h2", b"http/1.1"], clients);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    if let Some(client) = stream.client() {
                        let words = format!("you are {}\n", client.subject());
                        let _ = stream.write_all(words.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                });
            }
        });
    });
    at
}

fn good_versions(bench: &Bench) {
    for version in ["-tls1_2", "-tls1_3"] {
        let said = bench.connect(
            &format!(
                "{version} -CAfile @tls/self-signed.pem -verify_return_error -x509_strict \
                 -verify_hostname localhost"
            ),
            true,
        );
        assert!(said.contains("Verification: OK"), "{said}");
    }
}

fn old_versions(bench: &Bench) {
    for version in ["-tls1", "-tls1_1"] {
        let said = bench.connect(&format!("{version} -cipher ALL:@SECLEVEL=0"), false);
        // Which one depends on what else it lacks.
        let alerts = ["alert protocol version", "alert handshake failure"];
        assert!(alerts.iter().any(|alert| said.contains(alert)), "{said}");
    }
}

fn suites(bench: &Bench) {
    for suite in GOOD_SUITES {
        let said = bench.connect(&format!("-tls1_2 -cipher {suite}"), true);
        assert!(said.contains(suite), "{said}");
    }
    for suite in WEAK_SUITES {
        let said = bench.connect(&format!("-tls1_2 -cipher {suite}:@SECLEVEL=0"), false);
        assert!(said.contains("alert handshake failure"), "{suite}: {said}");
    }
}

fn renegotiation(bench: &Bench) {
    let words = format!("s_client -tls1_2 -connect {}", bench.server);
    let said = said(&bench.openssl(&words, "R\n"));
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");
}

fn protocols(bench: &Bench) {
    let agreed = |offered: &str| {
        let words = format!("s_client -connect {} -alpn {offered}", bench.server);
        said(&bench.openssl(&words, ""))
    };
    assert!(agreed("http/1.1,h2").contains("ALPN protocol: h2"));
    assert!(agreed("http/1.1").contains("ALPN protocol: http/1.1"));
    assert!(agreed("spdy/1").contains("alert no application protocol"));
}

fn pin(bench: &Bench) {
    bench.made("x509 -in @tls/self-signed.pem -noout -pubkey -out @pub.pem");
    bench.made("pkey -pubin -in @pub.pem -outform der -out @pub.der");
    bench.made("dgst -sha256 -binary -out @pub.sha256 @pub.der");
    let pin = bench.made("base64 -in @pub.sha256");
    assert_eq!(bench.tls.describe().unwrap().pin, format!("sha256//{}", pin.trim()));
}

fn keys(bench: &Bench) {
    let check = |kind: &str, convert: &str, expected: Option<&str>| {
        bench.made(&format!("genpkey {kind} -out @plain.pem"));
        bench.made(
            "req -x509 -key @plain.pem -out @cert.pem -subj /CN=tests -addext \
             subjectAltName=DNS:localhost",
        );
        bench.made(&format!("{convert} -in @plain.pem -out @key.pem"));
        let source =
            Source::Files { certificate: bench.path("cert.pem"), key: bench.path("key.pem") };
        match (Tls::open(source, TlsConfig::default()), expected) {
            (Ok(_), None) => (),
            (Err(error), Some(words)) if error.to_string().contains(words) => (),
            (got, _) => panic!("{kind}, {convert}: {got:?} is not {expected:?}"),
        }
    };
    let p256 = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    check(p256, "pkey", None);
    check(p256, "ec", None);
    check("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "pkey", None);
    check("-algorithm ED25519", "pkey", None);
    check("-algorithm RSA", "pkey", None);
    check("-algorithm RSA", "rsa -traditional", None);
    let unsupported = Some("key.pem: its key is of a kind that is not supported");
    check("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", "pkey", unsupported);
    check("-algorithm ED448", "pkey", unsupported);
    check("-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "pkey", unsupported);
    let encrypted = Some("key.pem: its key is encrypted");
    check(p256, "pkey -aes128 -passout pass:1234", encrypted);
    check("-algorithm RSA", "rsa -traditional -aes128 -passout pass:1234", encrypted);
    check(p256, "pkey -outform der", Some("key.pem: it is not PEM"));
}

fn subjects(bench: &Bench) {
    bench.made("req -x509 -newkey rsa:2048 -nodes -keyout @ca-key.pem -out @ca.pem -subj /CN=ca");
    let roots = Roots::open(&bench.path("ca.pem")).unwrap();
    let server = serve(&bench.tls, ClientCertificates::Required(roots));
    // Without an extension openssl makes certificates of version 1, which nobody
    // should take.
    std::fs::write(bench.path("v3.cnf"), "extendedKeyUsage = clientAuth\n").unwrap();
    for subject in [
        "/C=DE/O=Works/CN=pump",
        "/DC=org/DC=example/OU=a+CN=b",
        "/O=a,b;c/CN=#1<2>",
        "/CN=Grüße",
        "/UID=7/L=y/ST=z",
    ] {
        bench.made(&format!(
            "req -newkey rsa:2048 -nodes -utf8 -multivalue-rdn -keyout @client-key.pem \
             -out @client.csr -subj {subject}"
        ));
        bench.made(
            "x509 -req -in @client.csr -CA @ca.pem -CAkey @ca-key.pem -extfile @v3.cnf \
             -out @client.pem",
        );
        let expected = bench.made("x509 -in @client.pem -noout -subject -nameopt RFC2253");
        let expected = expected.trim().strip_prefix("subject=").unwrap();
        let words =
            format!("s_client -quiet -connect {server} -cert @client.pem -key @client-key.pem");
        let said = said(&bench.openssl(&words, ""));
        assert!(said.contains(&format!("you are {expected}\n")), "{expected}: {said}");
    }
}
