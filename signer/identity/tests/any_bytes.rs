//! Whatever comes in, nothing panics, and nothing is accepted that was not signed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use identity::{ClaimMap, Issuer, Jwks, Refused, Token};
use oidc_sim::{Case, Keys, Signer, compact};
use proptest::prelude::*;
use record::Time;
use serde_json::json;
use std::sync::LazyLock;

const URL: &str = "https://forge.example";
const NOW: i64 = 1_790_000_000;

struct World {
    keys: Keys,
    published: Jwks,
    issuers: Vec<Issuer>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let keys = Keys::new();
    let published = Jwks::parse(json!({"keys": keys.public()}).to_string().as_bytes()).unwrap();
    let issuers = identity::built_in_providers().map(|provider| {
        let text = format!(
            "name = \"forge\"\nprovider = {provider:?}\nissuer = {URL:?}\naudience = \"a\"\n\
             algorithms = [\"RS256\", \"ES256\", \"EdDSA\"]\n"
        );
        Issuer::new(toml::from_str(&text).unwrap(), None).unwrap()
    });
    World { published, issuers: issuers.collect(), keys }
});

fn verify(token: &str) -> Vec<Result<(), Refused>> {
    let now = Time::from_unix_ms(NOW * 1000).unwrap();
    let each = |issuer: &Issuer| issuer.verify(&Token::parse(token)?, &WORLD.published, now).map(drop);
    WORLD.issuers.iter().map(each).collect()
}

/// JSON of every shape, with the names that are read among others.
fn claim() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,40}".prop_map(|s| json!(s)),
        "[a-z/@:.]{0,12}".prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            prop::collection::btree_map("[a-z]{1,8}", inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_no_token(text in "\\PC{0,200}", dots in "[A-Za-z0-9_.-]{0,200}") {
        prop_assert!(verify(&text).iter().all(Result::is_err));
        prop_assert!(verify(&dots).iter().all(Result::is_err));
    }

    #[test]
    fn arbitrary_parts_that_nobody_signed_are_refused(header in any::<Vec<u8>>(), claims in any::<Vec<u8>>()) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        prop_assert!(verify(&compact(&text(&header), &text(&claims), Signer::Nobody)).iter().all(Result::is_err));
    }

    #[test]
    fn a_signed_token_with_any_claim_altered_is_judged_without_a_panic(
        provider in 0usize..6, which in any::<prop::sample::Index>(), value in claim(),
    ) {
        let provider = identity::built_in_providers().nth(provider).unwrap();
        let mut names: Vec<String> = oidc_sim::claims(provider).keys().cloned().collect();
        names.extend(["iss", "aud", "exp", "iat", "nbf", "jti"].map(str::to_owned));
        let altered = json!({which.get(&names).clone(): value}).to_string();
        let case = Case { provider: Some(provider.into()), claims: Some(altered), ..Case::default() };
        let _judged = verify(&case.mint(URL, "a", &WORLD.keys, NOW));
    }

    #[test]
    fn a_token_with_any_byte_altered_is_refused(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let token = Case::default().mint(URL, "a", &WORLD.keys, NOW);
        let mut altered = token.clone();
        let at = at.index(token.len());
        altered.replace_range(at..=at, &to);
        prop_assert_eq!(verify(&altered).iter().any(Result::is_ok), altered == token);
    }

    #[test]
    fn arbitrary_key_sets_and_maps_are_read_or_refused(text in "\\PC{0,200}", keys in claim()) {
        let _set = Jwks::parse(text.as_bytes());
        let _set = Jwks::parse(json!({"keys": [keys]}).to_string().as_bytes());
        let _map = ClaimMap::parse(&text);
    }
}
