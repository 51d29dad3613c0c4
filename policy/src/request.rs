//! Facts as Cedar sees them: request and entities, built with the schema and only for what the request touches.
//!
//! Promises: what the schema does not describe is an error here, before anything is decided.

use crate::{Ask, Facts, Manifest, RepositoryRules, repositories::prefixes};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};
use std::collections::{HashMap, HashSet};

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
    team: EntityTypeName,
    repository: EntityTypeName,
    namespace: EntityTypeName,
    sign: EntityUid,
    create_repository: EntityUid,
}

/// What the authorizer is asked.
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

type Attributes = HashMap<String, RestrictedExpression>;

impl Names {
    pub(crate) fn new() -> Result<Self, RequestError> {
        let name = |text: &str| text.parse::<EntityTypeName>().map_err(|e| RequestError::Name(Box::new(e)));
        let action = |id| Ok(EntityUid::from_type_name_and_id(name("Sign::Action")?, EntityId::new(id)));
        Ok(Self {
            token: name("Sign::Token")?,
            team: name("Sign::Team")?,
            repository: name("Sign::Repository")?,
            namespace: name("Sign::Namespace")?,
            sign: action("sign")?,
            create_repository: action("createRepository")?,
        })
    }

    /// `teams` are those that the caller is in.
    pub(crate) fn question(
        &self,
        schema: &Schema,
        facts: &Facts,
        rules: &RepositoryRules,
        teams: &[String],
    ) -> Result<Question, RequestError> {
        let token = self.token(facts, teams)?;
        let repository = self.repository(facts, rules)?;
        let context =
            Context::from_pairs(context(facts)).map_err(|e| RequestError::Context(e.to_string()))?;
        let request =
            Request::new(token.uid(), self.action(&facts.ask), repository.uid(), context, Some(schema))
                .map_err(|e| RequestError::Context(e.to_string()))?;
        let entities = Entities::from_entities([token, repository], Some(schema))
            .map_err(|e| RequestError::Entity(e.to_string()))?;
        Ok(Question { request, entities })
    }

    fn token(&self, facts: &Facts, teams: &[String]) -> Result<Entity, RequestError> {
        let attributes = Attributes::from([
            ("maySign".to_owned(), RestrictedExpression::new_bool(facts.caller.scopes_sign)),
            ("expires".to_owned(), datetime(facts.caller.expires)),
        ]);
        let parents = teams.iter().map(|team| uid(&self.team, team)).collect();
        entity(uid(&self.token, facts.caller.principal.as_str()), attributes, parents)
    }

    fn repository(&self, facts: &Facts, rules: &RepositoryRules) -> Result<Entity, RequestError> {
        let signers =
            rules.signers.iter().map(|team| RestrictedExpression::new_entity_uid(uid(&self.team, team)));
        let media_types = rules.media_types.iter().map(string);
        let attributes = Attributes::from([
            ("host".to_owned(), string(facts.repository.host())),
            ("path".to_owned(), string(facts.repository.path())),
            ("immutableTags".to_owned(), RestrictedExpression::new_bool(rules.immutable_tags)),
            ("createOnFirstSign".to_owned(), RestrictedExpression::new_bool(rules.create_on_first_sign)),
            ("frozen".to_owned(), RestrictedExpression::new_bool(rules.frozen)),
            ("mediaTypes".to_owned(), RestrictedExpression::new_set(media_types)),
            ("signers".to_owned(), RestrictedExpression::new_set(signers)),
        ]);
        let name = facts.repository.as_str();
        let parents = prefixes(name).map(|prefix| uid(&self.namespace, prefix)).collect();
        entity(uid(&self.repository, name), attributes, parents)
    }

    fn action(&self, ask: &Ask) -> EntityUid {
        match ask {
            Ask::Sign { .. } => self.sign.clone(),
            Ask::CreateRepository { .. } => self.create_repository.clone(),
        }
    }
}

fn context(facts: &Facts) -> Attributes {
    let in_scope = facts.caller.covers(&facts.repository);
    let mut context = Attributes::from([
        ("now".to_owned(), datetime(facts.now)),
        ("inTokenScope".to_owned(), RestrictedExpression::new_bool(in_scope)),
    ]);
    let exists = match &facts.ask {
        Ask::CreateRepository { collection_exists } => collection_exists,
        Ask::Sign { tag, digest, manifest, tag_previous, collection_exists } => {
            context.insert("tag".to_owned(), string(tag.as_str()));
            context.insert("digest".to_owned(), string(digest.to_string()));
            if let Some(previous) = tag_previous {
                context.insert("tagPreviousDigest".to_owned(), string(previous.to_string()));
            }
            add_manifest(&mut context, manifest);
            collection_exists
        }
    };
    context.insert("collectionExists".to_owned(), RestrictedExpression::new_bool(*exists));
    context
}

fn add_manifest(context: &mut Attributes, manifest: &Manifest) {
    let state = match manifest {
        Manifest::Absent => "absent",
        Manifest::Unreachable => "unreachable",
        Manifest::Present { .. } => "present",
    };
    context.insert("registry".to_owned(), string(state));
    if let Manifest::Present { media_type, size } = manifest {
        // Keys are distinct, so the record cannot be refused; without it the registry counts as unreachable.
        let size = RestrictedExpression::new_long(i64::try_from(*size).unwrap_or(i64::MAX));
        let fields = [("mediaType".to_owned(), string(media_type)), ("size".to_owned(), size)];
        if let Ok(record) = RestrictedExpression::new_record(fields) {
            context.insert("manifest".to_owned(), record);
        }
    }
}

fn entity(
    uid: EntityUid,
    attributes: Attributes,
    parents: HashSet<EntityUid>,
) -> Result<Entity, RequestError> {
    Entity::new(uid, attributes, parents).map_err(|e| RequestError::Entity(e.to_string()))
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn string(text: impl AsRef<str>) -> RestrictedExpression {
    RestrictedExpression::new_string(text.as_ref().to_owned())
}

fn datetime(time: record::Time) -> RestrictedExpression {
    RestrictedExpression::new_datetime(time.to_string())
}
