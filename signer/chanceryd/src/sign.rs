//! The pipeline: the one way from a caller's words to a signature that clients see.
//!
//! ```text
//! SignRequest -> Authenticated -> Allowed -> Approved -> Receipt -> Answered -> Checked -> Recorded
//!    parse           who           policy     people     intent      keeper     verified   outcome
//! ```
//! Each arrow is one function, each type has private fields and one constructor in this file, and none is `Clone`: a
//! step cannot be skipped or done twice, and asking a keeper consumes the receipt that proves a durable intent.
//!
//! This compiles:
//! ```
//! use chanceryd::sign::{Allowed, Approved, Receipt};
//! fn people(allowed: Allowed) -> Approved { Approved::without_people(allowed) }
//! fn ask(receipt: Receipt) { let _message = receipt.into_parts(); }
//! ```
//! Policy cannot be skipped, nor its word be made up:
//! ```compile_fail,E0308
//! use chanceryd::sign::{Approved, Authenticated};
//! fn people(who: Authenticated) -> Approved { Approved::without_people(who) }
//! ```
//! ```compile_fail,E0451
//! fn allow(other: chanceryd::sign::Allowed) { let _allowed = chanceryd::sign::Allowed { image: None, ..other }; }
//! ```
//! Nobody authenticates himself, and no receipt comes from anywhere but the log:
//! ```compile_fail,E0624
//! fn me(proof: chanceryd::auth::Proof) { let _who = chanceryd::sign::Authenticated::new(proof); }
//! ```
//! ```compile_fail,E0451
//! fn forge(other: chanceryd::sign::Receipt) { let _receipt = chanceryd::sign::Receipt { index: 7, ..other }; }
//! ```
//! A receipt is good for one question:
//! ```compile_fail,E0382
//! fn ask(receipt: chanceryd::sign::Receipt) { let _once = receipt.into_parts(); let _twice = receipt.into_parts(); }
//! ```
//! ```compile_fail,E0277
//! fn copy<T: Clone>(_: &T) {}
//! fn ask(receipt: chanceryd::sign::Receipt) { copy(&receipt); }
//! ```

use crate::{
    audit::{AppendError, Log, Placed},
    keys::KeyDirectory,
    refusals::Roll,
    signer::{AskError, Closed, Context, Signer},
    store::{Rejected, StoreError, Waiting},
};
use policy::{Ask, Caller, Decision, Facts, Manifest, PolicySet, Signing};
use record::{
    Action, Allowance, Change, Clock, Completion, Denial, Digest, Evidence, FailureCode, ImageRef, Intent,
    KeeperName, KeyId, Leaf, MessageTooLong, Nonce, Outcome, OutcomeKind, PolicyStamp, Reason, Repository,
    RequestId, Requested, Signature, SignedData, Spki, Tag, Time,
    canonical::CanonicalError,
    wire::{Extra, SignResult},
};

/// What a caller asks for, parsed.
#[derive(Debug)]
pub struct SignRequest {
    pub(crate) image: ImageRef,
    pub(crate) tag: Tag,
}

/// A caller that has proven who it is.
#[derive(Debug)]
pub struct Authenticated {
    caller: Caller,
}

/// A request that policy allows now.
#[derive(Debug)]
pub struct Allowed {
    requested: Requested,
    stamp: PolicyStamp,
    /// Says so in the log, in the commit of each intent that is made of this.
    allowance: Leaf,
    repository: Repository,
    image: Option<SignedImage>,
}

/// A request that policy allows and that the people it needs have approved.
#[derive(Debug)]
pub struct Approved {
    allowed: Allowed,
}

/// Proof that an intent is durable here and at the log keeper, under a note that verifies. Good for one question.
#[derive(Debug)]
pub struct Receipt {
    index: u64,
    intent: Intent,
    bytes: Vec<u8>,
    asked: Asked,
    extra: Extra,
}

/// The key that is asked, and what it signs of the payload.
#[derive(Debug, Clone)]
struct Asked {
    spki: Spki,
    data: SignedData,
}

