//! A certificate from an authority, had by ACME (RFC 8555) and kept fresh.
//!
//! Owns when an order is made, and what is said of how it went. A start never waits
//! for the network: what was kept serves at once, else a self-signed stand-in does
//! until the real one has come. Must not know handshakes.

pub(crate) mod challenges;
mod config;
mod http;
mod kept;
mod order;
mod schedule;
mod store;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use instant_acme::Identifier;
use jiff::Timestamp;
use tokio::time::sleep;

use self::challenges::Challenges;
pub use self::config::{AcmeConfig, AcmeConfigError, Challenge};
use self::http::Heard;
use self::order::{Desk, OrderError};
use self::schedule::Attempts;
use self::store::{Store, StoreError};
use crate::certificate::Certificate;
use crate::client::read_roots;
use crate::clock;
use crate::error::TlsError;
use crate::resolver::Served;

/// Domains that a message names.
const DOMAINS_TOLD_MAX: usize = 5;

/// The authority's client.
#[derive(Debug)]
pub(crate) struct Acme {
    config: AcmeConfig,
    identifiers: Vec<Identifier>,
    store: Store,
    /// What is wrong with the certificate that was kept.
    damaged: Option<String>,
    /// It is an authority's that serves, and not the stand-in.
    is_real: AtomicBool,
}

/// When what serves is to be renewed.
struct Renewal {
    /// When it came.
    came: SystemTime,
    /// Drawn once for each certificate, so that the time does not wander.
    chance: f64,
    /// The authority's own wish.
    suggested: Option<SystemTime>,
    /// When it is asked for that.
    ask_at: Instant,
}

/// How it went so far, in this run and before.
struct Record {
    attempts: Attempts,
    /// Failures in a row that the authority knows nothing of.
    unheard: u32,
    /// The wait of a server that was just started is over.
    has_waited: bool,
}

