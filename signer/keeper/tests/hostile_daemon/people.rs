//! A daemon that lies about people's approvals.

use super::cast::{self, Ceremony, by_piv, first, id};
use super::rig::{Daemon, Rig};
use super::world::{Made, World, targets};
use ::people::{Approval, Change, Content, Decision, Roster, SignedRoster, Signing, Statement};
use record::wire::{Blob, Extra, FromSigner, RosterInForce, ToSigner};
use record::{Action, Intent, Origin, Principal, Purpose, Repository, Requested, Sha256};

const TWO: &str = "[[key.approval]]\ngroup = \"release\"\ncount = 2\n";

/// A keeper whose root and targets keys need two people of `release`.
pub(super) fn guarded() -> Option<Rig> {
    Rig::with(|world| {
        world.first_roster = Some(first().sha256());
        world.rules = [Purpose::Root, Purpose::Targets].map(|purpose| (purpose, TWO.to_owned())).into();
    })
}

pub(super) fn give(daemon: &mut Daemon, roster: &SignedRoster) -> FromSigner {
    daemon.say(&ToSigner::Roster { signed: Blob(roster.encode().unwrap()) })
}

pub(super) fn takes(daemon: &mut Daemon, roster: &SignedRoster) {
    let offered = roster.offered();
    let in_force = RosterInForce { version: offered.version(), sha256: offered.sha256() };
    assert_eq!(give(daemon, roster), FromSigner::Roster(in_force));
}

pub(super) fn unsigned(roster: Roster) -> SignedRoster {
    SignedRoster::new(roster, vec![])
}

/// What an honest daemon asks people about this part of an intent, valid from a minute ago for an hour.
fn content(
    world: &World,
    intent: &Intent,
    requested: &Requested,
    subject: Sha256,
    change: Change,
) -> Content {
    Content {
        log: intent.log.clone(),
        request: requested.request.clone(),
        requester: requested.by.clone(),
        repository: intent.repository.clone(),
        subject,
        change,
        signatures: vec![Signing { format: intent.format, key: intent.key }],
        not_before: world.now.plus_s(-60),
        expires: world.now.plus_s(3_600),
        ..cast::content()
    }
}

/// An intent that gives one tag to one image, with the statement that an honest daemon makes of it after `edit`; the intent
/// names that statement. Nobody has approved it yet.
pub(super) fn ask(world: &mut World, repository: &str, edit: impl FnOnce(&mut Content)) -> (Made, Statement) {
    let mut intent = world.intent(repository, targets(repository, 1, world.in_days(365), None, "v1"));
    let statement = name_statement(world, &mut intent, 0, edit);
    (world.make(intent, Extra::Targets { prev: None }), statement)
}

fn name_statement(
    world: &World,
    intent: &mut Intent,
    number: usize,
    edit: impl FnOnce(&mut Content),
) -> Statement {
    let unchanged = intent.clone();
    let Action::Targets { changes, .. } = &mut intent.action else { panic!() };
    let asked = &mut changes[number];
    let (tag, size, media_type) = (asked.tag.clone(), asked.size, asked.media_type.clone());
    let change = Change::Image { tag, size, media_type, children: vec![] };
    let mut content = content(world, &unchanged, &asked.requested, asked.digest.sha256(), change);
    edit(&mut content);
    let statement = Statement::new(content).unwrap();
    asked.requested.statement = Some(statement.sha256());
    statement
}

fn shown(approvals: &[Approval]) -> Vec<Blob> {
    approvals.iter().map(|a| Blob(a.encode().unwrap())).collect()
}

pub(super) fn approve(made: &mut Made, statement: &Statement, by: &[&str]) {
    made.approvals = shown(&by.iter().map(|who| by_piv(who, statement)).collect::<Vec<_>>());
}

/// What is wrong with the people of one item, and how the sentence says it.
struct Row {
    what: &'static str,
    says: &'static str,
    made: Made,
}

/// INVARIANT(people)
#[test]
fn people() {
    let Some(mut rig) = guarded() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    takes(&mut daemon, &unsigned(first()));
    for Row { what, says, made } in rows(&mut rig.world) {
        let before = rig.signed();
        let answer = daemon.refused(&rig.world.batch(daemon.seen, &[&made], vec![]));
        assert_eq!(answer.code.as_str(), "people", "{what}: {}", answer.detail);
        assert!(answer.detail.contains(says), "{what}: {}", answer.detail);
        assert_eq!(rig.signed(), before, "{what}: a key was touched");
    }
    assert!(rig.signed().is_empty());
    // The same keeper signs what two people have approved.
    let (mut made, said) = ask(&mut rig.world, &super::repository(100), |_| ());
    approve(&mut made, &said, &["alice", "bob"]);
    daemon.through(&mut rig.world, &made);
    assert_eq!(rig.signed(), [made.intent.payload]);
}

fn rows(world: &mut World) -> Vec<Row> {
    let mut rows = lies_about_who(world);
    rows.extend(lies_about_what(world));
    rows.extend(lies_about_several_changes(world));
    rows.extend(lies_about_the_root(world));
    rows
}

