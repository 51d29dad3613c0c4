//! Facts as Cedar sees them: request and entities, built with the schema and only for what the request touches.
//!
//! Promises: what the schema does not describe is an error here, before anything is decided.

use crate::{
    Ask, Caller, Manifest, Signing,
    attributes::Attributes,
    data::{Conditions, prefixes, weekday_and_minute},
    standing::Standing,
};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};
use std::collections::HashSet;

/// Why Cedar cannot be asked. The caller denies.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("a name of the schema does not parse")]
    Name(#[source] Box<cedar_policy::ParseErrors>),
    #[error("the facts are not entities of the schema: {0}")]
    Entity(String),
    #[error("the facts are not a context of the schema: {0}")]
    Context(String),
}

/// The schema's names, parsed once.
#[derive(Debug)]
pub(crate) struct Names {
    token: EntityTypeName,
    workload: EntityTypeName,
    machine: EntityTypeName,
    person: EntityTypeName,
    team: EntityTypeName,
    repository: EntityTypeName,
    namespace: EntityTypeName,
    request_sign: EntityUid,
    sign: EntityUid,
    create_repository: EntityUid,
}

/// What the authorizer is asked.
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

impl Names {
    pub(crate) fn new() -> Result<Self, RequestError> {
        let name = |text: &str| text.parse::<EntityTypeName>().map_err(|e| RequestError::Name(Box::new(e)));
        let action = |id| Ok(EntityUid::from_type_name_and_id(name("Sign::Action")?, EntityId::new(id)));
        Ok(Self {
            token: name("Sign::Token")?,
            workload: name("Sign::Workload")?,
            machine: name("Sign::Machine")?,
            person: name("Sign::Person")?,
            team: name("Sign::Team")?,
            repository: name("Sign::Repository")?,
            namespace: name("Sign::Namespace")?,
            request_sign: action("requestSign")?,
            sign: action("sign")?,
            create_repository: action("createRepository")?,
        })
    }

    pub(crate) fn question(
        &self,
        schema: &Schema,
        standing: &Standing<'_>,
    ) -> Result<Question, RequestError> {
        let caller = self.caller(standing)?;
        let repository = self.repository(standing)?;
        let context = Context::from_pairs(context(standing)?.into_pairs())
            .map_err(|e| RequestError::Context(e.to_string()))?;
        let action = self.action(&standing.facts.ask);
        let request = Request::new(caller.uid(), action, repository.uid(), context, Some(schema))
            .map_err(|e| RequestError::Context(e.to_string()))?;
        let entities = Entities::from_entities([caller, repository], Some(schema))
            .map_err(|e| RequestError::Entity(e.to_string()))?;
        Ok(Question { request, entities })
    }

    fn caller(&self, standing: &Standing<'_>) -> Result<Entity, RequestError> {
        let caller = &standing.facts.caller;
        let attributes = Attributes::new().time("expires", caller.expires());
        let (kind, attributes) = match caller {
            Caller::Token(token) => (&self.token, attributes.bool("maySign", token.scopes_sign)),
            Caller::Workload(job) => (&self.workload, attributes.record("ci", ci(&job.ci))?),
            Caller::Machine(_) => (&self.machine, attributes),
            Caller::Person(person) => (&self.person, attributes.bool("active", person.active)),
        };
        let teams = standing.data.teams_of(caller.principal());
        let parents = teams.iter().map(|team| uid(&self.team, team)).collect();
        entity(uid(kind, caller.principal().as_str()), attributes, parents)
    }

