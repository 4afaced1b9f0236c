use tempfile::TempDir;
use tinyfaas_model::{HandlerId, LogSink};

use super::*;

struct World {
    dir: TempDir,
    logs: Arc<Logs>,
}

impl World {
    fn new(change: impl FnOnce(&mut ManagementConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ManagementConfig::new(dir.path().join("spool"), dir.path().join("logs"));
        change(&mut config);
        Self { logs: Arc::new(Logs::new(&config)), dir }
    }

    fn sink(&self, name: &str) -> Arc<dyn LogSink> {
        self.logs.open(&FunctionName::parse(name).unwrap()).0.sink()
    }

    fn reader(&self, name: &str, view: LogView) -> Result<LogReader, LogError> {
        let of = (!name.is_empty()).then(|| FunctionName::parse(name).unwrap());
        self.logs.read(of, view)
    }

    /// A function's log; that of all without a name.
    async fn text(&self, name: &str) -> String {
        self.view(name, LogView::default()).await
    }

    async fn view(&self, name: &str, view: LogView) -> String {
        let Ok(mut reader) = self.reader(name, view) else { return String::new() };
        let mut text = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).unwrap()
    }

    fn bytes_on_disk(&self) -> u64 {
        let files = std::fs::read_dir(self.dir.path().join("logs"));
        files.map_or(0, |files| files.map(|file| file.unwrap().metadata().unwrap().len()).sum())
    }
}

fn id() -> HandlerId {
    HandlerId::new("h-1")
}

