//! How a deploy goes, told as it happens, and what of it is kept.
//!
//! Owns the steps, the bound on what waits to be told, and the end of a deploy's
//! output. Nobody who listens slowly, or not at all, holds a deploy up: lines that
//! find no room are left out, and a line says how many. Must not know who listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tinyfaas_model::{HandlerId, LogSink};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Room that lines of output leave for steps: more than there are of those.
const STEPS_MAX: usize = 8;

/// What happens next in a deploy, or has just been printed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It waits for its turn.
    Queued,
    /// Its archive is being downloaded.
    Downloading,
    /// Its archive is being unpacked.
    Unpacking,
    /// Its folder is being made ready to run.
    Building,
    /// Something was printed: by an installer, or by the function as it starts.
    Output(String),
    /// Its handlers are being started.
    Starting,
}

/// Where a deploy's steps are told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Option<Arc<Telling>>);

#[derive(Debug)]
struct Telling {
    steps: mpsc::Sender<Step>,
    /// Lines left out since the last that found room.
    left_out: Mutex<u64>,
}

impl Progress {
    /// Tells a listener, who may be so many lines behind. What is told ends when
    /// the deploy does.
    pub(crate) fn to_listener(lines_max: usize) -> (Self, mpsc::Receiver<Step>) {
        let (steps, listener) = mpsc::channel(lines_max.max(1) + STEPS_MAX);
        (Self(Some(Arc::new(Telling { steps, left_out: Mutex::default() }))), listener)
    }

    /// Tells what happens next.
    pub(crate) fn step(&self, step: Step) {
        let Some(telling) = &self.0 else { return };
        let mut left_out = telling.left_out.lock();
        telling.admit_left_out(&mut left_out);
        // A listener who is gone wants no steps.
        drop(telling.steps.try_send(step));
    }

    fn line(&self, text: &[u8]) {
        let Some(telling) = &self.0 else { return };
        let mut left_out = telling.left_out.lock();
        telling.admit_left_out(&mut left_out);
        if telling.steps.capacity() > STEPS_MAX {
            let line = String::from_utf8_lossy(text).into_owned();
            drop(telling.steps.try_send(Step::Output(line)));
        } else {
            *left_out += 1;
        }
    }
}

impl Telling {
    /// Says that lines were left out, once there is room again for that and one
    /// more.
    fn admit_left_out(&self, left_out: &mut u64) {
        if *left_out > 0 && self.steps.capacity() > STEPS_MAX + 1 {
            let line = format!("({left_out} lines are left out here: they came too fast)");
            drop(self.steps.try_send(Step::Output(line)));
            *left_out = 0;
        }
    }
}

/// What came of the last try to deploy a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuildReport {
    /// When its turn came.
    pub(crate) began: SystemTime,
    /// How long it took until its handlers were ready, or until it failed.
    pub(crate) took: Duration,
    /// Why it failed.
    pub(crate) problem: Option<String>,
    /// The end of what was printed.
    pub(crate) output: String,
}

/// A deploy that is under way: its output goes to the log, to who listens, and
/// the end of it is kept.
pub(super) struct Attempt {
    began: (SystemTime, Instant),
    progress: Progress,
    recorder: Arc<Recorder>,
}

impl Attempt {
    /// Begins, with a bound on the output that is kept.
    pub(super) fn begin(progress: Progress, output_bytes_max: usize) -> Self {
        let recording = Recording { progress: progress.clone(), tail: Vec::new(), cut: false };
        let recorder = Recorder {
            open: AtomicBool::new(true),
            recording: Mutex::new(Some(recording)),
            output_bytes_max,
        };
        Self { began: (SystemTime::now(), Instant::now()), progress, recorder: Arc::new(recorder) }
    }

    /// Tells what happens next.
    pub(super) fn step(&self, step: Step) {
        self.progress.step(step);
    }

    /// A sink in front of the function's log.
    pub(super) fn sink(&self, log: Arc<dyn LogSink>) -> Arc<dyn LogSink> {
        Arc::new(Tee { log, recorder: Arc::clone(&self.recorder) })
    }

    /// Ends: what is printed from now on goes to the log alone.
    pub(super) fn end(self, problem: Option<String>) -> BuildReport {
        let output = self.recorder.close();
        BuildReport { began: self.began.0, took: self.began.1.elapsed(), problem, output }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // One that is given up has nothing more to tell either.
        self.recorder.close();
    }
}