    fn repository(&self, standing: &Standing<'_>) -> Result<Entity, RequestError> {
        let (rules, repository) = (standing.rules, &standing.facts.repository);
        let signers =
            rules.signers.iter().map(|team| RestrictedExpression::new_entity_uid(uid(&self.team, team)));
        let require = &rules.require;
        let required = Attributes::new()
            .bool("indexChildren", require.index_children)
            .bool("provenance", require.provenance)
            .long("slsaLevel", require.slsa_level)
            .strings("builders", require.builders.iter().flatten())
            .strings("sources", require.sources.iter().flatten())
            .bool("sbom", require.sbom)
            .maybe_long("scanMaxAge", require.scan_max_age_s)
            .maybe_long("imageMaxAge", require.image_max_age_s);
        let mut attributes = Attributes::new()
            .string("host", repository.host())
            .string("path", repository.path())
            .bool("immutableTags", rules.immutable_tags)
            .bool("createOnFirstSign", rules.create_on_first_sign)
            .bool("frozen", rules.frozen)
            .strings("mediaTypes", &rules.media_types)
            .set("signers", signers)
            .strings("keys", standing.data.keys_of(rules).map(|id| id.to_string()))
            .bool("attestedKey", rules.attested_key)
            .bool("touch", rules.touch)
            .maybe_long("callerRate", rules.rate.caller.map(i64::from))
            .maybe_long("repositoryRate", rules.rate.repository.map(i64::from))
            .record("require", required)?;
        if let Some(hours) = &rules.office_hours {
            let days = hours.days.iter().map(|day| RestrictedExpression::new_long(*day));
            let record =
                Attributes::new().set("days", days).long("from", hours.from).long("until", hours.until);
            attributes = attributes.record("officeHours", record)?;
        }
        let name = repository.as_str();
        let parents = prefixes(name).map(|prefix| uid(&self.namespace, prefix)).collect();
        entity(uid(&self.repository, name), attributes, parents)
    }

    fn action(&self, ask: &Ask) -> EntityUid {
        match ask {
            Ask::RequestSign(_) => self.request_sign.clone(),
            Ask::Sign(_) => self.sign.clone(),
            Ask::CreateRepository { .. } => self.create_repository.clone(),
        }
    }
}

fn context(standing: &Standing<'_>) -> Result<Attributes, RequestError> {
    let facts = standing.facts;
    let (weekday, minute) = weekday_and_minute(facts.now);
    let context = Attributes::new()
        .time("now", facts.now)
        .long("weekday", weekday)
        .long("minuteOfDay", minute)
        .bool("inTokenScope", facts.caller.covers(&facts.repository))
        .record("binding", binding(standing.binding.map(|(_, met)| met).unwrap_or_default()))?;
    match &facts.ask {
        Ask::CreateRepository { collection_exists } => {
            Ok(context.bool("collectionExists", *collection_exists))
        }
        Ask::RequestSign(signing) | Ask::Sign(signing) => {
            let context = of_image(context, signing, standing)?;
            let context = of_statements(context, signing, standing)?;
            Ok(of_use(context, signing, standing))
        }
    }
}

/// Tag, manifest, children, key.
fn of_image(
    context: Attributes,
    signing: &Signing,
    standing: &Standing<'_>,
) -> Result<Attributes, RequestError> {
    let previous = signing.tag_previous.found();
    let looked = signing.tag_previous != crate::Fact::NotLookedAt;
    let whole = match &signing.children {
        crate::Fact::NotLookedAt => false,
        crate::Fact::Absent => true,
        crate::Fact::Found(children) => children.missing == 0,
    };
    let mut context = context
        .bool("collectionExists", signing.collection_exists)
        .string("tag", signing.tag.as_str())
        .bool("tagProtected", standing.tag_protected)
        .string("digest", signing.digest.to_string())
        .bool("tagPreviousKnown", looked)
        .maybe_string("tagPreviousDigest", previous.map(ToString::to_string))
        .bool("childrenComplete", whole)
        .maybe_long("imageAge", standing.image_age_s);
    let state = match &signing.manifest {
        Manifest::Absent => "absent",
        Manifest::Unreachable => "unreachable",
        Manifest::Present { media_type, size } => {
            let size = i64::try_from(*size).unwrap_or(i64::MAX);
            let manifest = Attributes::new().string("mediaType", media_type).long("size", size);
            context = context.record("manifest", manifest)?;
            "present"
        }
    };
    context = context.string("registry", state);
    if let Some(key) = signing.key.found() {
        let record = Attributes::new()
            .string("id", key.id.to_string())
            .string("purpose", key.purpose.as_str())
            .bool("attested", key.attested)
            .bool("touchAlways", key.touch_always)
            .maybe_time("notAfter", standing.key_ends);
        context = context.record("key", record)?;
    }
    Ok(context)
}