/// What the keeper said to one receipt.
#[derive(Debug)]
pub struct Answered {
    index: u64,
    intent: Intent,
    asked: Option<Asked>,
    result: SignResult,
}

/// A completion that verifies: the pinned key's, over the intent's payload.
#[derive(Debug)]
pub struct Checked {
    index: u64,
    completion: Completion,
}

/// A signature whose completion stands in the log, under a note.
#[derive(Debug)]
pub struct Recorded {
    closed: Closed,
}

#[derive(Debug, Clone)]
struct SignedImage {
    tag: Tag,
    digest: Digest,
    size: u64,
    media_type: String,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// Nothing can be written to the log, or it is not known whether it was.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The database failed.
    #[error("{}", .0.full())]
    Store(#[from] StoreError),
    /// The bytes cannot be built; no intent was written.
    #[error("the bytes to sign cannot be built: {0}")]
    Build(#[from] formats::BuildError),
    /// They are more than this kind of key signs; no intent was written.
    #[error(transparent)]
    TooLong(#[from] MessageTooLong),
    /// No keeper presents the key that must sign.
    #[error("no signing keeper presents the key {0}")]
    NoKey(KeyId),
    /// The keeper refused or went away.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The keeper says that no signature was made; the log says so too.
    #[error("the keeper made no signature ({0})")]
    Failed(FailureCode),
    /// The keeper cannot say whether a signature was made; the log says `unknown`.
    #[error("the keeper cannot say whether it signed")]
    Unknown,
    /// What the keeper gave is no signature over the intent's payload; the log says `unknown`.
    #[error("the keeper's signature does not verify with its pinned key")]
    BadSignature,
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
    /// The clock is behind the log: nothing was written.
    #[error("{0}")]
    Clock(String),
}

/// A refusal by policy, as it stands in the log.
#[derive(Debug)]
pub(crate) struct Denied {
    /// Its entry, unless it was one of so many that they are counted only.
    pub entry: Option<u64>,
    pub request: RequestId,
    pub reasons: Vec<Reason>,
}

/// One signature that shall be made; only [`Draft::root_certificate`] and its siblings make one.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The decisions that its intent names.
    allowances: Vec<Leaf>,
    repository: Repository,
    key: KeyId,
    policy: Option<PolicyStamp>,
    requested: Option<Requested>,
    retries: Option<u64>,
    action: Action,
    extra: Extra,
}

/// Everything the second half of the pipeline needs.
pub(crate) struct Pipeline<'a> {
    pub log: &'a Log,
    pub keys: &'a KeyDirectory,
    pub clock: &'a dyn Clock,
    pub signers: &'a std::collections::BTreeMap<KeeperName, Signer>,
}

impl Pipeline<'_> {
    /// Who asks the keeper that holds a key.
    fn signer_of(&self, key: KeyId) -> Result<&Signer, SignError> {
        let keeper = self.keys.find(&key).map(|(keeper, _)| keeper);
        keeper.and_then(|name| self.signers.get(&name)).ok_or(SignError::NoKey(key))
    }
}

// ---- 1. to 4.: may it be signed? -----------------------------------------------------------------------------------

impl Authenticated {
    /// 1. Who asks: only [`crate::auth`] knows how to tell, and hands over what it found.
    pub(crate) fn new(proof: crate::auth::Proof) -> Self {
        Self { caller: proof.into_caller() }
    }
}

impl Allowed {
    /// 2. What policy says. A refusal is written into the log before it is answered.
    pub(crate) async fn decide(
        who: &Authenticated,
        request: RequestId,
        repository: Repository,
        ask: Ask,
        policy: &PolicySet,
        roll: &Roll<'_>,
        now: Time,
    ) -> Result<Result<Self, Denied>, SignError> {
        let facts = Facts { caller: who.caller.clone(), repository, ask, now };
        let decision = policy.decide(&facts);
        tell(&decision, &facts);
        // What waits for people is refused like what is denied: nobody can be asked yet.
        if !decision.allowed() {
            return roll.deny(denial(request, &facts, decision)?).await.map(Err);
        }
        let (stamp, rules) = (decision.stamp, decision.rules);
        let allowance = Leaf::Allowance(allowance(request.clone(), &facts, stamp, rules.clone())?);
        let named = record::Sha256::of(&allowance.encode().map_err(AppendError::from)?);
        let by = facts.caller.principal().clone();
        let requested = Requested { request, by, rules, decision: Some(named), statement: None };
        Ok(Ok(Self {
            requested,
            stamp,
            allowance,
            repository: facts.repository,
            image: signed_image(facts.ask),
        }))
    }
}