/// Statements that are right, and approvals that are not.
fn lies_about_who(world: &mut World) -> Vec<Row> {
    type Show = fn(&Statement) -> Vec<Blob>;
    let rows: [(&str, &str, Show); 12] = [
        ("nobody", "no approval of its statement", |_| vec![]),
        ("too few", "1 of 2 people", |s| shown(&[by_piv("alice", s)])),
        ("one person with two keys", "the same person", |s| {
            shown(&[by_piv("alice", s), by_piv("alice-2", s)])
        }),
        ("one approval twice", "the same person", |s| shown(&[by_piv("bob", s), by_piv("bob", s)])),
        ("somebody of another group", "not a member", |s| shown(&[by_piv("alice", s), by_piv("dave", s)])),
        ("somebody unknown", "no such key", |s| shown(&[by_piv("alice", s), by_piv("mallory", s)])),
        ("webauthn where the rule says piv", "by webauthn", |s| {
            shown(&[by_piv("alice", s), Ceremony::about(s).signed("carol-page", s)])
        }),
        ("a rejection behind a quorum", "carol has rejected it", |s| {
            let no = s.deciding(Decision::Reject).unwrap();
            shown(&[by_piv("alice", s), by_piv("bob", s), by_piv("carol", &no)])
        }),
        ("rejections as approvals", "has rejected it", |s| {
            let no = s.deciding(Decision::Reject).unwrap();
            shown(&[by_piv("alice", &no), by_piv("bob", &no)])
        }),
        ("approvals of an older statement", "no approval of its statement", |s| {
            let older = Statement::new(Content {
                nonce: record::Nonce::parse(&"0".repeat(32)).unwrap(),
                ..s.content().clone()
            });
            let older = older.unwrap();
            shown(&[by_piv("alice", &older), by_piv("bob", &older)])
        }),
        ("signatures of another statement", "does not verify", |s| {
            let other = s.deciding(Decision::Reject).unwrap();
            let signed = ::people::pae(::people::PAYLOAD_TYPE, other.bytes());
            let moved =
                |who| Approval::new(s.clone(), id(who), ::people::Proof::Piv(cast::der(who, &signed)));
            shown(&[moved("alice"), moved("bob")])
        }),
        ("no approval at all", "approval 2 of 2", |s| {
            vec![shown(&[by_piv("alice", s)]).remove(0), Blob(b"{\"approved\":true}".to_vec())]
        }),
    ];
    let row = |(number, (what, says, show)): (usize, (&'static str, &'static str, Show))| {
        let (mut made, said) = ask(world, &super::repository(number), |_| ());
        made.approvals = show(&said);
        Row { what, says, made }
    };
    rows.into_iter().enumerate().map(row).collect()
}

/// What two people have approved is not what the intent asks for.
fn lies_about_what(world: &mut World) -> Vec<Row> {
    type Edit = fn(&mut Content);
    let rows: [(&str, &str, Edit); 11] = [
        ("another digest", "another digest", |c| c.subject = Sha256::of(b"another image")),
        ("another tag", "another change", |c| with_tag(c, "v2")),
        ("another size", "another change", |c| {
            let Change::Image { size, .. } = &mut c.change else { panic!() };
            *size += 1;
        }),
        ("bytes in place of an image", "another change", |c| c.change = Change::Bytes {}),
        ("another repository", "another repository", |c| {
            c.repository = Repository::parse("r.example/team/other").unwrap();
        }),
        ("another key", "another format or key", |c| c.signatures[0].key = id("another key")),
        ("another log", "another log", |c| c.log = Origin::parse("other.example.com").unwrap()),
        ("another request", "request or requester", |c| {
            c.request = record::RequestId::parse("019963f0-7c00-7000-8000-0000000000ff").unwrap();
        }),
        ("another requester", "request or requester", |c| {
            c.requester = Principal::parse("token:other").unwrap();
        }),
        ("expired", "ask the people anew", |c| {
            (c.not_before, c.expires) = (c.not_before.plus_s(-3_600), c.not_before.plus_s(59));
        }),
        ("not yet valid", "counts from", |c| c.not_before = c.not_before.plus_s(660)),
    ];
    let mut made: Vec<Row> = rows
        .into_iter()
        .enumerate()
        .map(|(number, (what, says, edit))| {
            let (mut made, said) = ask(world, &super::repository(20 + number), edit);
            approve(&mut made, &said, &["alice", "bob"]);
            Row { what, says, made }
        })
        .collect();
    made.push(the_requester_among_the_approvers(world));
    made.push(no_statement_named(world));
    made
}

fn with_tag(content: &mut Content, text: &str) {
    let Change::Image { tag, .. } = &mut content.change else { panic!() };
    *tag = text.parse().unwrap();
}

