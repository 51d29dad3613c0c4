//! The keys of one issuer: fetched in the background, when a token names one that is not known, and never more often than
//! once a minute.

use super::{Unverified, fetch::Fetcher, kept::Kept};
use crate::health::Health;
use identity::{Issuer, Jwks, KeySource, Refused, Token, Verified};
use record::{Clock, Time};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::Instant;

/// From one good fetch to the next.
const REFRESH: Duration = Duration::from_secs(15 * 60);
/// From one fetch to the next whatever came of it: also the longest time for which a new key of the issuer is unknown here.
const PAUSE: Duration = Duration::from_secs(60);
/// How long keys are good that cannot be fetched again: a key that its issuer has taken back is refused after it.
const STALE_S: i64 = 24 * 3600;
/// From which age on somebody should look.
const LATE_S: i64 = 3600;

/// An issuer and its keys.
pub(crate) struct KeyCache {
    issuer: Issuer,
    fetcher: Fetcher,
    kept: Kept,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    held: RwLock<Option<Held>>,
    /// When it was asked last. Held while it is asked: who comes meanwhile waits for that answer.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Held {
    keys: Arc<Jwks>,
    fetched_at: Time,
}

impl KeyCache {
    /// With the keys that were kept, if any.
    pub(crate) fn new(
        issuer: Issuer,
        fetcher: Fetcher,
        kept: Kept,
        clock: Arc<dyn Clock>,
        health: Arc<Health>,
    ) -> Self {
        let held =
            kept.read(issuer.url()).map(|(keys, fetched_at)| Held { keys: Arc::new(keys), fetched_at });
        let asked = tokio::sync::Mutex::default();
        Self { issuer, fetcher, kept, clock, health, held: RwLock::new(held), asked }
    }