impl Approved {
    /// 3. Whom it needs: a policy without approval rules needs nobody. Where a charter has a rule, its keeper
    ///    refuses what people have not approved.
    pub fn without_people(allowed: Allowed) -> Self {
        Self { allowed }
    }

    /// The repository it is for.
    pub(crate) fn repository(&self) -> &Repository {
        &self.allowed.repository
    }

    /// The policy under which it was allowed.
    pub(crate) fn stamp(&self) -> PolicyStamp {
        self.allowed.stamp
    }

    /// What it wants signed, as a row.
    pub(crate) fn image_row(&self) -> Option<crate::store::ImageRow> {
        let image = self.allowed.image.as_ref()?;
        Some(crate::store::ImageRow {
            repository: self.allowed.repository.clone(),
            tag: image.tag.clone(),
            digest: image.digest,
            size: image.size,
            media_type: image.media_type.clone(),
        })
    }

    /// Bytes that its change takes in the intent's leaf.
    pub(crate) fn change_bytes(&self) -> usize {
        self.change()
            .and_then(|change| record::canonical::encode(&change).ok())
            .map_or(0, |bytes| bytes.len())
    }

    fn change(&self) -> Option<Change> {
        let SignedImage { tag, digest, size, media_type } = self.allowed.image.clone()?;
        Some(Change { tag, digest, size, media_type, requested: self.allowed.requested.clone() })
    }
}

impl Draft {
    /// The role whose next version it is to be; for a certificate that of its key.
    pub(crate) fn role(&self) -> record::Purpose {
        self.action.purpose()
    }

    /// The version; `None` for a certificate.
    pub(crate) fn version(&self) -> Option<u64> {
        self.action.version()
    }

    /// The certificate of a new collection's root key.
    pub(crate) fn root_certificate(
        approved: &Approved,
        key: KeyId,
        serial: Nonce,
        not_before: Time,
        not_after: Time,
    ) -> Self {
        let action = Action::RootCertificate { serial, not_before, not_after };
        Self::requested(approved, key, action, Extra::RootCertificate {})
    }

    /// The first root of a new collection.
    pub(crate) fn root(
        approved: &Approved,
        roles: record::RoleKeys,
        certificate: Vec<u8>,
        expires: Time,
    ) -> Self {
        let hash = record::Sha256::of(&certificate);
        let key = roles.root;
        let action = Action::Root { version: 1, expires, certificate: hash, roles };
        Self::requested(approved, key, action, Extra::Root { certificate: record::wire::Blob(certificate) })
    }

    /// The next targets with these changes, which all stand under one policy; without changes a renewal.
    pub(crate) fn targets(repository: &Repository, key: KeyId, next: NextTargets) -> Self {
        let policy = next.approved.first().map(Approved::stamp);
        let mut changes: Vec<Change> = next.approved.iter().filter_map(Approved::change).collect();
        changes.sort_by(|a, b| a.tag.cmp(&b.tag));
        let prev = next.prev.as_ref().map(|(payload, _)| *payload);
        let action = Action::Targets { version: next.version, expires: next.expires, prev, changes };
        let extra = Extra::Targets { prev: next.prev.map(|(_, file)| record::wire::Blob(file)) };
        let allowances = next.approved.iter().map(|approved| approved.allowed.allowance.clone()).collect();
        Self {
            allowances,
            repository: repository.clone(),
            key,
            policy,
            requested: None,
            retries: next.retries,
            action,
            extra,
        }
    }

