use std::io::Read;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A little web server: what it answers is chosen by the path.
struct World {
    dir: TempDir,
    host: String,
    config: ManagementConfig,
}

impl World {
    async fn new(change: impl FnOnce(&mut ManagementConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ManagementConfig::new(dir.path().join("spool"), dir.path().join("logs"));
        config.archive.packed_bytes_max = 1000;
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared: Arc<str> = host.as_str().into();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Self { dir, host, config }
    }

    async fn fetch(&self, path: &str) -> Result<String, DownloadError> {
        self.fetch_url(&format!("http://{}{path}", self.host)).await
    }

    async fn fetch_url(&self, url: &str) -> Result<String, DownloadError> {
        let downloaded = download(url, &self.config).await?;
        assert_eq!(downloaded.host, self.host);
        let mut file = downloaded.archive.into_file();
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    async fn check_refused(&self, path: &str, expected: &str) {
        let error = self.fetch(path).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
        let left = std::fs::read_dir(self.dir.path().join("spool"));
        assert_eq!(left.map_or(0, Iterator::count), 0, "{path} leaves something");
    }
}

async fn answer(mut stream: TcpStream, host: Arc<str>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        // No letter: somebody speaks TLS.
        if request.is_empty() && !byte.is_ascii_uppercase() {
            return;
        }
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let to = |place: &str| format!("302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
    let hops = path.strip_prefix("/hops/").and_then(|n| n.parse::<u32>().ok());
    let response = match (path, hops) {
        ("/ok", _) => "200 OK\r\nContent-Length: 3\r\n\r\nzip".to_owned(),
        ("/auth", _) if request.contains("Basic dXNlcjpwYXNz") => {
            "200 OK\r\nContent-Length: 4\r\n\r\nauth".to_owned()
        }
        ("/loop", _) => to("/loop"),
        ("/file", _) => to("file:///etc/passwd"),
        ("/away", _) => to(&format!("http://user:secret@{host}/missing")),
        (_, Some(0)) => to("/ok"),
        (_, Some(hops)) => to(&format!("/hops/{}", hops - 1)),
        ("/large", _) => "200 OK\r\nContent-Length: 1001\r\n\r\n".to_owned(),
        ("/short", _) => "200 OK\r\nContent-Length: 10\r\n\r\nzip".to_owned(),
        ("/slow", _) => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nz";
            stream.write_all(head.as_bytes()).await.unwrap();
            // Until the client leaves.
            let _ = stream.read_u8().await;
            return;
        }
        ("/endless", _) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            return;
        }
        _ => "404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(format!("HTTP/1.1 {response}").as_bytes()).await;
}

#[tokio::test]
async fn an_archive_is_fetched() {
    let world = World::new(|_| {}).await;
    assert_eq!(world.fetch("/ok").await.unwrap(), "zip");
    assert_eq!(world.fetch("/hops/4").await.unwrap(), "zip");
    let with_credentials = format!("http://user:pass@{}/auth", world.host);
    assert_eq!(world.fetch_url(&with_credentials).await.unwrap(), "auth");
}

#[tokio::test]
async fn failures_name_the_host_and_why() {
    let world = World::new(|_| {}).await;
    let host = world.host.clone();
    world.check_refused("/none", &format!("from {host} failed: it answers 404 Not Found")).await;
    world.check_refused("/loop", "redirects more than 5 times").await;
    world.check_refused("/hops/5", "redirects more than 5 times").await;
    world.check_refused("/file", "redirects to file:, and only http: and").await;
    world.check_refused("/large", "larger than the 1000 bytes").await;
    world.check_refused("/endless", "larger than the 1000 bytes").await;
    world.check_refused("/short", "failed: ").await;
}

#[tokio::test]
async fn what_is_slow_is_given_up() {
    let world = World::new(|config| config.download_timeout = Duration::from_millis(200)).await;
    let error = world.fetch("/slow").await.unwrap_err();
    assert!(matches!(error, DownloadError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains(&world.host), "{error}");
}

#[tokio::test]
async fn credentials_are_never_told() {
    let world = World::new(|_| {}).await;
    let unreachable = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = unreachable.local_addr().unwrap();
    drop(unreachable);
    for (url, expected) in [
        (format!("http://user:secret@{}/none?token=secret", world.host), "404"),
        (format!("http://user:secret@{}/away", world.host), "404"),
        (format!("http://user:secret@{closed}/"), "refused"),
        (format!("https://user:secret@{}/", world.host), "failed"),
        ("ftp://user:secret@localhost/".to_owned(), "scheme \"ftp\""),
        ("file:///etc/secret".to_owned(), "scheme \"file\""),
        ("http://user:secret@".to_owned(), "not a URL"),
        ("user:secret".to_owned(), "scheme \"user\""),
        ("/secret".to_owned(), "not a URL"),
    ] {
        let error = world.fetch_url(&url).await.unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(error.to_string().contains(expected), "{url}: {error}");
        assert!(!told.contains("secret"), "{url}: {told}");
    }
}