    /// The issuer.
    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Keeps the keys fresh, until the daemon ends.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let pause = if self.refresh().await { REFRESH } else { PAUSE };
            tokio::time::sleep(pause).await;
        }
    }

    /// Verifies a token. One that all else speaks for, and whose key is not known, has the issuer asked.
    pub(crate) async fn verify(&self, token: &Token, now: Time) -> Result<Verified, Unverified> {
        let no_keys = || Unverified::NoKeys(self.issuer.name().to_string());
        let keys = match self.fresh(now) {
            Some(keys) => keys,
            None => {
                self.refresh().await;
                self.fresh(now).ok_or_else(no_keys)?
            }
        };
        match self.issuer.verify(token, &keys, now) {
            Err(Refused::UnknownKey) => {
                // Or somebody else has asked meanwhile: the keys may be others all the same.
                self.refresh().await;
                let keys = self.fresh(now).ok_or_else(no_keys)?;
                Ok(self.issuer.verify(token, &keys, now)?)
            }
            other => Ok(other?),
        }
    }

    /// The keys, if they are not too old.
    fn fresh(&self, now: Time) -> Option<Arc<Jwks>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        (now < held.fetched_at.plus_s(STALE_S)).then_some(held.keys)
    }

    /// Fetches the keys, unless that was tried within the last minute; says whether it has.
    // INVARIANT(one-refresh-a-minute): however many tokens name keys that nobody has.
    async fn refresh(&self) -> bool {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return false;
        }
        *asked = Some(Instant::now());
        let fetched = self.fetcher.keys(&self.issuer).await;
        let now = self.clock.now();
        let done = match fetched {
            Ok((document, keys)) => {
                self.take(keys, &document, now);
                true
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer.name(), %error, "the keys of an issuer could not be fetched");
                false
            }
        };
        self.tell(now);
        done
    }

    fn take(&self, keys: Jwks, document: &[u8], now: Time) {
        let held = Held { keys: Arc::new(keys), fetched_at: now };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
        if matches!(self.issuer.source(), KeySource::File(_)) {
            return;
        }
        if let Err(error) = self.kept.write(self.issuer.url(), now, document) {
            tracing::warn!(issuer = %self.issuer.name(), %error, "the keys of an issuer could not be kept for the next start");
        }
    }

    /// An alarm while the keys are not as fresh as they should be.
    fn tell(&self, now: Time) {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone();
        let name = self.issuer.name();
        let alarm = match held {
            None => Some(format!("issuer {name}: its keys were never fetched; its jobs cannot sign")),
            Some(held) if now >= held.fetched_at.plus_s(STALE_S) => Some(format!(
                "issuer {name}: its keys are of {}, which is too long ago; its jobs cannot sign",
                held.fetched_at
            )),
            Some(held) if now >= held.fetched_at.plus_s(LATE_S) => {
                Some(format!("issuer {name}: its keys could not be fetched since {}", held.fetched_at))
            }
            Some(_) => None,
        };
        self.health.set_issuer(name.as_str(), alarm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oidc_sim::{Answer, By, Case, DISCOVERY, IssuerServer, KEYS, Keys};
    use record::FixedClock;
    use std::path::Path;

    const AUDIENCE: &str = "https://sign.example.com";

    struct World {
        server: IssuerServer,
        keys: Keys,
        clock: FixedClock,
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let keys = Keys::new();
            let clock = FixedClock::at(Time::from_unix_ms(1_790_000_000_000).unwrap());
            Self {
                server: IssuerServer::start(&keys.public()),
                keys,
                clock,
                folder: tempfile::tempdir().unwrap(),
            }
        }

        fn issuer(&self, more: &str) -> Issuer {
            let url = self.server.url();
            let text = format!(
                "name = \"forge\"\nprovider = \"github\"\nissuer = {url:?}\naudience = {AUDIENCE:?}\n{more}"
            );
            Issuer::new(toml::from_str(&text).unwrap(), None).unwrap()
        }

        /// As the daemon has it right after a start.
        fn cache(&self, more: &str) -> Arc<KeyCache> {
            self.cache_in(self.folder.path(), more)
        }

        fn cache_in(&self, folder: &Path, more: &str) -> Arc<KeyCache> {
            let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
            let health = Arc::new(Health::new(clock.clone(), None));
            let kept = Kept::in_folder(folder, "forge");
            Arc::new(KeyCache::new(self.issuer(more), Fetcher::new().unwrap(), kept, clock, health))
        }

        async fn by(&self, cache: &KeyCache, by: By) -> Result<(), String> {
            let now = self.clock.now();
            let case = Case { by, ..Case::default() };
            let token = case.mint(&self.server.url(), AUDIENCE, &self.keys, now.unix_s());
            let verified = cache.verify(&Token::parse(&token).unwrap(), now).await;
            verified.map(drop).map_err(|e| match e {
                Unverified::Refused(refused) => refused.code().to_owned(),
                other => other.to_string(),
            })
        }
    }

    async fn a_minute_passes(cache: &KeyCache) {
        let mut asked = cache.asked.lock().await;
        *asked = asked.and_then(|at| at.checked_sub(PAUSE));
    }

    const NO_KEYS: &str = "the keys of the issuer forge cannot be had";

    /// INVARIANT(one-refresh-a-minute)
    #[tokio::test]
    async fn one_refresh_a_minute() {
        let world = World::new();
        let cache = world.cache("");
        assert_eq!(world.by(&cache, By::Rsa).await, Ok(()));
        for _ in 0..100 {
            assert_eq!(world.by(&cache, By::Stranger).await, Err("unknown-kid".into()));
        }
        assert_eq!((world.server.asked(DISCOVERY), world.server.asked(KEYS)), (1, 1));
        a_minute_passes(&cache).await;
        let storm = (0..50).map(|_| world.by(&cache, By::Stranger));
        for refused in futures_util::future::join_all(storm).await {
            assert_eq!(refused, Err("unknown-kid".into()));
        }
        assert_eq!(world.server.asked(KEYS), 2);
    }

    #[tokio::test]
    async fn a_new_key_is_found_when_a_token_names_it_and_a_removed_one_is_refused_after_a_refresh() {
        let world = World::new();
        let cache = world.cache("");
        assert_eq!(world.by(&cache, By::Rsa).await, Ok(()));
        world.server.publish(&[world.keys.stranger.public()]);
        assert_eq!(world.by(&cache, By::Stranger).await, Err("unknown-kid".into()), "within the minute");
        a_minute_passes(&cache).await;
        assert_eq!(world.by(&cache, By::Stranger).await, Ok(()));
        assert_eq!(world.by(&cache, By::Rsa).await, Err("unknown-kid".into()));
    }

    #[tokio::test]
    async fn a_restart_while_the_issuer_is_away_goes_on_with_the_kept_keys_until_they_are_too_old() {
        let mut world = World::new();
        assert_eq!(world.by(&world.cache(""), By::Rsa).await, Ok(()));
        world.server.stop();
        assert_eq!(world.by(&world.cache(""), By::Rsa).await, Ok(()));
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(world.by(&world.cache_in(elsewhere.path(), ""), By::Rsa).await, Err(NO_KEYS.into()));
        world.clock.advance_ms(STALE_S * 1000 - 1);
        assert_eq!(world.by(&world.cache(""), By::Rsa).await, Ok(()));
        world.clock.advance_ms(1);
        let cache = world.cache("");
        assert_eq!(world.by(&cache, By::Rsa).await, Err(NO_KEYS.into()));
        let alarms = cache.health.alarms();
        assert!(alarms.iter().any(|alarm| alarm.contains("too long ago")), "{alarms:?}");
        world.server.resume();
        let cache = world.cache("");
        assert_eq!(world.by(&cache, By::Rsa).await, Ok(()));
        assert!(cache.health.alarms().is_empty());
    }

    #[tokio::test]
    async fn keys_that_are_kept_of_another_issuer_or_are_damaged_are_not_used() {
        let world = World::new();
        let kept = Kept::in_folder(world.folder.path(), "forge");
        let now = world.clock.now();
        let keys = serde_json::json!({"keys": [world.keys.stranger.public()]}).to_string();
        kept.write("https://another.example", now, keys.as_bytes()).unwrap();
        assert_eq!(world.by(&world.cache(""), By::Stranger).await, Err("unknown-kid".into()));
        std::fs::write(world.folder.path().join("issuers/forge.json"), b"{").unwrap();
        assert_eq!(world.by(&world.cache(""), By::Rsa).await, Ok(()));
    }

    #[tokio::test]
    async fn an_issuer_leads_nobody_elsewhere_and_cannot_make_him_read_for_ever() {
        let world = World::new();
        let other = IssuerServer::start(&world.keys.public());
        let (url, elsewhere) = (world.server.url(), format!("{}{KEYS}", other.url()));
        let document =
            |issuer: &str, keys: &str| Answer::Json(serde_json::json!({"issuer": issuer, "jwks_uri": keys}));
        let here = format!("{url}{KEYS}");
        for (path, answer) in [
            (DISCOVERY, Answer::Redirect(format!("{}{DISCOVERY}", other.url()))),
            (DISCOVERY, document(&other.url(), &here)),
            (DISCOVERY, document(&url, &elsewhere)),
            (DISCOVERY, document(&url, "file:///etc/passwd")),
            (DISCOVERY, Answer::Spaces(65 * 1024)),
            (DISCOVERY, Answer::Nothing),
            (KEYS, Answer::Redirect(elsewhere.clone())),
            (KEYS, Answer::Spaces(300 * 1024)),
            (KEYS, Answer::Json(serde_json::json!({"keys": []}))),
        ] {
            world.server.answer(DISCOVERY, document(&url, &here));
            world.server.publish(&world.keys.public());
            world.server.answer(path, answer.clone());
            assert_eq!(world.by(&world.cache(""), By::Rsa).await, Err(NO_KEYS.into()), "{path} {answer:?}");
        }
        assert_eq!((other.asked(DISCOVERY), other.asked(KEYS)), (0, 0));
        let explicit = world.cache(&format!("jwks_url = {elsewhere:?}"));
        assert_eq!(world.by(&explicit, By::Rsa).await, Ok(()), "the operator may say so");
    }

    #[tokio::test]
    async fn keys_of_a_file_ask_nobody() {
        let mut world = World::new();
        world.server.stop();
        let file = world.folder.path().join("jwks.json");
        let keys = serde_json::json!({"keys": world.keys.public()}).to_string();
        std::fs::write(&file, keys).unwrap();
        let cache = world.cache(&format!("jwks_file = {file:?}"));
        assert_eq!(world.by(&cache, By::Rsa).await, Ok(()));
        assert!(!world.folder.path().join("issuers").exists(), "it is kept where it is");
    }
}