    /// A snapshot or a timestamp: the service acts by itself, on files that are recorded.
    pub(crate) fn service(repository: &Repository, key: KeyId, action: Action, extra: Extra) -> Self {
        Self {
            allowances: Vec::new(),
            repository: repository.clone(),
            key,
            policy: None,
            requested: None,
            retries: None,
            action,
            extra,
        }
    }

    fn requested(approved: &Approved, key: KeyId, action: Action, extra: Extra) -> Self {
        Self {
            allowances: vec![approved.allowed.allowance.clone()],
            repository: approved.allowed.repository.clone(),
            key,
            policy: Some(approved.allowed.stamp),
            requested: Some(approved.allowed.requested.clone()),
            retries: None,
            action,
            extra,
        }
    }
}

/// What the next targets version is made of.
#[derive(Debug)]
pub(crate) struct NextTargets {
    pub version: u64,
    pub expires: Time,
    /// Payload hash and file of the version that is changed.
    pub prev: Option<(record::Sha256, Vec<u8>)>,
    pub approved: Vec<Approved>,
    pub retries: Option<u64>,
}

// ---- 5. to 8.: it is signed ----------------------------------------------------------------------------------------

/// Signs one draft. Run it on a task of its own: whoever drops it leaves the intent to [`finish_abandoned`].
pub(crate) async fn sign(pipeline: &Pipeline<'_>, draft: Draft) -> Result<(), SignError> {
    let signer = pipeline.signer_of(draft.key)?;
    let receipt = write_intent(pipeline, draft).await?; // 4. intent: durable here, at the log keeper, under a note
    let answered = ask(signer, receipt).await?; //              5. keeper: validates, reserves, signs
    let (closed, result) = match check(answered) {
        Ok(checked) => (record(pipeline.log, checked).await?.closed, Ok(())), // 6. verified  7. completion durable
        Err(unsigned) => write_outcome(pipeline.log, pipeline.clock, unsigned).await?, //     or its outcome
    };
    signer.settle(closed).await; //                             8. the keeper may forget it
    result
}

// INVARIANT(log-before-key): the only constructor of a receipt waits for the note that covers the intent.
async fn write_intent(pipeline: &Pipeline<'_>, draft: Draft) -> Result<Receipt, SignError> {
    let (keeper, spki) = pipeline.keys.find(&draft.key).ok_or(SignError::NoKey(draft.key))?;
    let time = pipeline.clock.now();
    pipeline.log.clock_problem(time).map_or(Ok(()), |why| Err(SignError::Clock(why)))?;
    let origin = pipeline.log.origin().clone();
    let mut intent = Intent {
        log: origin,
        keeper,
        key: draft.key,
        purpose: draft.action.purpose(),
        format: draft.action.format(),
        time,
        nonce: Nonce::random().map_err(|e| SignError::Random(e.to_string()))?,
        repository: draft.repository,
        policy: draft.policy,
        requested: draft.requested,
        retries: draft.retries,
        action: draft.action,
        payload: record::Sha256::of(b""),
        payload_sha384: None,
    };
    let payload = formats::build(&intent, &draft.extra, &pipeline.keys.for_building())?;
    let data = intent.name_payload(spki.algorithm(), &payload)?;
    let Placed { index, bytes } =
        pipeline.log.append_intent(draft.allowances, intent.clone(), payload).await?;
    Ok(Receipt { index, intent, bytes, asked: Asked { spki, data }, extra: draft.extra })
}

impl Receipt {
    /// The intent's index.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Index, leaf and files: for the one message to the keeper.
    pub fn into_parts(self) -> (u64, Vec<u8>, Extra) {
        (self.index, self.bytes, self.extra)
    }
}

async fn ask(signer: &Signer, receipt: Receipt) -> Result<Answered, SignError> {
    let (index, intent, asked) = (receipt.index, receipt.intent.clone(), receipt.asked.clone());
    let result = signer.ask(receipt).await?;
    Ok(Answered { index, intent, asked: Some(asked), result })
}

/// What ended without a signature: the intent, how, and what to tell the caller.
struct Unsigned {
    index: u64,
    keeper: KeeperName,
    outcome: OutcomeKind,
    code: Option<FailureCode>,
    error: SignError,
}

