//! Credentials of CI jobs: tokens of issuers that were used, and what they were exchanged for. No leaf gives them, and no
//! backup has them: nothing here is a reason to trust a copy.

use super::{
    Rejected, Store, StoreError,
    requests::parse,
    rows::{json, time},
};
use record::{Ci, Principal, RequestId, Sha256, Time};
use sqlx::{Row, SqliteConnection};

/// Live sessions of one principal: jobs of a large matrix build, all within a quarter of an hour.
const MAX_OF_ONE: i64 = 256;
/// Live sessions in all. Each is about a kilobyte.
const MAX_SESSIONS: i64 = 16_384;

/// How long a used token is remembered beyond its end, in seconds: a call that was let in before that end may come to the
/// writer behind one that was let in after it, and the clock may be set back a little.
const MARGIN_S: i64 = 300;

/// A token of an issuer that is used up, and the session that it is exchanged for: one transaction has both or neither.
#[derive(Debug, Clone)]
pub(crate) struct NewSession {
    /// The issuer's URL.
    pub issuer: String,
    /// By what the token is known among the issuer's.
    pub token_id: String,
    /// When no such token is accepted any more, used or not.
    pub forgotten: Time,
    /// The hash of the session's secret.
    pub secret_sha256: Sha256,
    /// Who has it.
    pub principal: Principal,
    /// The job.
    pub ci: Ci,
    /// When it ends.
    pub expires: Time,
    /// The time now: what has ended before it is deleted.
    pub now: Time,
}

/// A session, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRow {
    pub principal: Principal,
    pub ci: Ci,
    pub expires: Time,
}

/// What is good to read one request.
#[derive(Debug, Clone)]
pub(crate) struct NewPollToken {
    /// The hash of its secret.
    pub secret_sha256: Sha256,
    /// When it ends.
    pub expires: Time,
    /// The time now: what has ended before it is deleted.
    pub now: Time,
}

