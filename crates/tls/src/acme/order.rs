//! One order, from the account to a certificate that is kept (RFC 8555, section 7).
//!
//! Owns the steps and the words for what goes wrong in each. Must not know when a
//! certificate is wanted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AccountBuilder, AuthorizationStatus, Authorizations, CertificateIdentifier, Error,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::CertificateDer;

use super::challenges::{Challenges, Showing};
use super::config::{AcmeConfig, Challenge};
use super::http::{ClientError, Heard, Http};
use super::kept;
use super::store::{self, Store, StoreError};
use super::words;
use crate::certificate::Certificate;

/// So often the authority is asked how far it is, at first; then less and less.
const POLL_FIRST: Duration = Duration::from_millis(250);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// Nothing is ordered that could not be kept.
    #[error("what an authority gives cannot be kept: {0}")]
    Store(#[from] StoreError),
    /// It cannot be spoken to.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It was asked, and there is no good answer.
    #[error("{host} was asked {what}: {said}")]
    Authority {
        /// Its host.
        host: String,
        /// What it was asked.
        what: &'static str,
        /// What it said, or why it said nothing.
        said: String,
    },
    /// A domain is not ours, as far as it sees.
    #[error("{host} does not see that {domain} is this server's: {said}; {advice}")]
    Domain {
        /// Its host.
        host: String,
        /// Which one.
        domain: String,
        /// What it saw.
        said: String,
        /// Where it looks.
        advice: &'static str,
    },
    /// It wants another proof.
    #[error(
        "{host} does not take {wanted} for {domain}, only {offered}: set TF_ACME_CHALLENGE to \
         one that it takes"
    )]
    Challenge {
        /// Its host.
        host: String,
        /// For which domain.
        domain: String,
        /// What was to be proven with.
        wanted: &'static str,
        /// What it takes.
        offered: String,
    },
    /// The whole of it.
    #[error("{host} has not given one within {} s", after.as_secs())]
    TimedOut {
        /// Its host.
        host: String,
        /// The time it had.
        after: Duration,
    },
    /// A key or a request could not be made.
    #[error("cannot make a request for a certificate: {0}")]
    Request(#[from] rcgen::Error),
    /// What came cannot be served.
    #[error("{host} has given a certificate that cannot be used: {why}")]
    Useless {
        /// Its host.
        host: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What an order is made with.
pub(super) struct Desk<'a> {
    pub(super) config: &'a AcmeConfig,
    pub(super) identifiers: &'a [Identifier],
    pub(super) store: &'a Store,
    pub(super) challenges: &'a Challenges,
    pub(super) heard: Arc<Heard>,
}

impl Desk<'_> {
    /// A certificate, kept already. It replaces `old` (RFC 9773, section 5).
    pub(super) async fn obtain(
        &self,
        old: Option<&CertificateDer<'static>>,
    ) -> Result<Certificate, OrderError> {
        let after = self.config.order_timeout;
        match tokio::time::timeout(after, self.order(old)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(OrderError::TimedOut { host: self.host(), after }),
        }
    }

    /// When the authority wants this certificate renewed, and when to ask again;
    /// nothing where it does not say.
    pub(super) async fn renewal_info(
        &self,
        certificate: &CertificateDer<'static>,
    ) -> Option<(std::ops::Range<SystemTime>, Duration)> {
        let id = CertificateIdentifier::try_from(certificate).ok()?;
        let asking = async {
            let account = self.kept_account().await.ok()??;
            account.renewal_info(&id).await.ok()
        };
        let (info, again) =
            tokio::time::timeout(self.config.order_timeout, asking).await.ok()??;
        let window = info.suggested_window;
        Some((window.start.into()..window.end.into(), again))
    }

    async fn order(
        &self,
        old: Option<&CertificateDer<'static>>,
    ) -> Result<Certificate, OrderError> {
        let mut order = self.new_order(old).await?;
        let showing = self.challenges.show();
        self.offer_proof(&mut order, &showing).await?;
        self.await_validation(&mut order).await?;
        drop(showing);
        let key = KeyPair::generate()?;
        let names = self.identifiers.iter().map(|one| one.authorized(false).to_string());
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        let asked = "for the certificate";
        self.told(asked, order.finalize_csr(request.der()).await)?;
        let chain = self.told(asked, order.poll_certificate(&self.polling()).await)?;
        let pem = format!("{}{chain}", key.serialize_pem());
        let certificate = kept::parse(pem.as_bytes(), &self.store.certificate_path())
            .map_err(|why| self.useless(why.to_string()))?;
        if !kept::is_for(&certificate, self.identifiers) {
            let names = certificate.facts.names.join(", ");
            return Err(
                self.useless(format!("it is for {names:?}, and that is not what was asked for"))
            );
        }
        self.on_disk(move |store| store.keep_certificate(&pem)).await?;
        Ok(certificate)
    }

    /// An order with the account that is kept, or a new one where that is none or
    /// the authority has forgotten it.
    async fn new_order(&self, old: Option<&CertificateDer<'static>>) -> Result<Order, OrderError> {
        let kept = self.kept_account().await?;
        let is_new = kept.is_none();
        let account = match kept {
            Some(account) => account,
            None => self.new_account().await?,
        };
        let mut outcome = self.order_by(&account, old).await;
        if !is_new && outcome.as_ref().is_err_and(|error| words::is(error, "accountDoesNotExist")) {
            tracing::info!("{} does not know the kept ACME account: making one", self.host());
            let account = self.new_account().await?;
            outcome = self.order_by(&account, old).await;
        }
        self.told("for an order", outcome)
    }

    async fn order_by(
        &self,
        account: &Account,
        old: Option<&CertificateDer<'static>>,
    ) -> Result<Order, Error> {
        let plain = || match &self.config.profile {
            Some(profile) => NewOrder::new(self.identifiers).profile(profile),
            None => NewOrder::new(self.identifiers),
        };
        let Some(id) = old.and_then(|old| CertificateIdentifier::try_from(old).ok()) else {
            return account.new_order(&plain()).await;
        };
        match account.new_order(&plain().replaces(id)).await {
            // It knows nothing of renewals, or not of the old certificate.
            Err(error) if words::is_about_replacing(&error) => account.new_order(&plain()).await,
            outcome => outcome,
        }
    }

    async fn kept_account(&self) -> Result<Option<Account>, OrderError> {
        let kept = match self.on_disk(Store::account).await {
            Ok(kept) => kept,
            Err(error @ StoreError::Damaged { .. }) => {
                let aside = self.on_disk(Store::set_account_aside).await?;
                let aside = aside.display();
                tracing::warn!("{error}; a new ACME account is made, the file is now {aside}");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let Some(store::Account { contacts, credentials }) = kept else { return Ok(None) };
        let builder = self.builder()?;
        let account =
            self.told("for its directory", builder.from_credentials(credentials).await)?;
        let wanted = self.config.contacts();
        if contacts != wanted {
            self.change_contacts(&account, wanted).await?;
        }
        Ok(Some(account))
    }

    async fn change_contacts(
        &self,
        account: &Account,
        wanted: Vec<String>,
    ) -> Result<(), OrderError> {
        let as_str: Vec<&str> = wanted.iter().map(String::as_str).collect();
        match account.update_contacts(&as_str).await {
            // Without an account none is changed; the order will tell and make one.
            Err(error) if words::is(&error, "accountDoesNotExist") => return Ok(()),
            outcome => self.told("to change the account's contacts", outcome)?,
        }
        let change = move |store: &Store| match store.account()? {
            Some(kept) => store.keep_account(&store::Account { contacts: wanted, ..kept }),
            None => Ok(()),
        };
        Ok(self.on_disk(change).await?)
    }

    async fn new_account(&self) -> Result<Account, OrderError> {
        let contacts = self.config.contacts();
        let as_str: Vec<&str> = contacts.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &as_str,
            terms_of_service_agreed: self.config.terms_agreed,
            only_return_existing: false,
        };
        let directory = self.config.directory.clone();
        let made = self.builder()?.create(&new, directory, None).await;
        let (account, credentials) = self.told("for an account", made)?;
        let kept = store::Account { contacts, credentials };
        self.on_disk(move |store| store.keep_account(&kept)).await?;
        Ok(account)
    }

    /// Shows what proves that the domains are ours, and tells the authority to look.
    async fn offer_proof(
        &self,
        order: &mut Order,
        showing: &Showing<'_>,
    ) -> Result<(), OrderError> {
        let challenge = self.config.challenge;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = self.next(&mut authorizations).await {
            let mut authorization = authorization?;
            // It has looked before, and remembers.
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let offered: Vec<String> =
                authorization.challenges.iter().map(|one| words::kind(&one.r#type)).collect();
            let domain = words::shown(&authorization.identifier().to_string());
            let identifier = authorization.identifier().identifier.clone();
            let Some(mut one) = authorization.challenge(challenge.kind()) else {
                let (host, wanted) = (self.host(), challenge.name());
                let offered = words::shown(&offered.join(", "));
                return Err(OrderError::Challenge { host, domain, wanted, offered });
            };
            let proof = one.key_authorization();
            match challenge {
                Challenge::TlsAlpn01 => {
                    showing.certificate(&identifier, proof.digest().as_ref())?
                }
                Challenge::Http01 => showing.file(&one.token, proof.as_str()),
            }
            let outcome = one.set_ready().await;
            self.told("to look at the domains", outcome)?;
        }
        Ok(())
    }

    async fn await_validation(&self, order: &mut Order) -> Result<(), OrderError> {
        let outcome = order.poll_ready(&self.polling()).await;
        if matches!(outcome, Ok(OrderStatus::Ready)) {
            return Ok(());
        }
        // Which domain it was is told apart.
        let mut authorizations = order.authorizations();
        while let Some(authorization) = self.next(&mut authorizations).await {
            let mut authorization = authorization?;
            if authorization.refresh().await.is_err() {
                break;
            }
            let problem = authorization.challenges.iter().find_map(|one| one.error.as_ref());
            if let Some(problem) = problem {
                return Err(OrderError::Domain {
                    host: self.host(),
                    domain: words::shown(&authorization.identifier().to_string()),
                    said: words::problem(problem),
                    advice: self.where_it_looks(),
                });
            }
        }
        self.told("to look at the domains", outcome)?;
        Err(OrderError::Authority {
            host: self.host(),
            what: "to look at the domains",
            said: "it calls the order invalid, and does not say why".to_owned(),
        })
    }

    /// The next one of an order, whose state may have to be fetched.
    async fn next<'a>(
        &self,
        authorizations: &'a mut Authorizations<'_>,
    ) -> Option<Result<instant_acme::AuthorizationHandle<'a>, OrderError>> {
        let next = authorizations.next().await?;
        Some(self.told("about the domains", next))
    }

    fn where_it_looks(&self) -> &'static str {
        match self.config.challenge {
            Challenge::TlsAlpn01 => {
                "it looks at port 443 of that domain, which must lead to HTTPS_PORT of this server"
            }
            Challenge::Http01 => {
                "it looks at port 80 of that domain, which must lead to HTTP_PORT of this server"
            }
        }
    }

    fn builder(&self) -> Result<AccountBuilder, OrderError> {
        let http = Http::new(self.config, Arc::clone(&self.heard))?;
        Ok(Account::builder_with_http(Box::new(http)))
    }

    fn polling(&self) -> RetryPolicy {
        RetryPolicy::new().initial_delay(POLL_FIRST).timeout(self.config.poll_timeout)
    }

    fn told<T>(&self, what: &'static str, outcome: Result<T, Error>) -> Result<T, OrderError> {
        outcome.map_err(|error| OrderError::Authority {
            host: self.host(),
            what,
            said: words::said(&error),
        })
    }

    fn useless(&self, why: String) -> OrderError {
        OrderError::Useless { host: self.host(), why }
    }

    fn host(&self) -> String {
        self.config.host().to_owned()
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        store::on_disk(self.store, act).await
    }
}