fn the_requester_among_the_approvers(world: &mut World) -> Row {
    let repository = super::repository(40);
    let mut intent = world.intent(&repository, targets(&repository, 1, world.in_days(365), None, "v1"));
    let Action::Targets { changes, .. } = &mut intent.action else { panic!() };
    changes[0].requested.by = Principal::parse("person:bob").unwrap();
    let said = name_statement(world, &mut intent, 0, |_| ());
    let mut made = world.make(intent, Extra::Targets { prev: None });
    approve(&mut made, &said, &["alice", "bob"]);
    Row { what: "the requester among the approvers", says: "the requester does not approve", made }
}

fn no_statement_named(world: &mut World) -> Row {
    let mut made = world.first_targets(&super::repository(41), "v1");
    let (_, said) = ask(world, &super::repository(41), |_| ());
    approve(&mut made, &said, &["alice", "bob"]);
    Row { what: "no statement named", says: "names no statement", made }
}

/// Two tags in one version, and people who have approved one.
fn lies_about_several_changes(world: &mut World) -> Vec<Row> {
    let mut two = |number: usize| {
        let repository = super::repository(number);
        let mut intent = world.intent(&repository, targets(&repository, 1, world.in_days(365), None, "v1"));
        let Action::Targets { changes, .. } = &mut intent.action else { panic!() };
        changes.push(record::Change { tag: "v2".parse().unwrap(), ..changes[0].clone() });
        let said = name_statement(world, &mut intent, 0, |_| ());
        (intent, said)
    };
    let (mut twice, said_once) = two(50);
    let Action::Targets { changes, .. } = &mut twice.action else { panic!() };
    changes[1].requested.statement = Some(said_once.sha256());
    let (half, said_half) = two(51);
    let (mut unapproved, said_first) = two(52);
    name_statement(world, &mut unapproved, 1, |_| ());
    [
        ("one statement for two changes", "tag v2", twice, said_once),
        ("a second change without a statement", "names no statement", half, said_half),
        ("a second change that nobody approved", "no approval of its statement", unapproved, said_first),
    ]
    .map(|(what, says, intent, said)| {
        let mut made = world.make(intent, Extra::Targets { prev: None });
        approve(&mut made, &said, &["alice", "bob"]);
        Row { what, says, made }
    })
    .into()
}

/// A root key has a rule too: what it signs is approved by its bytes.
fn lies_about_the_root(world: &mut World) -> Vec<Row> {
    let nobody = world.certificate(&super::repository(60));
    let (mut other, said) =
        ask_for_certificate(world, &super::repository(61), |c| c.subject = Sha256::of(b"other"));
    approve(&mut other, &said, &["alice", "bob"]);
    vec![
        Row { what: "a certificate that nobody approved", says: "certificate of", made: nobody },
        Row { what: "other bytes than were approved", says: "another digest", made: other },
    ]
}

fn requested(world: &World) -> Requested {
    Requested {
        request: record::RequestId::new(world.now),
        by: Principal::parse("token:test").unwrap(),
        rules: vec![],
        decision: None,
        statement: None,
    }
}

fn ask_for_certificate(
    world: &mut World,
    repository: &str,
    edit: impl FnOnce(&mut Content),
) -> (Made, Statement) {
    let made = world.certificate(repository);
    name_bytes(world, made, edit)
}

/// The same intent once more, naming a statement about its bytes.
fn name_bytes(world: &mut World, made: Made, edit: impl FnOnce(&mut Content)) -> (Made, Statement) {
    let mut intent = made.intent;
    let mut requested = requested(world);
    let mut content = content(world, &intent, &requested, intent.payload, Change::Bytes {});
    edit(&mut content);
    let statement = Statement::new(content).unwrap();
    requested.statement = Some(statement.sha256());
    intent.requested = Some(requested);
    (world.put(intent, made.extra), statement)
}

#[test]
fn people_approve_a_whole_collection_and_a_renewal_needs_none() {
    let Some(mut rig) = guarded() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    takes(&mut daemon, &unsigned(first()));
    let repository = super::repository(0);
    let (mut certificate, said) = ask_for_certificate(&mut rig.world, &repository, |_| ());
    approve(&mut certificate, &said, &["alice", "carol"]);
    let der = daemon.through(&mut rig.world, &certificate);
    let root = rig.world.root(&repository, &der);
    let (mut root, said) = name_bytes(&mut rig.world, root, |_| ());
    approve(&mut root, &said, &["bob", "carol"]);
    let root_file = daemon.through(&mut rig.world, &root);
    let (mut made, said) = ask(&mut rig.world, &repository, |_| ());
    approve(&mut made, &said, &["alice", "bob"]);
    let file = daemon.through(&mut rig.world, &made);
    let expires = rig.world.in_days(400);
    let renewal = Action::Targets { version: 2, expires, prev: Some(made.intent.payload), changes: vec![] };
    let renewal = rig.world.intent(&repository, renewal);
    let renewal = rig.world.make(renewal, Extra::Targets { prev: Some(Blob(file)) });
    let file = daemon.through(&mut rig.world, &renewal);
    let snapshot = rig.world.snapshot(&repository, 1, root.child(&root_file), renewal.child(&file));
    daemon.through(&mut rig.world, &snapshot);
    assert_eq!(rig.signed().len(), 5);
}
