use serde_json::Value;
use tinyfaas_model::{CallOutcome, CallState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api::tests::{Answer, World};
use crate::fake::zip_of;

impl World {
    /// Sends a body of bytes.
    async fn put(&self, target: &str, headers: &str, body: &[u8]) -> Answer {
        let mut request = format!(
            "PUT {target} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\
             Content-Length: {}\r\n{headers}\r\n",
            self.port,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.raw(&request).await
    }

    async fn deploy(&self, name: &str, files: &[(&str, &str)]) -> Answer {
        self.put(&format!("/v1/functions/{name}?env=python3"), "", &zip_of(files)).await
    }

    async fn delete(&self, target: &str) -> Answer {
        self.send("DELETE", target, "", "").await
    }
}

impl Answer {
    #[track_caller]
    fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        let content_type =
            if status < 400 { "application/json" } else { "application/problem+json" };
        assert!(self.head.contains(&format!("content-type: {content_type}")), "{}", self.head);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A refusal's detail.
    #[track_caller]
    fn refused(&self, status: u16, part: &str) -> Value {
        let problem = self.json(status);
        assert_eq!(problem["status"], status);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{part:?} expected, but {detail:?}");
        problem
    }

    /// The events of a stream of lines.
    fn events(&self) -> Vec<Value> {
        assert!(self.head.contains("content-type: application/x-ndjson"), "{}", self.head);
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_function_is_put_shown_and_deleted() {
    let world = World::new().await;
    let target = "/v1/functions/echo?env=python3&threads=2&envs=TOKEN%3Dsecret&envs=B%3D";
    let zip = zip_of(&[("fn.py", "def fn(i): return i")]);
    let answer = world.put(target, "Content-Type: application/zip\r\n", &zip).await;
    assert!(answer.head.contains("\r\nlocation: /v1/functions/echo"), "{}", answer.head);
    let function = answer.json(201);
    assert_eq!((&function["name"], &function["env"]), (&"echo".into(), &"python3".into()));
    assert_eq!(function["envs"], serde_json::json!(["TOKEN", "B"]));
    assert_eq!((&function["threads"], &function["version"]), (&2.into(), &1.into()));
    assert_eq!(function["urls"]["http"], "http://localhost:8000/echo");
    assert_eq!(function["limits"]["call_deadline_seconds"], 300.0);
    assert_eq!(function["build"]["output"], "building\nstarted\n");
    assert_eq!(function["build"]["succeeded"], true);
    assert_eq!(function["state"], "healthy");
    assert!(!answer.body.contains("secret"), "{}", answer.body);
    world.routes.find("echo").unwrap().counters.calls.ended(CallOutcome::Busy, Default::default());

    let replaced = world.put(target, "", &zip).await.json(200);
    assert_eq!((&replaced["version"], &replaced["calls"]["busy"]), (&2.into(), &1.into()));
    assert_eq!(world.get("/v1/functions/echo").await.json(200)["version"], 2);
    let all = world.get("/v1/functions").await.json(200);
    assert_eq!(all["functions"][0]["name"], "echo");
    assert_eq!(all["functions"][0]["build"]["output"], Value::Null);

    let gone = world.delete("/v1/functions/echo").await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    world.get("/v1/functions/echo").await.refused(404, "there is no function \"echo\"");
    world.delete("/v1/functions/echo").await.refused(404, "there is no function \"echo\"");
    world.deploy("other", &[]).await.refused(422, "empty");
    world.deploy("other", &[("fn.py", "")]).await.json(201);
    assert_eq!(world.delete("/v1/functions").await.status, 204);
    assert_eq!(world.get("/list").await.body, "");
    assert_eq!(world.spooled(), 0);
}

#[tokio::test]
async fn a_wrong_name_suggests_the_near_one() {
    let world = World::new().await;
    world.deploy("echo", &[("fn.py", "")]).await.json(201);
    let problem = world.get("/v1/functions/ehco").await.refused(404, "is echo meant?");
    assert_eq!(problem["suggestions"], serde_json::json!(["echo"]));
    let problem = world.delete("/v1/functions/a%20b%0a").await.refused(404, r#""a b\n""#);
    assert_eq!(problem["suggestions"], Value::Null);
    // The calls of old say what they always said.
    world.post("/delete", r#"{"name":"ehco"}"#).await.check(404, "list shows those that there are");
}

#[tokio::test]
async fn a_failed_try_is_remembered_beside_what_runs() {
    let world = World::new().await;
    world.deploy("echo", &[("fail-start", "")]).await.refused(422, "did not start");
    world.get("/v1/functions/echo").await.json(404);
    world.deploy("echo", &[("fn.py", "")]).await.json(201);
    let problem = world.deploy("echo", &[("fail-install", "")]).await.refused(422, "exited with 1");
    assert_eq!(problem["output"], "no matching distribution");
    assert!(!problem["detail"].as_str().unwrap().contains("matching"), "{problem}");
    let build = &world.get("/v1/functions/echo").await.json(200)["build"];
    assert_eq!((&build["succeeded"], &build["output"]), (&false.into(), &"building\n".into()));
    assert!(build["problem"].as_str().unwrap().contains("no matching distribution"), "{build}");
    world.deploy("echo", &[("../x", "")]).await.refused(422, "'..'");
    let function = world.get("/v1/functions/echo").await.json(200);
    assert!(function["build"]["problem"].as_str().unwrap().contains("'..'"));
    assert_eq!(function["version"], 1);
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let world = World::new().await;
    let zip = zip_of(&[("fn.py", "")]);
    let put = async |target: &str, headers: &str, body: &[u8]| {
        world.put(&format!("/v1/functions/{target}"), headers, body).await
    };
    let typed = |media: &str| format!("Content-Type: {media}\r\n");
    put("a%2fb?env=python3", "", &zip).await.refused(422, "name holds '/'");
    put("a?env=cobol", "", &zip).await.refused(422, "python3, nodejs, binary");
    put("a?env=python3&threads=0", "", &zip).await.refused(422, "from 1 to 256");
    put("a?env=python3&threads=x", "", &zip).await.refused(422, "from 1 to 256");
    put("a?env=python3&thread=1", "", &zip).await.refused(400, "is threads meant?");
    put("a?env=python3&env=binary", "", &zip).await.refused(400, "twice");
    put("a", "", &zip).await.refused(422, "environment is not given");
    put("a?env=python3&subfolder_path=..", "", &zip).await.refused(422, "subfolder_path");
    put("a?env=python3&subfolder_path=b", "", &zip).await.refused(422, "no folder \"b\"");
    put("a?env=python3", "", b"hello").await.refused(400, "neither a zip nor a tar.gz");
    put("a?env=python3", "", b"").await.refused(400, "no bytes");
    put("a?env=python3", &typed("text/html"), &zip).await.refused(415, "multipart/form-data");
    put("a?env=python3", &typed("application/json"), b"{}")
        .await
        .refused(400, "no query parameter");
    put("a", &typed("application/json"), b"{}").await.refused(422, "lacks \"url\"");
    put("a", &typed("application/json"), b"[]").await.refused(400, "no JSON object");
    world.get("/v1/nothing").await.refused(404, "GET /v1/functions");
    world.get("/v1/functions?x=1").await.refused(400, "none is known");
    world.send("POST", "/v1/functions/a", "", "").await.refused(405, "use GET, HEAD, PUT, DELETE");
    let foreign = "Origin: http://evil.example\r\n";
    world.put("/v1/functions/a?env=python3", foreign, &zip).await.refused(403, "evil.example");
    assert!(world.backend.events().is_empty());
    assert_eq!(world.spooled(), 0);
}

#[tokio::test]
async fn a_form_is_a_deploy() {
    let world = World::new().await;
    let typed = "Content-Type: multipart/form-data; boundary=xX\r\n";
    let zip = zip_of(&[("fn.py", "")]);
    let part = |name: &str, content: &[u8]| {
        let head = format!("--xX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    let put = async |parts: &[Vec<u8>]| {
        let body = [parts.concat().as_slice(), b"--xX--\r\n"].concat();
        world.put("/v1/functions/echo", typed, &body).await
    };
    let archive = part("archive", &zip);
    let json = part("settings", br#"{"env":"nodejs","threads":2,"envs":["A=1"],"name":"x"}"#);
    let function = put(&[archive.clone(), json.clone()]).await.json(201);
    assert_eq!((&function["name"], &function["env"]), (&"echo".into(), &"nodejs".into()));
    assert_eq!((&function["threads"], &function["envs"]), (&2.into(), &serde_json::json!(["A"])));
    // What stands for itself goes over the JSON.
    let plain = [part("env", b"python3"), part("envs", b"B=2"), json.clone(), archive.clone()];
    let function = put(&plain).await.json(200);
    assert_eq!((&function["env"], &function["threads"]), (&"python3".into(), &2.into()));
    assert_eq!(function["envs"], serde_json::json!(["A", "B"]));
    put(std::slice::from_ref(&json)).await.refused(422, "lacks \"archive\"");
    put(&[archive.clone(), part("url", b"http://localhost/")]).await.refused(422, "both");
    put(&[archive.clone(), archive.clone()]).await.refused(400, "twice");
    put(&[part("archives", &zip)]).await.refused(400, "is archive meant?");
    put(&[part("env", b"\xff")]).await.refused(400, "not UTF-8");
    put(&[part("settings", b"{"), archive.clone()]).await.refused(400, "not JSON");
    put(&[part("threads", b"x"), archive.clone()]).await.refused(422, "from 1 to 256");
    put(&[part("settings", &vec![b' '; 2 << 20])]).await.refused(413, "larger than");
    world.put("/v1/functions/echo", typed, &archive).await.refused(400, "cut off");
    let untold = "Content-Type: multipart/form-data\r\n";
    world.put("/v1/functions/echo", untold, &archive).await.refused(400, "boundary");
    assert_eq!(world.get("/v1/functions/echo").await.json(200)["version"], 2);
}

#[tokio::test]
async fn logs_are_text_or_json_and_followed() {
    let world = World::with(|config| config.log_followers_max = 1).await;
    world.deploy("echo", &[("fn.py", "")]).await.json(201);
    world.deploy("other", &[("fn.py", "")]).await.json(201);
    let text = world.get("/v1/functions/echo/logs?tail=1").await;
    assert!(text.body.ends_with("Z started\n") && text.body.lines().count() == 1, "{}", text.body);
    assert_eq!(world.get("/v1/logs").await.body, world.get("/logs").await.body);
    assert_eq!(world.get("/v1/logs?since=2999-01-01T00:00:00Z").await.body, "");
    let json = "Accept: application/json\r\n";
    let lines = world.send("GET", "/v1/functions/echo/logs", json, "").await.events();
    assert_eq!((&lines[1]["handler"], &lines[1]["text"]), (&"echo-1".into(), &"started".into()));
    world.get("/v1/functions/ecko/logs").await.refused(404, "is echo meant?");
    world.get("/v1/logs?tail=-1").await.refused(422, "a number of lines");
    world.get("/v1/logs?since=then").await.refused(422, "a time such as");
    world.get("/v1/logs?follow=yes").await.refused(422, "true or false");
    let mut follower = world.connect().await;
    let request = b"GET /v1/functions/echo/logs?follow=true&tail=1 HTTP/1.1\r\n\
        Host: localhost\r\nConnection: close\r\n\r\n";
    follower.write_all(request).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"started\n\r\n") {
        assert!(follower.read_buf(&mut seen).await.unwrap() > 0);
    }
    world.get("/v1/logs?follow=true").await.refused(503, "1 clients follow");
    let handler = tinyfaas_model::HandlerId::new("echo-1");
    world.manager.log_for_test("echo").line(&handler, b"hello");
    while !seen.ends_with(b"hello\n\r\n") {
        assert!(follower.read_buf(&mut seen).await.unwrap() > 0);
    }
    assert_eq!(world.delete("/v1/functions/echo").await.status, 204);
    follower.read_to_end(&mut seen).await.unwrap();
    assert!(seen.ends_with(b"\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&seen));
    // A follower of all ends with the server.
    let mut follower = world.connect().await;
    let request = b"GET /v1/logs?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n";
    follower.write_all(request).await.unwrap();
    follower.read_buf(&mut seen).await.unwrap();
    world.stop.send(()).unwrap();
    world.served.await.unwrap();
}

#[tokio::test]
async fn progress_is_told_as_it_happens() {
    let world = World::new().await;
    let lines = "Accept: application/x-ndjson\r\n";
    let zip = zip_of(&[("fn.py", ""), ("gate", "")]);
    let put = world.put("/v1/functions/echo?env=python3", lines, &zip);
    let opened = async {
        world.backend.wait_for("build echo").await;
        world.backend.open_gate();
    };
    let (answer, ()) = tokio::join!(put, opened);
    assert_eq!(answer.status, 200);
    let events = answer.events();
    let expected = ["queued", "unpacking", "building", "output", "starting", "output", "ready"];
    assert_eq!(kinds(&events), expected);
    assert_eq!(events[3]["text"], "building");
    assert_eq!(
        (&events[6]["replaced"], &events[6]["function"]["name"]),
        (&false.into(), &"echo".into())
    );

    let broken = zip_of(&[("fail-install", "")]);
    let answer = world.put("/v1/functions/echo?env=python3", lines, &broken).await;
    let events = answer.events();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["status"]), (&"failed".into(), &422.into()));
    assert_eq!(last["output"], "no matching distribution");
    // What is wrong with the request itself is told by a status as ever.
    world.put("/v1/functions/echo?env=php", lines, &broken).await.refused(422, "python3");

    let events = "Accept: text/event-stream\r\n";
    let answer = world.put("/v1/functions/echo?env=python3", events, &zip_of(&[("a", "")])).await;
    assert!(answer.head.contains("content-type: text/event-stream"), "{}", answer.head);
    assert!(answer.body.starts_with("data: {\"event\":\"queued\"}\n\ndata: "), "{}", answer.body);
    assert!(answer.body.ends_with("\"replaced\":true}\n\n"), "{}", answer.body);
}

#[tokio::test]
async fn calls_are_listed_shown_and_cancelled() {
    let world = World::new().await;
    let done = world.calls.add("echo", CallState::Succeeded).to_string();
    let waiting = world.calls.add("echo", CallState::Waiting).to_string();
    world.calls.add("other", CallState::Running);
    let all = world.get("/v1/calls").await.json(200);
    assert_eq!((all["calls"].as_array().unwrap().len(), &all["next"]), (3, &Value::Null));
    let page = world.get("/v1/calls?function=echo&limit=1").await.json(200);
    assert_eq!((&page["calls"][0]["id"], &page["next"]), (&waiting.as_str().into(), &1.into()));
    let page = world.get("/v1/calls?function=echo&limit=1&before=1").await.json(200);
    assert_eq!((&page["calls"][0]["id"], &page["next"]), (&done.as_str().into(), &Value::Null));
    let running = world.get("/v1/calls?state=running").await.json(200);
    assert_eq!(running["calls"][0]["function"], "other");
    let call = world.get(&format!("/v1/calls/{waiting}")).await.json(200);
    assert_eq!((&call["state"], &call["waited_seconds"]), (&"waiting".into(), &Value::Null));
    let cancelled = world.delete(&format!("/v1/calls/{waiting}")).await.json(200);
    assert_eq!(cancelled["state"], "cancelled");
    world.delete(&format!("/v1/calls/{waiting}")).await.json(200);
    world.delete(&format!("/v1/calls/{done}")).await.refused(409, "succeeded");
    world.get("/v1/calls/none").await.refused(404, "there is no call \"none\"");
    world.delete(&format!("/v1/calls/{}", "0".repeat(32))).await.refused(404, "forgotten");
    world.get("/v1/calls?state=done").await.refused(422, "one of waiting, running");
    world.get("/v1/calls?limit=501").await.refused(422, "from 1 to 500");
    world.get("/v1/calls?function=a%20b").await.refused(422, "a function's name");
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    let world = World::new().await;
    let index = world.get("/v1").await.json(200);
    for link in index["links"].as_object().unwrap().values() {
        assert_eq!(world.get(link.as_str().unwrap()).await.status, 200, "{link}");
    }
    let server = world.get("/v1/server").await.json(200);
    assert_eq!((&server["backend"], &server["endpoints"]["http"]), (&"fake".into(), &8000.into()));
    assert_eq!(server["endpoints"]["grpc"], Value::Null);
    assert_eq!(server["endpoints"]["management"], world.port);
    assert_eq!(server["runtimes"][0]["found"], "Python 3.11.2");
    assert_eq!(server["runtimes"][1]["available"], false);
    world.get("/healthz").await.check(200, "ok\n");
    world.get("/readyz").await.check(200, "ok\n");
    *world.backend.problem.lock() = Some("it is being started anew".to_owned());
    world.get("/healthz").await.check(200, "ok\n");
    world.get("/readyz").await.check(503, "it is being started anew\n");
    let json = world.send("GET", "/readyz", "Accept: application/json\r\n", "").await;
    assert!(json.head.contains("content-type: application/json"), "{}", json.head);
    let fitness: Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(fitness["reasons"][0], "it is being started anew");
    world.manager.stop_deploys();
    world.get("/readyz").await.check(503, "the server is stopping\n");
}