fn check(answered: Answered) -> Result<Checked, Box<Unsigned>> {
    let Answered { index, intent, asked, result } = answered;
    let keeper = intent.keeper;
    let unsigned = |outcome, code, error| Box::new(Unsigned { index, keeper, outcome, code, error });
    match result {
        SignResult::Signed { signature } => match asked.and_then(|asked| asked.completed(signature)) {
            Some(completion) => Ok(Checked { index, completion }),
            None => Err(unsigned(OutcomeKind::Unknown, None, SignError::BadSignature)),
        },
        SignResult::Failed { code } => {
            Err(unsigned(OutcomeKind::Failed, Some(code.clone()), SignError::Failed(code)))
        }
        SignResult::Lost {} => Err(unsigned(OutcomeKind::Unknown, None, SignError::Unknown)),
    }
}

impl Asked {
    /// The completion that this signature makes, if it is the key's over what it was asked to sign.
    fn completed(self, signature: Signature) -> Option<Completion> {
        Completion::new(self.spki, self.data, signature).ok().filter(Completion::verifies)
    }
}

async fn record(log: &Log, checked: Checked) -> Result<Recorded, SignError> {
    let Checked { index, completion } = checked;
    let placed = log.append_end(Leaf::Completion(completion)).await?;
    Ok(Recorded { closed: Closed { index, leaf: placed.bytes, at: placed.index } })
}

async fn write_outcome(
    log: &Log,
    clock: &dyn Clock,
    unsigned: Box<Unsigned>,
) -> Result<(Closed, Result<(), SignError>), SignError> {
    let Unsigned { index, keeper, outcome, code, error } = *unsigned;
    let leaf = Leaf::Outcome(Outcome { intent: index, outcome, time: clock.now(), keeper, code });
    let placed = log.append_end(leaf).await?;
    Ok((Closed { index, leaf: placed.bytes, at: placed.index }, Err(error)))
}

/// Steps 6 and 7 for an intent whose asker is gone: the same code, by the keeper's word.
pub(crate) async fn finish_abandoned(
    context: &Context,
    index: u64,
    result: SignResult,
) -> Result<Closed, SignError> {
    let missing = || StoreError::Contradiction(format!("leaf {index} is no intent"));
    let leaf = context.store.leaf(index).await?.ok_or_else(missing)?;
    let Ok(Leaf::Intent(intent)) = Leaf::decode(&leaf) else { return Err(missing().into()) };
    // A key that was retired meanwhile is presented no more. What was not signed with it ends all the same.
    let spki = context.keys.find(&intent.key).map(|(_, spki)| spki);
    if spki.is_none() && matches!(result, SignResult::Signed { .. }) {
        return Err(SignError::NoKey(intent.key));
    }
    let asked = match spki {
        Some(spki) => Some(asked_of(context, &intent, spki).await?),
        None => None,
    };
    match check(Answered { index, intent, asked, result }) {
        Ok(checked) => Ok(record(&context.log, checked).await?.closed),
        Err(unsigned) => Ok(write_outcome(&context.log, context.clock.as_ref(), unsigned).await?.0),
    }
}

/// What this key was asked to sign, from the intent's payload as it was stored with it.
async fn asked_of(context: &Context, intent: &Intent, spki: Spki) -> Result<Asked, SignError> {
    let missing = || StoreError::Contradiction(format!("the payload {} is not stored", intent.payload));
    let payload = context.store.blob(&intent.payload).await?.ok_or_else(missing)?;
    Ok(Asked { data: SignedData::of(spki.algorithm(), &payload)?, spki })
}

