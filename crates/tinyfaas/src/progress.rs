//! A line that moves while something takes longer than a second.
//!
//! Owns the line on the terminal's standard error; where that is no terminal there
//! is none. Must not know what is waited for.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

/// What is faster shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);

/// A moving line; it is gone when this is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    starter: JoinHandle<()>,
}

impl Progress {
    /// Begins to wait. Needs a running runtime.
    pub(crate) fn start(what: impl Into<Cow<'static, str>>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        bar.set_style(style.expect("the template names what indicatif knows"));
        bar.set_message(what);
        let late = bar.clone();
        let starter = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            late.set_draw_target(ProgressDrawTarget::stderr());
            late.enable_steady_tick(TICK);
        });
        Self { bar, starter }
    }

    /// What is waited for now.
    pub(crate) fn now(&self, what: impl Into<Cow<'static, str>>) {
        self.bar.set_message(what);
    }

    /// Says a line on standard error, above the moving one.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| crate::terminal::say(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.starter.abort();
        self.bar.finish_and_clear();
    }
}
