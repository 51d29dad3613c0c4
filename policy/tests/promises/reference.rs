//! `docs/policy.md` is made from the schema and the guardrails themselves.
//! After a change of either: `WRITE_DOCS=1 cargo test -p policy --test promises reference`.

use policy::PolicySet;
use std::{fmt::Write, fs, path::PathBuf};

const HEAD: &str = "# Policy reference\n\n\
    Made from the Cedar schema and the guardrails by a test, which also holds this page to them. [How to write \
    policy](how-to/policy.md) has the way there; `policy/example/` has every key of `repositories.toml` with its meaning, and \
    a `tests.toml`.\n";

const RULES: &str = "\n## Guardrails\n\n\
    Every policy set contains them, and no operator's policy can lift one. The remedy says what can still make the same request \
    succeed: nothing (`final`), time (`retry`), doing what the message says (`act`), approvals (`approval`), a touch (`touch`), an \
    emergency (`break-glass`; behind `or` what it is where there are none). Words in braces are replaced. An `[[exemption]]` can name \
    those that say so.\n\n\
    | rule | remedy | exemption | message |\n|---|---|---|---|\n";

const CODE: &str = "\nRules that are no Cedar: `builtin/unknown-repository` (no entry speaks for the repository), `builtin/not-a-caller` (a \
    principal that is not of its kind), `builtin/no-permit`, `builtin/evaluation-error` (a rule could not be evaluated: denied, with \
    an alarm).\n";

const SCHEMA: &str = "\n## Schema\n\nWhat policies may ask about.\n\n";

fn page() -> String {
    let mut page = format!("{HEAD}{RULES}");
    let policies: cedar_policy::PolicySet = PolicySet::guardrails().parse().unwrap();
    let mut rows: Vec<String> = policies
        .policies()
        .filter(|policy| policy.effect() == cedar_policy::Effect::Forbid)
        .map(|policy| {
            let says = |key| policy.annotation(key).unwrap_or_default();
            let or = policy
                .annotation("otherwise")
                .map(|otherwise| format!(" or {otherwise}"))
                .unwrap_or_default();
            let (id, remedy, exemption) = (says("id"), says("remedy"), says("exemptible"));
            format!("| `{id}` | {remedy}{or} | {exemption} | {} |\n", says("message"))
        })
        .collect();
    rows.sort();
    rows.iter().for_each(|row| page.push_str(row));
    write!(page, "{CODE}{SCHEMA}```cedarschema\n{}```\n", PolicySet::schema()).unwrap();
    page
}

#[test]
fn the_page_of_reference_is_the_schema_and_the_guardrails() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page(),
        "run WRITE_DOCS=1 cargo test -p policy --test promises reference"
    );
}