/// A log's sink that lets a deploy hear what goes into it.
struct Tee {
    log: Arc<dyn LogSink>,
    recorder: Arc<Recorder>,
}

/// Takes a deploy's output, as long as it lasts. The function's handlers write
/// to the log through it as long as they live.
struct Recorder {
    open: AtomicBool,
    recording: Mutex<Option<Recording>>,
    output_bytes_max: usize,
}

struct Recording {
    progress: Progress,
    tail: Vec<u8>,
    cut: bool,
}

impl LogSink for Tee {
    fn line(&self, handler: &HandlerId, text: &[u8]) {
        self.log.line(handler, text);
        if self.recorder.open.load(Ordering::Relaxed) {
            self.recorder.line(text);
        }
    }
}

impl Recorder {
    fn line(&self, text: &[u8]) {
        let mut recording = self.recording.lock();
        let Some(recording) = recording.as_mut() else { return };
        recording.progress.line(text);
        recording.tail.extend_from_slice(text);
        recording.tail.push(b'\n');
        // Cutting off moves what stays: not for every line.
        if recording.tail.len() > self.output_bytes_max.saturating_mul(2) {
            recording.cut_to(self.output_bytes_max);
        }
    }

    fn close(&self) -> String {
        self.open.store(false, Ordering::Relaxed);
        let Some(mut recording) = self.recording.lock().take() else { return String::new() };
        recording.cut_to(self.output_bytes_max);
        let text = String::from_utf8_lossy(&recording.tail);
        if recording.cut { format!("…\n{text}") } else { text.into_owned() }
    }
}

impl Recording {
    /// Keeps the last lines that have so many bytes; of one longer than that, its
    /// end.
    fn cut_to(&mut self, bytes_max: usize) {
        let Some(least) = self.tail.len().checked_sub(bytes_max).filter(|least| *least > 0) else {
            return;
        };
        let line_ends = self.tail[least - 1..].iter().position(|byte| *byte == b'\n');
        let from = line_ends.map_or(least, |at| least + at);
        // The last line's own end is no place to begin.
        let from = if from < self.tail.len() { from } else { least };
        self.tail.drain(..from);
        self.cut = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl LogSink for Nowhere {
        fn line(&self, _: &HandlerId, _: &[u8]) {}
    }

    fn attempt(progress: Progress, output_bytes_max: usize) -> (Attempt, Arc<dyn LogSink>) {
        let attempt = Attempt::begin(progress, output_bytes_max);
        let sink = attempt.sink(Arc::new(Nowhere));
        (attempt, sink)
    }

    fn check_kept(lines: &[&str], output_bytes_max: usize, expected: &str) {
        let (attempt, sink) = attempt(Progress::default(), output_bytes_max);
        lines.iter().for_each(|line| sink.line(&HandlerId::new("build"), line.as_bytes()));
        assert_eq!(attempt.end(None).output, expected, "{lines:?}");
        sink.line(&HandlerId::new("build"), b"nobody hears this");
    }

    #[tokio::test]
    async fn the_end_of_the_output_is_kept() {
        check_kept(&[], 10, "");
        check_kept(&["one", "two"], 8, "one\ntwo\n");
        check_kept(&["one", "two"], 7, "…\ntwo\n");
        check_kept(&["one", "two"], 4, "…\ntwo\n");
        check_kept(&["one", "two"], 3, "…\nwo\n");
        check_kept(&["0123456789"; 50], 25, "…\n0123456789\n0123456789\n");
    }

    #[tokio::test]
    async fn who_listens_slowly_holds_nothing_up() {
        let (progress, mut listener) = Progress::to_listener(2);
        let (attempt, sink) = attempt(progress, 100);
        let line = |text: &str| sink.line(&HandlerId::new("build"), text.as_bytes());
        attempt.step(Step::Building);
        (0..5).for_each(|number| line(&number.to_string()));
        attempt.step(Step::Starting);
        let mut told = Vec::new();
        while told.len() < 3 {
            told.push(listener.recv().await.unwrap());
        }
        line("5");
        attempt.end(None);
        while let Some(step) = listener.recv().await {
            told.push(step);
        }
        let output = |text: &str| Step::Output(text.to_owned());
        assert_eq!(
            told,
            [
                Step::Building,
                output("0"),
                Step::Starting,
                output("(4 lines are left out here: they came too fast)"),
                output("5"),
            ]
        );
    }
}
