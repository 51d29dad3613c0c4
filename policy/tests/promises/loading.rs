//! What is loaded, what is refused, and what a refusal says.

use crate::facts::{DATA, sources};
use policy::{DataError, PolicyError, PolicySet, RuleError, SourceError, Sources, TooComplex};
use record::Repository;

fn data_error(data: &str) -> DataError {
    match PolicySet::load(sources(data, "")) {
        Err(PolicyError::Data(e)) => e,
        other => panic!("{other:?} for {data}"),
    }
}

fn repository_error(line: &str) -> String {
    data_error(&format!("schema = 1\n[[repository]]\nname = \"r.example/a/\"\n{line}")).to_string()
}

fn rule_error(cedar: &str) -> RuleError {
    match PolicySet::load(sources(DATA, cedar)) {
        Err(PolicyError::Rule(e)) => e,
        other => panic!("{other:?} for {cedar}"),
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let text = repository_error("imutable_tags = true");
    assert!(
        text.contains("repository number 1 (r.example/a/)") && text.contains("\"immutable_tags\"?"),
        "{text}"
    );
    assert!(repository_error("validity = { timestmp = \"1d\" }").contains("\"timestamp\"?"));
    assert!(data_error("schema = 1\n[[repositry]]\nname = \"x\"").to_string().contains("\"repository\"?"));
    assert!(
        data_error("schema = 1\n[[team]]\nname = \"x\"\nmember = []").to_string().contains("\"members\"?")
    );
    assert!(!repository_error("colour = 1").contains("did you mean"));
}

#[test]
fn data_of_a_wrong_shape_is_refused() {
    for data in
        ["", "schema = \"1\"", "schema = 1\n[repository]\nname = \"r.example/a\"", "schema =", "\u{0}"]
    {
        assert!(matches!(data_error(data), DataError::Toml(_)), "{data}");
    }
    assert!(matches!(data_error("schema = 2"), DataError::Schema(2)));
    for line in
        ["frozen = \"yes\"", "frozen = 1", "signers = \"release\"", "validity = 1", "validity = { root = 1 }"]
    {
        let data = format!("schema = 1\n[[repository]]\nname = \"r.example/a\"\n{line}");
        assert!(matches!(data_error(&data), DataError::Toml(_)), "{line}");
    }
}

#[test]
fn names_that_are_no_repository_or_prefix_are_refused() {
    for name in [
        "",
        "/",
        "r.example",
        "r.example//",
        "R.example/a",
        "r.example/a*",
        "r.example/-/",
        "docker.io:443/",
        "a/",
    ] {
        let data = format!("schema = 1\n[[repository]]\nname = {name:?}");
        assert!(matches!(data_error(&data), DataError::Name(_)), "{name:?}");
    }
}

#[test]
fn what_stands_there_twice_is_refused() {
    let entry = "[[repository]]\nname = \"r.example/a/\"\n";
    let text = data_error(&format!("schema = 1\n{entry}{entry}")).to_string();
    assert!(text.contains("repository \"r.example/a/\" stands there twice"), "{text}");
    let team = "[[team]]\nname = \"a\"\nmembers = []\n";
    assert!(matches!(
        data_error(&format!("schema = 1\n{team}{team}")),
        DataError::Duplicate { what: "team", .. }
    ));
    let members = "schema = 1\n[[team]]\nname = \"a\"\nmembers = [\"token:a\", \"token:a\"]";
    assert!(matches!(data_error(members), DataError::Duplicate { what: "member", .. }));
}

#[test]
fn teams_are_slugs_of_tokens_and_signers_name_them() {
    for (name, member) in
        [("", "token:a"), ("Release", "token:a"), ("a", "abc"), ("a", "token:A"), ("a", "system:x")]
    {
        let data = format!("schema = 1\n[[team]]\nname = {name:?}\nmembers = [{member:?}]");
        assert!(matches!(data_error(&data), DataError::Value { .. }), "{name} {member}");
    }
    let data = format!("{DATA}[[repository]]\nname = \"r.example/z\"\nsigners = [\"relase\"]");
    assert!(data_error(&data).to_string().contains("no team is named \"relase\"; did you mean \"release\"?"));
}

#[test]
fn media_types_are_a_list_of_media_types() {
    for list in
        ["[]", "[\"\"]", "[\"json\"]", "[\"A/b\"]", "[\"a/b; c=d\"]", "[\"a/b/c\"]", "[\"a/b\", \"a/b\"]"]
    {
        repository_error(&format!("media_types = {list}"));
    }
}

#[test]
fn durations_have_a_unit_and_stay_in_their_bounds() {
    let read = |line: &str| {
        let data = format!("schema = 1\n[[repository]]\nname = \"r.example/a\"\nvalidity = {{ {line} }}");
        PolicySet::load(sources(&data, ""))
            .map(|policy| policy.repository(&Repository::parse("r.example/a").unwrap()).unwrap().validity)
    };
    assert_eq!(read("timestamp = \"36h\"").unwrap().timestamp_s, 129_600);
    assert_eq!(read("timestamp = \"10s\"").unwrap().timestamp_s, 10);
    assert_eq!(read("timestamp = \"31d\"").unwrap().timestamp_s, 31 * 86_400);
    assert_eq!(read("root_certificate = \"10y\"").unwrap().root_certificate_s, 3_650 * 86_400);
    for text in [
        "",
        "14",
        "d",
        "0d",
        "-1d",
        "+1d",
        "01d",
        "1.5d",
        "1w",
        "1 d",
        "1D",
        "1d1h",
        "d1",
        "١d",
        "9223372036854775807y",
    ] {
        let error = read(&format!("timestamp = {text:?}")).unwrap_err().to_string();
        assert!(error.contains("no duration"), "{text}: {error}");
    }
    for line in [
        "timestamp = \"9s\"",
        "timestamp = \"32d\"",
        "snapshot = \"9s\"",
        "snapshot = \"1096d\"",
        "targets = \"59s\"",
        "targets = \"1096d\"",
        "root = \"59m\"",
        "root = \"11y\"",
        "root_certificate = \"11y\"",
    ] {
        assert!(read(line).unwrap_err().to_string().contains("out of bounds"), "{line}");
    }
    assert!(
        read("root_certificate = \"1y\"")
            .unwrap_err()
            .to_string()
            .contains("longer than validity.root_certificate")
    );
}

#[test]
fn policies_need_an_id_of_their_own() {
    assert!(matches!(rule_error("permit (principal, action, resource);"), RuleError::NoId { number: 1, .. }));
    for id in ["builtin/token-scope", "builtin/mine", "builtin/", "", "A", "a b", "a\\n", &"a".repeat(65)] {
        let cedar = format!("@id(\"{id}\") forbid (principal, action, resource);");
        assert!(matches!(rule_error(&cedar), RuleError::Id { .. }), "{id}");
    }
    let twice = "@id(\"a\") forbid (principal, action, resource);".repeat(2);
    assert!(matches!(rule_error(&twice), RuleError::DuplicateId { .. }));
    let rule = "@id(\"a\") forbid (principal, action, resource);".to_owned();
    let files = vec![("one.cedar".to_owned(), rule.clone()), ("two.cedar".to_owned(), rule)];
    let error = PolicySet::load(Sources { data: DATA.to_owned(), cedar: files, tests: None })
        .unwrap_err()
        .to_string();
    assert!(error.contains("one.cedar") && error.contains("two.cedar"), "{error}");
}

#[test]
fn policies_that_the_strict_validator_refuses_or_warns_of_are_refused() {
    for condition in [
        "context.nosuch == 1",
        "context.now < 5",
        "context.tagPreviousDigest == context.digest",
        "principal.maySign",
        "principal is Sign::Token && principal.maySign == \"yes\"",
        "resource.signers.contains(principal)",
        "decimal(context.tag).lessThan(decimal(\"1.0\"))",
        "1 + true == 2",
        "false",
    ] {
        let cedar = format!(
            "@id(\"a\") forbid (principal, action == Sign::Action::\"sign\", resource) when {{ {condition} }};"
        );
        let error = rule_error(&cedar);
        assert!(
            matches!(error, RuleError::Invalid { .. } | RuleError::Arithmetic { .. }),
            "{condition}: {error}"
        );
    }
    let unknown_action = "@id(\"a\") forbid (principal, action == Sign::Action::\"sgn\", resource);";
    assert!(matches!(rule_error(unknown_action), RuleError::Invalid { .. }));
    assert!(matches!(rule_error("forbid principal"), RuleError::Parse { .. }));
    let template = "@id(\"a\") forbid (principal == ?principal, action, resource);";
    assert!(matches!(rule_error(template), RuleError::Template { .. }));
}

#[test]
fn arithmetic_is_refused_wherever_it_hides() {
    for condition in [
        "context.manifest.size + 1 > 5",
        "context.manifest.size - 1 > 5",
        "context.manifest.size * 2 > 5",
        "-context.manifest.size < 5",
        "[1, context.manifest.size + 1].contains(5)",
        "{ a: context.manifest.size + 1 }.a == 5",
        "(if context.tag == \"x\" then context.manifest.size * 2 > 1 else false)",
    ] {
        let cedar = format!(
            "@id(\"a\") forbid (principal, action == Sign::Action::\"sign\", resource) \
             when {{ context has manifest && {condition} }};"
        );
        assert!(matches!(rule_error(&cedar), RuleError::Arithmetic { .. }), "{condition}");
    }
    let texts = "@id(\"a\") forbid (principal, action == Sign::Action::\"sign\", resource) \
        when { { \"+\": context.tag, \"*\": -5 }[\"+\"] == \"a-b*c\" };";
    PolicySet::load(sources(DATA, texts)).unwrap();
}

#[test]
fn names_in_policies_must_exist() {
    for (scope, near) in [
        ("principal in Sign::Team::\"contractor\"", "\"contractors\"?"),
        ("principal == Sign::Token::\"abc\"", "token:<id>"),
    ] {
        let error = rule_error(&format!("@id(\"a\") forbid ({scope}, action, resource);")).to_string();
        assert!(error.contains(near), "{error}");
    }
    for scope in
        ["resource in Sign::Namespace::\"r.example/team\"", "resource == Sign::Repository::\"team/app\""]
    {
        let error = rule_error(&format!("@id(\"a\") forbid (principal, action, {scope});"));
        assert!(matches!(error, RuleError::Entity { .. }), "{error}");
    }
}

#[test]
fn annotations_mean_something_or_are_refused() {
    for (annotation, says) in [
        ("@mesage(\"x\")", "did you mean \"message\"?"),
        ("@remedy(\"wait\")", "none of [\"final\""),
        ("@message(\"{diget}\")", "did you mean \"digest\"?"),
    ] {
        let error =
            rule_error(&format!("@id(\"a\") {annotation} forbid (principal, action, resource);")).to_string();
        assert!(error.contains(says), "{error}");
    }
    let permit = "@id(\"a\") @message(\"x\") permit (principal, action, resource);";
    assert!(matches!(rule_error(permit), RuleError::Annotation { .. }));
}

#[test]
fn limits_hold_for_texts_and_policies() {
    let load = |data: String, cedar: Vec<(String, String)>| {
        PolicySet::load(Sources { data, cedar, tests: None }).unwrap_err()
    };
    let file = |n: usize| (format!("{n}.cedar"), String::new());
    assert!(matches!(
        load(" ".repeat(policy::MAX_DATA_BYTES + 1), Vec::new()),
        PolicyError::Source(SourceError::TooLong { .. })
    ));
    assert!(matches!(
        load(DATA.to_owned(), vec![("a.cedar".to_owned(), " ".repeat(policy::MAX_POLICY_FILE_BYTES + 1))]),
        PolicyError::Source(SourceError::TooLong { .. })
    ));
    assert!(matches!(
        load(DATA.to_owned(), (0..=policy::MAX_POLICY_FILES).map(file).collect()),
        PolicyError::Source(SourceError::TooManyFiles)
    ));
    assert!(matches!(
        load(DATA.to_owned(), vec![file(1), file(1)]),
        PolicyError::Source(SourceError::SameName(_))
    ));
    let rule = |n: usize| format!("@id(\"r{n}\") forbid (principal, action, resource);\n");
    let many: String = (0..=policy::MAX_OPERATOR_POLICIES).map(rule).collect();
    assert!(matches!(rule_error(&many), RuleError::TooMany(_)));
}

/// On the usual stack of 2 MiB that the threads of tests and of the daemon have; without the limits, each of these ends
/// the process or is silently accepted by the validator.
#[test]
fn deeply_nested_policies_are_refused_before_they_exhaust_a_stack() {
    let wrap = |open: &str, inner: &str, close: &str, depth: usize| {
        let nested = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        format!("@id(\"a\") forbid (principal, action, resource) when {{ {nested} }};")
    };
    for (open, close) in [("(", ")"), ("[", "]"), ("{a:", "}")] {
        for depth in [policy::MAX_BRACKETS, 5_000] {
            let refused = rule_error(&wrap(open, "true", close, depth));
            assert!(matches!(refused, RuleError::TooComplex { what: TooComplex::Brackets, .. }), "{open}");
        }
    }
    for (open, close) in [
        ("if 1then 1else ", ""),
        ("", ".a"),
        ("", "[\"\"]"),
        ("", ".isEmpty()"),
        ("true||", ""),
        ("true&&", ""),
    ] {
        let just_short_enough = (policy::MAX_POLICY_BYTES - 80) / (open.len() + close.replace('"', "").len());
        let refused = rule_error(&wrap(open, "true", close, just_short_enough));
        assert!(
            matches!(
                refused,
                RuleError::TooComplex { what: TooComplex::Operators, .. } | RuleError::Invalid { .. }
            ),
            "{open}{close}: {refused}"
        );
        let refused = rule_error(&wrap(open, "true", close, 2 * just_short_enough));
        assert!(matches!(refused, RuleError::TooComplex { what: TooComplex::Long, .. }), "{open}{close}");
    }
    let chain = wrap("context.inTokenScope && ", "context.inTokenScope", "", 100);
    PolicySet::load(sources(DATA, &chain)).unwrap();
}

#[test]
fn the_stamp_changes_with_every_source_and_with_nothing_else() {
    let rule = "@id(\"a\") forbid (principal, action, resource);";
    let stamp = |data: &str, files: &[(&str, &str)]| {
        let cedar = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        PolicySet::load(Sources { data: data.to_owned(), cedar, tests: None }).unwrap().stamp()
    };
    let plain = stamp(DATA, &[]);
    let sets = [
        plain.set,
        stamp(&format!("{DATA}\n"), &[]).set,
        stamp(DATA, &[("a.cedar", "")]).set,
        stamp(DATA, &[("b.cedar", "")]).set,
        stamp(DATA, &[("a.cedar", rule)]).set,
        stamp(DATA, &[("a.cedar", ""), ("b.cedar", rule)]).set,
        stamp(DATA, &[("a.cedar", rule), ("b.cedar", "")]).set,
    ];
    let distinct: std::collections::BTreeSet<_> = sets.iter().collect();
    assert_eq!(distinct.len(), sets.len());
    assert_eq!(stamp(DATA, &[("b.cedar", ""), ("a.cedar", rule)]).set, sets[6], "order does not count");
    assert_eq!(plain.schema, stamp(DATA, &[("a.cedar", rule)]).schema);
}

#[test]
fn a_directory_is_read_by_name_and_errors_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let error = Sources::read(directory.path()).unwrap_err().to_string();
    assert!(error.contains("repositories.toml"), "{error}");
    std::fs::write(at("repositories.toml"), DATA).unwrap();
    for name in ["b.cedar", "a.cedar", ".a.cedar", "a.cedar~", "notes.txt"] {
        std::fs::write(at(name), name).unwrap();
    }
    let sources = Sources::read(directory.path()).unwrap();
    let names: Vec<&str> = sources.cedar.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((sources.data.as_str(), names), (DATA, vec!["a.cedar", "b.cedar"]));
    assert!(PolicySet::load(sources).unwrap_err().to_string().contains("a.cedar"));

    std::fs::write(at("b.cedar"), [0xff, 0xfe]).unwrap();
    assert!(Sources::read(directory.path()).unwrap_err().to_string().contains("b.cedar"));
    std::fs::write(at("b.cedar"), " ".repeat(policy::MAX_POLICY_FILE_BYTES + 1)).unwrap();
    assert!(matches!(Sources::read(directory.path()), Err(PolicyError::Source(SourceError::TooLong { .. }))));
    std::fs::remove_file(at("b.cedar")).unwrap();
    std::fs::create_dir(at("b.cedar")).unwrap();
    assert!(Sources::read(directory.path()).is_err(), "a directory is no policy file");
}