impl Acme {
    /// Reads what is kept; the network is not asked. What is served until
    /// [`Acme::keep_fresh`] has something better comes with it.
    ///
    /// # Errors
    /// What is wrong with the configuration or the CA file.
    pub(crate) fn open(config: AcmeConfig) -> Result<(Self, Certificate), TlsError> {
        let identifiers = config.check()?;
        if let Some(file) = &config.ca_file {
            read_roots(file)?;
        }
        let store = Store::new(&config.state, config.host(), &config.directory);
        let kept = match store.certificate() {
            Ok(Some(text)) => kept::parse(&text, &store.certificate_path())
                .map(Some)
                .map_err(|error| error.to_string()),
            Ok(None) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        let (kept, damaged) = match kept {
            Ok(kept) => (kept, None),
            Err(why) => (None, Some(why)),
        };
        let is_real = AtomicBool::new(kept.is_some());
        let certificate = match kept {
            Some(kept) => kept,
            None => kept::stand_in(&identifiers).map_err(AcmeConfigError::StandIn)?,
        };
        Ok((Self { config, identifiers, store, damaged, is_real }, certificate))
    }

    /// Where what is served comes from, for people.
    pub(crate) fn describe(&self) -> String {
        let (host, challenge) = (self.config.host(), self.config.challenge.name());
        if self.is_real.load(Ordering::Relaxed) {
            format!("ACME, from {host} by {challenge}")
        } else {
            format!("a self-signed stand-in until {host} gives one (ACME, {challenge})")
        }
    }

    /// Orders and renews, as long as it is polled. Each failure is one warning, and
    /// what served goes on serving.
    pub(crate) async fn keep_fresh(&self, served: &Served, challenges: &Challenges) {
        self.set_damaged_aside().await;
        let mut record = self.record().await;
        let mut renewal = Renewal::new(self.came().await);
        loop {
            self.await_clock().await;
            self.ask_authority(&mut renewal, served, challenges).await;
            let left = self.left(&renewal, served);
            if !left.is_zero() {
                sleep(left.min(schedule::LOOK)).await;
                continue;
            }
            if !self.wait_at_start(&mut record).await {
                continue;
            }
            match self.attempt(&mut record, served, challenges).await {
                Ok(certificate) => {
                    self.is_real.store(true, Ordering::Relaxed);
                    served.set(certificate);
                    renewal = Renewal::new(SystemTime::now());
                    self.tell_success(served);
                }
                Err((error, heard)) => {
                    let wait = self.wait(&mut record, &heard);
                    self.tell_failure(&error, wait, served);
                    sleep(wait).await;
                }
            }
        }
    }

    /// Out of the way goes only what is damaged, and only now: whoever opened this
    /// may have been root, and may not be any more.
    async fn set_damaged_aside(&self) {
        let Some(why) = &self.damaged else { return };
        match self.on_disk(Store::set_certificate_aside).await {
            Ok(aside) => {
                let aside = aside.display();
                tracing::warn!("{why}; a new certificate is asked for, the file is now {aside}");
            }
            Err(error) => tracing::warn!("{why}; a new certificate is asked for ({error})"),
        }
    }

    async fn record(&self) -> Record {
        let kept = self.on_disk(|store| Ok(store.attempts())).await.unwrap_or_default();
        let asked = self.question();
        let attempts =
            if kept.asked == asked { kept } else { Attempts { asked, ..Attempts::default() } };
        Record { attempts, unheard: 0, has_waited: false }
    }

    /// What an operator changes to make a failing order succeed.
    fn question(&self) -> String {
        let domains: Vec<String> =
            self.identifiers.iter().map(|one| one.authorized(false).to_string()).collect();
        let profile = self.config.profile.as_deref().unwrap_or_default();
        format!("{} {} {profile}", self.config.challenge.name(), domains.join(" "))
    }

    /// When the kept certificate came. One that was never kept came now.
    async fn came(&self) -> SystemTime {
        let now = SystemTime::now();
        let came = self.on_disk(|store| Ok(store.certificate_came())).await;
        came.ok().flatten().map_or(now, |came| came.min(now))
    }

    /// Without a clock that is set no authority's own certificate can be judged, nor
    /// when ours ends.
    async fn await_clock(&self) {
        let mut is_told = false;
        while !clock::is_set(clock::now()) {
            if !is_told {
                let now = shown(clock::now());
                tracing::warn!(
                    "the clock says {now}, which cannot be: no certificate is asked for until it \
                     has been set"
                );
                is_told = true;
            }
            sleep(self.config.clock_interval).await;
        }
    }

    /// Asks the authority when it wants the certificate renewed, if it is time to.
    async fn ask_authority(&self, renewal: &mut Renewal, served: &Served, challenges: &Challenges) {
        if !self.is_real.load(Ordering::Relaxed) || Instant::now() < renewal.ask_at {
            return;
        }
        let Some(current) = served.get() else { return };
        let Some(leaf) = current.certified.cert.first() else { return };
        let desk = self.desk(challenges, Arc::default());
        let mut again = self.config.renewal_info_interval;
        if let Some((window, said)) = desk.renewal_info(leaf).await {
            renewal.suggested = schedule::suggestion(window, renewal.chance);
            again = schedule::renewal_info_wait(said);
        }
        renewal.ask_at = Instant::now() + again;
    }

    /// How long what serves is good for; zero if a new one is to be had now.
    fn left(&self, renewal: &Renewal, served: &Served) -> Duration {
        let current = served.get().filter(|_| self.is_real.load(Ordering::Relaxed));
        let Some(current) = current.filter(|one| kept::is_for(one, &self.identifiers)) else {
            return Duration::ZERO;
        };
        let due = schedule::renewal(
            kept::validity(&current),
            renewal.came,
            renewal.suggested,
            self.config.renewal_gap_max,
            renewal.chance,
        );
        due.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// Whether nothing has to be waited for any more: a server that is started again
    /// and again must not order as often.
    async fn wait_at_start(&self, record: &mut Record) -> bool {
        if record.has_waited {
            return true;
        }
        record.has_waited = true;
        let wait = schedule::wait_at_start(&self.config, &record.attempts, SystemTime::now());
        if wait.is_zero() {
            return true;
        }
        tracing::info!(
            "earlier attempts to get a certificate from {} have failed ({} in a row): the next is \
             in {}",
            self.config.host(),
            record.attempts.failures,
            in_words(wait),
        );
        sleep(wait).await;
        false
    }

    /// An order. It counts as failed until it has succeeded, also on disk: power may
    /// fail, or the server crash.
    async fn attempt(
        &self,
        record: &mut Record,
        served: &Served,
        challenges: &Challenges,
    ) -> Result<Certificate, (OrderError, Arc<Heard>)> {
        let heard = Arc::new(Heard::default());
        let before = record.attempts.clone();
        record.attempts.failures = before.failures.saturating_add(1);
        record.attempts.last = schedule::seconds(SystemTime::now());
        record.attempts.not_before = None;
        let outcome = match self.keep(&record.attempts).await {
            Ok(()) => {
                let old = served.get().filter(|_| self.is_real.load(Ordering::Relaxed));
                let old = old.as_ref().and_then(|old| old.certified.cert.first());
                self.desk(challenges, Arc::clone(&heard)).obtain(old).await
            }
            Err(error) => Err(error.into()),
        };
        match &outcome {
            Ok(_) => record.attempts.failures = 0,
            Err(_) if !heard.counted() => record.attempts.failures = before.failures,
            Err(_) => {}
        }
        record.attempts.not_before = heard.retry_after().map(schedule::seconds);
        if let Err(error) = self.keep(&record.attempts).await
            && outcome.is_ok()
        {
            tracing::warn!("{error}");
        }
        outcome.map_err(|error| (error, heard))
    }

    /// The wait after a failure.
    fn wait(&self, record: &mut Record, heard: &Heard) -> Duration {
        let counted = heard.counted();
        record.unheard = if counted { 0 } else { record.unheard.saturating_add(1) };
        let failures = if counted { record.attempts.failures } else { record.unheard };
        let said = heard.retry_after();
        let said = said.and_then(|until| until.duration_since(SystemTime::now()).ok());
        schedule::wait(&self.config, failures, counted, said, schedule::chance())
    }

    fn tell_success(&self, served: &Served) {
        let Some(current) = served.get() else { return };
        tracing::info!(
            "a certificate for {} has come from {}; it is valid until {}",
            self.domains(),
            self.config.host(),
            shown(current.facts.not_after),
        );
    }

    fn tell_failure(&self, error: &OrderError, wait: Duration, served: &Served) {
        let (domains, wait) = (self.domains(), in_words(wait));
        let until = served.get().filter(|_| self.is_real.load(Ordering::Relaxed));
        let serving = match until.map(|current| current.facts.not_after) {
            None => "a self-signed stand-in, which clients do not trust, serves until".to_owned(),
            Some(until) if until < clock::now() => {
                format!("the old one serves, which has expired on {};", shown(until))
            }
            Some(until) => format!("the old one serves, valid until {};", shown(until)),
        };
        tracing::warn!(
            "no new certificate for {domains}: {error}; {serving} the next attempt in {wait}"
        );
    }

    fn domains(&self) -> String {
        let told = self.identifiers.iter().take(DOMAINS_TOLD_MAX);
        let told: Vec<String> = told.map(|one| one.authorized(false).to_string()).collect();
        match self.identifiers.len() - told.len() {
            0 => told.join(", "),
            more => format!("{} and {more} more", told.join(", ")),
        }
    }

    fn desk<'a>(&'a self, challenges: &'a Challenges, heard: Arc<Heard>) -> Desk<'a> {
        let Self { config, identifiers, store, .. } = self;
        Desk { config, identifiers, store, challenges, heard }
    }

    async fn keep(&self, attempts: &Attempts) -> Result<(), StoreError> {
        let attempts = attempts.clone();
        self.on_disk(move |store| store.keep_attempts(&attempts)).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        store::on_disk(&self.store, act).await
    }
}

impl Renewal {
    fn new(came: SystemTime) -> Self {
        Self { came, chance: schedule::chance(), suggested: None, ask_at: Instant::now() }
    }
}

/// To the second.
fn shown(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn in_words(wait: Duration) -> String {
    match wait.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(state: &Path) -> AcmeConfig {
        // Nothing listens on port 1.
        let directory = "https://127.0.0.1:1/dir".to_owned();
        let mut config = AcmeConfig::new(directory, vec!["a.example".to_owned()], state.to_owned());
        config.terms_agreed = true;
        config
    }

    /// Keeps a certificate for these names as if it had come from the authority.
    fn keep(acme: &Acme, names: &[&str], until: (i32, u8, u8)) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed").pem();
        acme.store.keep_certificate(&(key.serialize_pem() + &certificate)).expect("kept");
    }

    fn open(state: &Path) -> (Acme, Served) {
        let (acme, certificate) = Acme::open(config(state)).expect("opens");
        let served = Served::default();
        served.set(certificate);
        (acme, served)
    }

    fn left(acme: &Acme, served: &Served) -> Duration {
        acme.left(&Renewal::new(SystemTime::UNIX_EPOCH), served)
    }

    #[test]
    fn what_was_kept_serves_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let (acme, served) = open(dir.path());
        assert!(acme.describe().starts_with("a self-signed stand-in until 127.0.0.1 gives one"));
        assert_eq!(left(&acme, &served), Duration::ZERO);

        keep(&acme, &["a.example"], (4000, 1, 1));
        let (acme, served) = open(dir.path());
        assert_eq!(acme.describe(), "ACME, from 127.0.0.1 by tls-alpn-01");
        assert!(left(&acme, &served) > Duration::from_secs(3600));

        keep(&acme, &["a.example"], (2001, 1, 1));
        let (acme, served) = open(dir.path());
        assert_eq!(served.get().expect("one").facts.not_after.to_string(), "2001-01-01T00:00:00Z");
        assert_eq!(left(&acme, &served), Duration::ZERO, "it has expired");

        keep(&acme, &["a.example", "b.example"], (4000, 1, 1));
        let (acme, served) = open(dir.path());
        assert_eq!(left(&acme, &served), Duration::ZERO, "it is for others as well");
    }

    #[tokio::test]
    async fn what_is_damaged_is_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let (acme, _) = open(dir.path());
        acme.store.keep_certificate("-----BEGIN PRIVATE KEY-----\nAAAA").expect("kept");
        let (acme, _) = open(dir.path());
        assert!(acme.describe().starts_with("a self-signed stand-in"));
        let damaged = acme.damaged.as_ref().expect("told");
        assert!(damaged.contains("certificate.pem: it is half-written"), "{damaged}");
        acme.set_damaged_aside().await;
        assert!(acme.store.certificate().expect("readable").is_none());
    }