/// Provenance, bill of materials, scan.
fn of_statements(
    context: Attributes,
    signing: &Signing,
    standing: &Standing<'_>,
) -> Result<Attributes, RequestError> {
    let stated = &signing.attestations;
    let mut context = context.bool("sbom", stated.sbom.found().is_some());
    if let Some(provenance) = stated.provenance.found() {
        let record = Attributes::new()
            .bool("verified", provenance.verified)
            .bool("subjectEqual", provenance.subject_equal)
            .string("builder", &provenance.builder)
            .string("source", &provenance.source)
            .long("slsaLevel", i64::from(provenance.slsa_level));
        context = context.record("provenance", record)?;
    }
    if let (Some(scan), Some(age)) = (stated.scan.found(), standing.scan_age_s) {
        context = context.record("scan", Attributes::new().bool("passed", scan.passed).long("age", age))?;
    }
    Ok(context)
}

/// Time, numbers, people.
fn of_use(context: Attributes, signing: &Signing, standing: &Standing<'_>) -> Attributes {
    let glass = standing.break_glass;
    let signed = signing.signed_last_hour.found();
    context
        .maybe_string("freeze", standing.freeze.map(|freeze| freeze.name.clone()))
        .maybe_long("callerLastHour", signed.map(|signed| i64::from(signed.by_caller)))
        .maybe_long("repositoryLastHour", signed.map(|signed| i64::from(signed.of_repository)))
        .long("approvals", i64::try_from(standing.approvers.len()).unwrap_or(0))
        .bool("quorumMet", standing.missing.is_empty())
        .bool("requesterApproved", standing.requester_approved)
        .bool("touched", signing.touched.found().is_some())
        .bool("breakGlassClaimed", glass.claimed)
        .bool("breakGlassAllowed", glass.allowed)
        .bool("breakGlassQuorumMet", glass.approved)
        .bool("breakGlass", glass.in_effect)
}

fn binding(met: Conditions) -> Attributes {
    Attributes::new()
        .bool("bound", met.bound)
        .bool("ref", met.reference)
        .bool("refProtected", met.ref_protected)
        .bool("workflow", met.workflow)
        .bool("workflowRef", met.workflow_ref)
        .bool("environment", met.environment)
        .bool("event", met.event)
        .bool("runner", met.runner)
}

fn ci(ci: &record::Ci) -> Attributes {
    let text = |text: &Option<record::CiText>| text.as_ref().map(ToString::to_string);
    Attributes::new()
        .string("provider", ci.provider.as_str())
        .string("issuer", ci.issuer.as_str())
        .string("repository", ci.repository.as_str())
        .string("repositoryId", ci.repository_id.as_str())
        .maybe_string("ownerId", text(&ci.owner_id))
        .maybe_string("ref", text(&ci.reference))
        .bool("refProtected", ci.ref_protected)
        .maybe_string("commit", text(&ci.commit))
        .maybe_string("workflow", text(&ci.workflow))
        .maybe_string("workflowRef", text(&ci.workflow_ref))
        .maybe_string("event", text(&ci.event))
        .maybe_string("environment", text(&ci.environment))
        .bool("hostedRunner", ci.hosted_runner)
        .bool("forkOrMergeRequest", ci.fork_or_merge_request)
}

fn entity(
    uid: EntityUid,
    attributes: Attributes,
    parents: HashSet<EntityUid>,
) -> Result<Entity, RequestError> {
    Entity::new(uid, attributes.into_pairs().collect(), parents)
        .map_err(|e| RequestError::Entity(e.to_string()))
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