impl NewSession {
    /// Uses the token up, unless it was used before.
    pub(super) async fn insert(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Result<(), Rejected>, StoreError> {
        for (sql, before) in [
            ("DELETE FROM used_token WHERE forgotten_ms <= ?", self.now.plus_s(-MARGIN_S)),
            ("DELETE FROM session WHERE expires_ms <= ?", self.now),
        ] {
            sqlx::query(sql).bind(before.unix_ms()).execute(&mut *connection).await?;
        }
        let (all, of_one): (i64, i64) =
            sqlx::query_as("SELECT count(*), coalesce(sum(principal = ?), 0) FROM session")
                .bind(self.principal.as_str())
                .fetch_one(&mut *connection)
                .await?;
        if all >= MAX_SESSIONS || of_one >= MAX_OF_ONE {
            return Ok(Err(Rejected::Sessions));
        }
        // INVARIANT(used-once): the primary key decides, in the transaction that makes the session.
        let used = sqlx::query(
            "INSERT INTO used_token (issuer, token_id, forgotten_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&self.issuer)
        .bind(&self.token_id)
        .bind(self.forgotten.unix_ms())
        .execute(&mut *connection)
        .await?;
        if used.rows_affected() != 1 {
            return Ok(Err(Rejected::Used));
        }
        sqlx::query("INSERT INTO session (secret_sha256, principal, ci, expires_ms) VALUES (?, ?, ?, ?)")
            .bind(self.secret_sha256.as_bytes().to_vec())
            .bind(self.principal.as_str())
            .bind(super::project::to_json(&self.ci)?)
            .bind(self.expires.unix_ms())
            .execute(connection)
            .await?;
        Ok(Ok(()))
    }
}

impl NewPollToken {
    /// Makes it good for this request.
    pub(super) async fn insert(
        &self,
        connection: &mut SqliteConnection,
        request: &RequestId,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM poll_token WHERE expires_ms <= ?")
            .bind(self.now.unix_ms())
            .execute(&mut *connection)
            .await?;
        sqlx::query("INSERT INTO poll_token (secret_sha256, request, expires_ms) VALUES (?, ?, ?)")
            .bind(self.secret_sha256.as_bytes().to_vec())
            .bind(request.as_str())
            .bind(self.expires.unix_ms())
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// From now on no token that was issued before `since` is accepted: it is not known which of them were used.
// INVARIANT(forward-only): the moment is never moved back.
pub(super) async fn refuse_issued_before(
    connection: &mut SqliteConnection,
    since: Time,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO token_floor (id, since_ms) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET since_ms = max(since_ms, excluded.since_ms)")
        .bind(since.unix_ms())
        .execute(connection)
        .await?;
    Ok(())
}

impl Store {
    /// The session with this secret, if it has not ended.
    pub(crate) async fn session(&self, secret: &Sha256, now: Time) -> Result<Option<SessionRow>, StoreError> {
        let sql = "SELECT principal, ci, expires_ms FROM session WHERE secret_sha256 = ? AND expires_ms > ?";
        let row = sqlx::query(sql)
            .bind(secret.as_bytes().to_vec())
            .bind(now.unix_ms())
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| {
            Ok(SessionRow {
                principal: parse(row.try_get(0)?)?,
                ci: json(row.try_get(1)?)?,
                expires: time(row.try_get(2)?)?,
            })
        })
        .transpose()
    }

    /// The request that a poll token is for, if it has not ended.
    pub(crate) async fn polled(&self, secret: &Sha256, now: Time) -> Result<Option<RequestId>, StoreError> {
        let sql = "SELECT request FROM poll_token WHERE secret_sha256 = ? AND expires_ms > ?";
        let request: Option<String> = sqlx::query_scalar(sql)
            .bind(secret.as_bytes().to_vec())
            .bind(now.unix_ms())
            .fetch_optional(&self.readers)
            .await?;
        request.as_deref().map(parse).transpose()
    }

    /// Since when tokens must have been issued, if the database does not know all that were used.
    pub(crate) async fn token_floor(&self) -> Result<Option<Time>, StoreError> {
        let since: Option<i64> =
            sqlx::query_scalar("SELECT since_ms FROM token_floor").fetch_optional(&self.readers).await?;
        since.map(time).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ImageRow, NewLeaf, NewRequest, NewRow, Writer};
    use record::{CiText, Event, Leaf, Nonce};

    fn at(s: i64) -> Time {
        Time::from_unix_ms(1_790_000_000_000).unwrap().plus_s(s)
    }

    fn session(principal: &str, token_id: &str, now: Time) -> NewSession {
        let text = |text: &str| CiText::parse(text).unwrap();
        let ci = Ci {
            provider: text("github"),
            issuer: text("github"),
            repository: text("github.com/acme/api"),
            repository_id: text("74"),
            owner_id: None,
            reference: None,
            ref_protected: false,
            commit: None,
            workflow: None,
            workflow_ref: None,
            event: None,
            environment: None,
            hosted_runner: true,
            fork_or_merge_request: false,
            run: None,
        };
        NewSession {
            issuer: "https://issuer.example".into(),
            token_id: token_id.into(),
            forgotten: now.plus_s(330),
            secret_sha256: Sha256::of(format!("{principal} {token_id}").as_bytes()),
            principal: Principal::parse(principal).unwrap(),
            ci,
            expires: now.plus_s(900),
            now,
        }
    }

    async fn insert(writer: &mut Writer, row: impl Into<NewRow>) -> Result<(), Rejected> {
        writer.commit(1, &[], &[row.into()]).await.unwrap().1.remove(0)
    }

    /// INVARIANT(used-once)
    #[tokio::test]
    async fn used_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = Store::path_in(folder.path());
        Store::create(&path, "log.example", "vkey").await.unwrap().close().await.unwrap();
        let (store, mut writer) = Store::open(&path).await.unwrap();
        let first = session("ci:github/74", "one", at(0));
        assert_eq!(insert(&mut writer, first.clone()).await, Ok(()));
        let again = NewSession { secret_sha256: Sha256::of(b"another"), ..first.clone() };
        assert_eq!(insert(&mut writer, again.clone()).await, Err(Rejected::Used));
        assert_eq!(store.session(&again.secret_sha256, at(0)).await.unwrap(), None, "both or neither");
        let elsewhere = NewSession { issuer: "https://other.example".into(), ..again.clone() };
        assert_eq!(insert(&mut writer, elsewhere).await, Ok(()), "each issuer has its own ids");
        let found = store.session(&first.secret_sha256, at(899)).await.unwrap().unwrap();
        assert_eq!(
            (found.principal, found.ci, found.expires),
            (first.principal.clone(), first.ci.clone(), at(900))
        );
        assert_eq!(store.session(&first.secret_sha256, at(900)).await.unwrap(), None);
        // It is forgotten only when nobody would accept it any more, not even a call that was on its way meanwhile.
        let other = session("ci:github/75", "other", at(330 + MARGIN_S - 1));
        assert_eq!(insert(&mut writer, other).await, Ok(()));
        let late = NewSession { now: at(329), ..again.clone() };
        assert_eq!(insert(&mut writer, late).await, Err(Rejected::Used));
        let later = NewSession { now: at(330 + MARGIN_S), secret_sha256: Sha256::of(b"a third"), ..again };
        assert_eq!(insert(&mut writer, later).await, Ok(()));
    }

    #[tokio::test]
    async fn one_principal_cannot_take_the_room_of_all_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = Store::path_in(folder.path());
        let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
        let rows: Vec<NewRow> =
            (0..=MAX_OF_ONE).map(|n| session("ci:github/74", &n.to_string(), at(0)).into()).collect();
        let (_, inserted) = writer.commit(1, &[], &rows).await.unwrap();
        let (last, others) = inserted.split_last().unwrap();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(*last, Err(Rejected::Sessions));
        assert_eq!(insert(&mut writer, session("ci:github/75", "x", at(1))).await, Ok(()));
        let refused = session("ci:github/74", "256", at(1));
        assert_eq!(insert(&mut writer, refused.clone()).await, Err(Rejected::Sessions));
        let later = NewSession { now: at(900), ..refused };
        assert_eq!(insert(&mut writer, later).await, Ok(()), "the token was not used up by the refusal");
    }

    #[tokio::test]
    async fn a_bearer_that_reads_a_request_is_deleted_after_its_end_by_the_next_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = Store::path_in(folder.path());
        Store::create(&path, "log.example", "vkey").await.unwrap().close().await.unwrap();
        let (store, mut writer) = Store::open(&path).await.unwrap();
        let request = |n: i64| {
            let (id, secret_sha256) = (RequestId::new(at(n)), Sha256::of(&n.to_be_bytes()));
            let poll = NewPollToken { secret_sha256, expires: at(n + 100), now: at(n) };
            let image = ImageRow {
                repository: "r.example/a".parse().unwrap(),
                tag: "v1".parse().unwrap(),
                digest: record::Digest::of(b"x"),
                size: 1,
                media_type: "a/b".into(),
            };
            let idempotency = (n.to_string(), Sha256::of(b""));
            let by = Principal::parse("token:a").unwrap();
            NewRequest { id, by, caller: None, idempotency, image, created: at(n), poll: Some(poll) }
        };
        let (first, second) = (request(0), request(100));
        let secret = first.poll.as_ref().unwrap().secret_sha256;
        assert_eq!(insert(&mut writer, first.clone()).await, Ok(()));
        assert_eq!(store.polled(&secret, at(99)).await.unwrap(), Some(first.id));
        assert_eq!(store.polled(&secret, at(100)).await.unwrap(), None);
        assert_eq!(insert(&mut writer, second).await, Ok(()));
        assert_eq!(store.polled(&secret, at(99)).await.unwrap(), None, "it is gone");
    }

    #[tokio::test]
    async fn after_a_database_was_rolled_back_or_restored_only_newer_tokens_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = Store::path_in(folder.path());
        Store::create(&path, "log.example", "vkey").await.unwrap().close().await.unwrap();
        let (store, mut writer) = Store::open(&path).await.unwrap();
        assert_eq!(store.token_floor().await.unwrap(), None);
        let nonce: Nonce = "0".repeat(32).parse().unwrap();
        let rolled_back = |time| {
            let leaf =
                Leaf::Event(Event::StoreRolledBack { time, nonce: nonce.clone(), database: 1, spool: 2 });
            NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: None }
        };
        writer.commit_all(1, &[rolled_back(at(5))]).await.unwrap();
        assert_eq!(store.token_floor().await.unwrap(), Some(at(5)));
        writer.commit_all(1, &[rolled_back(at(3))]).await.unwrap();
        assert_eq!(store.token_floor().await.unwrap(), Some(at(5)), "as when an older leaf is read again");
        assert_eq!(insert(&mut writer, NewRow::TokenFloor(at(9))).await, Ok(()));
        assert_eq!(store.token_floor().await.unwrap(), Some(at(9)));
    }
}