    #[tokio::test]
    async fn an_authority_that_is_not_reached_counts_no_failure() {
        let dir = tempfile::tempdir().expect("a directory");
        let (acme, served) = open(dir.path());
        let mut record = acme.record().await;
        let challenges = Challenges::default();
        for attempt in 1..=2 {
            let failed = acme.attempt(&mut record, &served, &challenges).await;
            let (error, heard) = failed.expect_err("nobody is there");
            assert!(matches!(error, OrderError::Authority { .. }), "{error}");
            assert!(error.to_string().contains("it cannot be reached"), "{error}");
            acme.wait(&mut record, &heard);
            assert_eq!((record.attempts.failures, record.unheard), (0, attempt));
        }
        assert_eq!(acme.store.attempts().failures, 0);
        assert_eq!(acme.store.attempts().asked, "tls-alpn-01 a.example ");
    }

    #[tokio::test]
    async fn what_could_not_be_kept_is_not_ordered() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "in the way").expect("writable");
        let (acme, served) = open(&file);
        let mut record = acme.record().await;
        let failed = acme.attempt(&mut record, &served, &Challenges::default()).await;
        let (error, heard) = failed.expect_err("cannot be written");
        assert!(matches!(error, OrderError::Store(_)), "{error}");
        assert!(!heard.counted());
    }

    #[test]
    fn waits_are_told_in_words() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!(
            [words(0), words(119), words(120), words(7199)],
            ["0 s", "119 s", "2 min", "119 min"]
        );
        assert_eq!(words(24 * 3600), "24 h");
    }
}