/// The texts of the lines, and their times, which must be in order.
fn texts(log: &str) -> Vec<&str> {
    let mut last = "";
    log.lines()
        .map(|line| {
            let mut parts = line.splitn(4, ' ').skip(2);
            let at = parts.next().unwrap();
            assert!(last <= at, "{last} stands before {at}");
            last = at;
            parts.next().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn lines_are_read_back_in_order() {
    let world = World::new(|_| {});
    let (b, a) = (world.sink("b"), world.sink("a"));
    b.line(&id(), b"one");
    a.line(&id(), b"other");
    b.line(&id(), b"two");
    assert_eq!(texts(&world.text("b").await), ["one", "two"]);
    b.line(&id(), b"three");
    let all: Vec<String> = world.logs.names().iter().map(ToString::to_string).collect();
    assert_eq!(all, ["a", "b"]);
    let text = world.text("").await;
    let starts: Vec<&str> = text.lines().map(|line| &line[..10]).collect();
    assert_eq!(starts, ["function=a", "function=b", "function=b", "function=b"]);
}

#[tokio::test]
async fn lines_reach_the_disk_by_themselves() {
    let world = World::new(|_| {});
    world.sink("a").line(&id(), b"hello");
    while world.bytes_on_disk() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_oldest_goes_and_a_line_says_so() {
    let world = World::new(|config| config.log_bytes_max = 4000);
    let sink = world.sink("a");
    for number in 0..500 {
        sink.line(&id(), format!("line {number:03}").as_bytes());
        if number % 20 == 0 {
            assert!(!world.text("a").await.is_empty());
        }
    }
    let text = world.text("a").await;
    assert!(world.bytes_on_disk() <= 4000, "{}", world.bytes_on_disk());
    assert!(world.bytes_on_disk() > 2500, "{}", world.bytes_on_disk());
    let lines = texts(&text);
    let gone = lines[0].strip_prefix("the oldest ").unwrap();
    let gone: u64 = gone.strip_suffix(" bytes of this log are gone").unwrap().parse().unwrap();
    let kept: Vec<String> = (0..500).map(|number| format!("line {number:03}")).collect();
    assert_eq!(lines[1..], kept[500 - (lines.len() - 1)..]);
    let bytes_a_line = text.lines().nth(1).unwrap().len() as u64 + 1;
    assert_eq!(gone, bytes_a_line * (500 - (lines.len() as u64 - 1)));
}

#[tokio::test]
async fn what_comes_too_fast_is_counted() {
    let world = World::new(|config| config.log_waiting_bytes_max = 1000);
    let sink = world.sink("a");
    // Nothing else runs in between: the writer has no chance.
    (0..100).for_each(|_| sink.line(&id(), b"x"));
    let text = world.text("a").await;
    let lines = texts(&text);
    let kept = lines.iter().filter(|line| **line == "x").count();
    let notice = format!("{} lines were dropped: they came faster than the disk", 100 - kept);
    assert!(kept < 100 && lines.last() == Some(&notice.as_str()), "{lines:?}");
}

#[tokio::test]
async fn a_disk_that_fails_hurts_nobody() {
    let world = World::new(|_| {});
    let logs_dir = world.dir.path().join("logs");
    // A file where the folder should be stands for a disk that takes nothing.
    std::fs::write(&logs_dir, "").unwrap();
    let sink = world.sink("a");
    sink.line(&id(), b"one");
    sink.line(&id(), b"two");
    assert_eq!(world.text("a").await, "");
    std::fs::remove_file(&logs_dir).unwrap();
    sink.line(&id(), b"three");
    let text = world.text("a").await;
    let lines = texts(&text);
    assert!(lines[0].starts_with("2 lines were dropped: "), "{lines:?}");
    assert_eq!(lines[1..], ["three"]);
}

#[tokio::test]
async fn a_removed_log_is_gone() {
    let world = World::new(|_| {});
    let name = FunctionName::parse("a").unwrap();
    let sink = world.sink("a");
    sink.line(&id(), b"one");
    assert_eq!(texts(&world.text("a").await), ["one"]);
    world.logs.remove(&name);
    sink.line(&id(), b"late");
    assert_eq!((world.text("a").await, world.bytes_on_disk()), (String::new(), 0));
    assert!(world.logs.names().is_empty());
    let (_, is_new) = world.logs.open(&name);
    assert!(is_new);
    assert_eq!(world.text("a").await, "");
}

#[tokio::test]
async fn a_reader_is_not_disturbed_by_a_removal() {
    let world = World::new(|_| {});
    let sink = world.sink("a");
    let line = vec![b'x'; 10_000];
    (0..20).for_each(|_| sink.line(&id(), &line));
    let mut reader = world.reader("", LogView::default()).unwrap();
    let mut bytes = reader.next().await.unwrap().unwrap().len();
    world.logs.remove(&FunctionName::parse("a").unwrap());
    while let Some(piece) = reader.next().await.unwrap() {
        bytes += piece.len();
    }
    assert!(bytes > 200_000, "{bytes}");
}

#[tokio::test]
async fn the_last_lines_and_those_since_are_found() {
    // Several files.
    let world = World::new(|config| config.log_bytes_max = 40_000);
    let sink = world.sink("a");
    let mut times = Vec::new();
    for number in 0..300 {
        sink.line(&id(), format!("line {number:03} {}", "x".repeat(20)).as_bytes());
        times.push(jiff::Timestamp::now());
    }
    let whole = world.text("a").await;
    let lines: Vec<&str> = whole.lines().collect();
    assert_eq!(lines.len(), 300);
    assert!(std::fs::read_dir(world.dir.path().join("logs")).unwrap().count() > 1);
    for tail in [0, 1, 2, 150, 151, 299, 300, 301] {
        let view = LogView { tail: Some(tail), ..LogView::default() };
        let text = world.view("a", view).await;
        let kept = &lines[300usize.saturating_sub(tail)..];
        assert_eq!(text.lines().collect::<Vec<_>>(), kept, "the last {tail}");
    }
    for from in [0, 1, 149, 299] {
        let time: jiff::Timestamp = Line::parse(lines[from]).unwrap().time.parse().unwrap();
        let first = lines.iter().position(|line| {
            Line::parse(line).unwrap().time.parse::<jiff::Timestamp>().unwrap() >= time
        });
        let view = LogView { since: Some(time), ..LogView::default() };
        let text = world.view("a", view).await;
        assert_eq!(text.lines().collect::<Vec<_>>(), lines[first.unwrap()..], "since {time}");
        let view = LogView { since: Some(time), tail: Some(3), follow: false };
        assert_eq!(world.view("a", view).await.lines().count(), 3.min(300 - first.unwrap()));
    }
    let late = LogView { since: Some(times[299]), ..LogView::default() };
    assert_eq!(world.view("a", late).await, "");
}

async fn next_text(reader: &mut LogReader) -> Option<String> {
    reader.next().await.unwrap().map(|piece| String::from_utf8(piece.to_vec()).unwrap())
}

#[tokio::test]
async fn a_follower_gets_what_comes_until_the_log_is_gone() {
    let world = World::new(|_| {});
    let sink = world.sink("a");
    sink.line(&id(), b"one");
    let view = LogView { tail: Some(1), follow: true, since: None };
    let mut reader = world.reader("a", view).unwrap();
    assert!(next_text(&mut reader).await.unwrap().ends_with(" one\n"));
    let follow = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(text) = next_text(&mut reader).await {
            seen.extend(text.lines().map(|line| Line::parse(line).unwrap().text.to_owned()));
            if seen.len() == 1 {
                sink.line(&id(), b"three");
            }
            if seen.len() == 2 {
                sink.line(&id(), b"four");
            }
            if seen.len() == 3 {
                return (seen, reader);
            }
        }
        panic!("ended with {seen:?}");
    });
    world.sink("b").line(&id(), b"of another");
    world.sink("a").line(&id(), b"two");
    let (seen, mut reader) = follow.await.unwrap();
    assert_eq!(seen, ["two", "three", "four"]);
    world.logs.remove(&FunctionName::parse("a").unwrap());
    // One that comes in its place is another function.
    world.sink("a").line(&id(), b"new");
    assert_eq!(next_text(&mut reader).await, None);
    drop(reader);
    assert_eq!(world.logs.followers.available_permits(), world.logs.followers_max);
}

#[tokio::test]
async fn a_follower_of_all_meets_new_functions() {
    let world = World::new(|_| {});
    world.sink("b").line(&id(), b"one");
    let view = LogView { follow: true, ..LogView::default() };
    let mut reader = world.reader("", view).unwrap();
    assert!(next_text(&mut reader).await.unwrap().ends_with(" one\n"));
    let (next, ()) = tokio::join!(next_text(&mut reader), async {
        world.sink("a").line(&id(), b"two");
    });
    let next = next.unwrap();
    assert!(next.starts_with("function=a ") && next.ends_with(" two\n"), "{next}");
    world.logs.remove(&FunctionName::parse("a").unwrap());
    let (next, ()) = tokio::join!(next_text(&mut reader), async {
        world.sink("a").line(&id(), b"three");
    });
    assert!(next.unwrap().ends_with(" three\n"));
}

#[tokio::test]
async fn a_follower_who_is_too_slow_is_told_what_it_missed() {
    let world = World::new(|config| config.log_bytes_max = 4000);
    let sink = world.sink("a");
    sink.line(&id(), b"one");
    let view = LogView { follow: true, ..LogView::default() };
    let mut reader = world.reader("a", view).unwrap();
    assert!(next_text(&mut reader).await.unwrap().ends_with(" one\n"));
    for number in 0..500 {
        sink.line(&id(), format!("line {number}").as_bytes());
        if number % 20 == 0 {
            world.text("a").await;
        }
    }
    let notice = next_text(&mut reader).await.unwrap();
    assert!(notice.contains(" handler=log ") && notice.contains(" the next "), "{notice}");
    assert!(notice.ends_with(" bytes of this log are gone\n"), "{notice}");
}

#[tokio::test]
async fn followers_are_bounded() {
    let world = World::new(|config| config.log_followers_max = 1);
    world.sink("a").line(&id(), b"one");
    let view = LogView { follow: true, ..LogView::default() };
    let first = world.reader("a", view.clone()).unwrap();
    let full = LogError::TooManyFollowers { followers_max: 1 };
    assert_eq!(world.reader("", view.clone()).err(), Some(full));
    assert!(world.reader("a", LogView::default()).is_ok());
    drop(first);
    assert!(world.reader("a", view.clone()).is_ok());
    assert_eq!(world.reader("none", view).err(), Some(LogError::Unknown));
}
