//! What must be known of an image and of the key: each option denies what is wrong, and what nobody has looked at.

use crate::facts::*;
use policy::{Children, Fact, PolicySet, Provenance, Scan, Signed, SigningKey};
use record::Purpose;

fn requiring(options: &str) -> PolicySet {
    with_data(&format!("[[repository]]\nname = \"r.example/team/app\"\n{options}\n"))
}

/// What is done to an image in order.
type Change<'a> = &'a dyn Fn(&mut policy::Signing);

/// Under these options, what each change of an image fails by; empty: it is allowed.
fn judged(options: &str, changes: &[(&str, Change<'_>)]) {
    let policy = requiring(options);
    for (rule, change) in changes {
        let mut ask = Signing::into("r.example/team/app");
        change(&mut ask.image);
        let decision = ask.decided_by(&policy);
        let expected: Vec<String> = rule.split_whitespace().map(|rule| format!("builtin/{rule}")).collect();
        assert_eq!(failed(&decision), expected, "{options}");
    }
}

fn provenance() -> Provenance {
    Provenance {
        verified: true,
        subject_equal: true,
        builder: "https://builder.example".to_owned(),
        source: "github.com/acme/api".to_owned(),
        slsa_level: 2,
    }
}

#[test]
fn what_nobody_wants_need_not_be_looked_at() {
    judged("", &[("", &|_| ())]);
}

#[test]
fn every_manifest_of_an_index_is_in_the_registry() {
    judged(
        "require = { index_children = true }",
        &[
            ("index-children", &|_| ()),
            ("index-children", &|i| i.children = Fact::Found(Children { named: 3, missing: 1 })),
            ("", &|i| i.children = Fact::Found(Children { named: 3, missing: 0 })),
            ("", &|i| i.children = Fact::Absent),
        ],
    );
}

#[test]
fn provenance_verifies_is_about_the_digest_and_of_the_right_builder_level_and_source() {
    let options = "require = { slsa_level = 2, builders = [\"https://builder.example\"], sources = [\"github.com/acme/api\"] }";
    let with = |change: fn(&mut Provenance)| {
        move |image: &mut policy::Signing| {
            let mut found = provenance();
            change(&mut found);
            image.attestations.provenance = Fact::Found(found);
        }
    };
    judged(
        options,
        &[
            ("provenance", &|_| ()),
            ("provenance", &|i| i.attestations.provenance = Fact::Absent),
            ("", &with(|_| ())),
            ("provenance", &with(|p| p.verified = false)),
            ("provenance", &with(|p| p.subject_equal = false)),
            ("provenance-builder", &with(|p| p.builder.push('x'))),
            ("provenance-level", &with(|p| p.slsa_level = 1)),
            ("provenance-source", &with(|p| p.source = "github.com/evil/api".to_owned())),
            (
                "provenance provenance-builder provenance-level provenance-source",
                &with(|p| {
                    *p = Provenance {
                        verified: false,
                        subject_equal: false,
                        builder: String::new(),
                        source: String::new(),
                        slsa_level: 0,
                    };
                }),
            ),
        ],
    );
}

#[test]
fn a_job_signs_what_was_built_from_its_own_repository() {
    let data = "[[repository]]\nname = \"r.example/team/api\"\nworkloads = [\"api\"]\nrequire = { provenance = true }\n\
                [[workload]]\nname = \"api\"\nissuer = \"github\"\nrepository_id = \"42\"\n";
    let policy = with_data(data);
    let mut ask = Signing::by(job(ci()), "r.example/team/api");
    ask.image.attestations.provenance = Fact::Found(provenance());
    assert!(ask.decided_by(&policy).allowed());
    ask.image.attestations.provenance =
        Fact::Found(Provenance { source: "github.com/acme/other".to_owned(), ..provenance() });
    assert_eq!(failed(&ask.decided_by(&policy)), ["builtin/provenance-of-another"]);
}

#[test]
fn bills_of_materials_scans_and_images_are_there_and_fresh() {
    let day_before = at("2026-11-22T10:00:00.000Z");
    judged(
        "require = { sbom = true }",
        &[
            ("sbom", &|_| ()),
            ("sbom", &|i| i.attestations.sbom = Fact::Absent),
            ("", &|i| i.attestations.sbom = Fact::Found(at("2020-01-01T00:00:00.000Z"))),
        ],
    );
    judged(
        "require = { scan_max_age = \"24h\" }",
        &[
            ("scan", &|_| ()),
            ("", &|i| i.attestations.scan = Fact::Found(Scan { passed: true, at: day_before })),
            ("scan", &|i| {
                i.attestations.scan = Fact::Found(Scan { passed: true, at: day_before.plus_s(-1) })
            }),
            ("scan", &|i| i.attestations.scan = Fact::Found(Scan { passed: false, at: day_before })),
            // Clocks differ by minutes; nothing is scanned in the future.
            ("", &|i| {
                i.attestations.scan = Fact::Found(Scan { passed: true, at: at("2026-11-23T10:05:00.000Z") })
            }),
            ("scan", &|i| {
                i.attestations.scan = Fact::Found(Scan { passed: true, at: at("2026-11-23T10:05:01.000Z") })
            }),
        ],
    );
    judged(
        "require = { image_max_age = \"1d\" }",
        &[
            ("image-age", &|_| ()),
            ("image-age", &|i| i.image_created = Fact::Absent),
            ("", &|i| i.image_created = Fact::Found(day_before)),
            ("image-age", &|i| i.image_created = Fact::Found(day_before.plus_s(-1))),
        ],
    );
}

#[test]
fn keys_are_the_repositorys_own_for_targets_in_time_and_attested_if_asked_for() {
    let named = |not_after: &str| {
        format!("keys = [\"now\"]\n[[key]]\nname = \"now\"\nid = \"{}\"\n{not_after}", key().id)
    };
    let other = || SigningKey { id: record::Sha256::of(b"other").to_string().parse().unwrap(), ..key() };
    judged(
        &named(""),
        &[
            ("", &|_| ()),
            ("key-not-listed", &|i| i.key = Fact::Found(other())),
            ("key-not-listed", &|i| i.key = Fact::NotLookedAt),
            ("key-purpose", &|i| i.key = Fact::Found(SigningKey { purpose: Purpose::Snapshot, ..key() })),
        ],
    );
    judged(&named("not_after = 2026-11-23T10:00:00Z"), &[("key-expired", &|_| ())]);
    judged(&named("not_after = 2026-11-24"), &[("", &|_| ())]);
    judged(
        "attested_key = true",
        &[
            ("key-not-attested", &|_| ()),
            ("key-not-attested", &|i| i.key = Fact::NotLookedAt),
            ("", &|i| i.key = Fact::Found(SigningKey { attested: true, ..key() })),
        ],
    );
}

#[test]
fn an_immutable_tag_whose_history_nobody_knows_is_not_signed() {
    judged("immutable_tags = true", &[("tag-history-unknown", &|i| i.tag_previous = Fact::NotLookedAt)]);
}

#[test]
fn limits_of_an_hour_deny_what_is_beyond_and_what_nobody_has_counted() {
    let signed = |by_caller, of_repository| {
        move |i: &mut policy::Signing| i.signed_last_hour = Fact::Found(Signed { by_caller, of_repository })
    };
    judged(
        "rate = { caller = 2, repository = 5 }",
        &[
            ("", &signed(1, 4)),
            ("caller-rate", &signed(2, 4)),
            ("repository-rate", &signed(1, 5)),
            ("caller-rate repository-rate", &|i| i.signed_last_hour = Fact::NotLookedAt),
        ],
    );
}

#[test]
fn a_denial_says_that_nobody_has_looked() {
    let decision = Signing::into("r.example/team/app")
        .decided_by(&requiring("require = { sbom = true, scan_max_age = \"36h\" }"));
    let messages: Vec<&str> = decision.reasons.iter().map(|r| r.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "r.example/team/app wants a signed bill of materials: this service has not looked; attach one, then ask again",
            "r.example/team/app wants a scan that passed within 36h: this service has not looked; have the image scanned",
        ]
    );
}