/// Closes an intent that its keeper never used and never will.
pub(crate) async fn write_void(
    context: &Context,
    index: u64,
    keeper: KeeperName,
    code: Option<FailureCode>,
) -> Result<(), SignError> {
    let outcome =
        Outcome { intent: index, outcome: OutcomeKind::Void, time: context.clock.now(), keeper, code };
    match context.log.append_end(Leaf::Outcome(outcome)).await {
        // An earlier connection's void for it was on its way.
        Ok(_) | Err(AppendError::Rejected(Rejected::Closed)) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

// ---- byte work -----------------------------------------------------------------------------------------------------

/// What a refusal and an allowance say alike of the request.
struct Named {
    action: String,
    tag: Option<Tag>,
    digest: Option<Digest>,
    nonce: Nonce,
    evidence: Evidence,
}

impl Named {
    fn of(facts: &Facts) -> Result<Self, SignError> {
        let (action, tag, digest) = match facts.ask.signing() {
            Some(image) => ("sign", Some(image.tag.clone()), Some(image.digest)),
            None => ("create-repository", None, None),
        };
        let nonce = Nonce::random().map_err(|e| SignError::Random(e.to_string()))?;
        let unencodable = |e| AppendError::Leaf(CanonicalError::Shape(e).into());
        let facts = serde_json::to_value(facts).map_err(unencodable)?;
        Ok(Self {
            action: action.into(),
            tag,
            digest,
            nonce,
            evidence: Evidence { facts, engine: PolicySet::engine() },
        })
    }
}

fn denial(request: RequestId, facts: &Facts, decision: Decision) -> Result<Denial, SignError> {
    let Named { action, tag, digest, nonce, evidence } = Named::of(facts)?;
    Ok(Denial {
        request,
        by: facts.caller.principal().clone(),
        time: facts.now,
        nonce,
        action,
        repository: facts.repository.clone(),
        tag,
        digest,
        policy: decision.stamp,
        reasons: decision.reasons,
        evidence: Some(evidence),
    })
}

fn allowance(
    request: RequestId,
    facts: &Facts,
    policy: PolicyStamp,
    rules: Vec<String>,
) -> Result<Allowance, SignError> {
    let Named { action, tag, digest, nonce, evidence } = Named::of(facts)?;
    let (by, repository) = (facts.caller.principal().clone(), facts.repository.clone());
    let time = facts.now;
    Ok(Allowance { request, by, time, nonce, action, repository, tag, digest, policy, rules, evidence })
}

/// Refuses a request that was allowed and whose bytes can never be built.
pub(crate) async fn refuse(
    log: &Log,
    waiting: Waiting,
    policy: PolicyStamp,
    why: &formats::BuildError,
    time: Time,
) -> Result<(), SignError> {
    let (request, by, image) = (waiting.id, waiting.by, waiting.image);
    let nonce = Nonce::random().map_err(|e| SignError::Random(e.to_string()))?;
    let reason = Reason {
        rule: "builtin/cannot-be-built".into(),
        remedy: "final".into(),
        message: format!("the repository's next targets file cannot be built with this tag: {why}"),
    };
    let (action, repository) = ("sign".into(), image.repository);
    let (tag, digest, reasons) = (Some(image.tag), Some(image.digest), vec![reason]);
    let denial =
        Denial { request, by, time, nonce, action, repository, tag, digest, policy, reasons, evidence: None };
    Roll::ending(log).deny(denial).await.map(drop)
}

fn signed_image(ask: Ask) -> Option<SignedImage> {
    let (Ask::Sign(image) | Ask::RequestSign(image)) = ask else { return None };
    let Signing { tag, digest, manifest, .. } = *image;
    match manifest {
        Manifest::Present { media_type, size } => Some(SignedImage { tag, digest, size, media_type }),
        Manifest::Absent | Manifest::Unreachable => None,
    }
}

/// What a decision says besides yes and no is for the operator's own log.
fn tell(decision: &Decision, facts: &Facts) {
    let (repository, by) = (&facts.repository, facts.caller.principal());
    for reason in &decision.observed {
        tracing::info!(rule = reason.rule, message = reason.message, %repository, %by, "a rule under observation would deny this");
    }
    for warning in &decision.warnings {
        tracing::warn!(warning, %repository, %by, "a rule under observation cannot be evaluated");
    }
    if decision.alarm {
        let rules = decision.determining();
        tracing::error!(?rules, outcome = decision.outcome.as_str(), %repository, %by, "policy raises an alarm");
    }
}
