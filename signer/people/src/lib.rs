//! People and their approvals: the statement of a change, what a person's key signs of it, the roster that says whose key
//! that is, and whether a rule's people have all agreed.
//!
//! Promises: every document has one spelling (RFC 8785) and a limit on everything in it; all that is needed to verify an
//! approval years later is the approval and the roster; distinct people count, never keys; nothing here is "allowed" by
//! absence: a rule without a need, or a need of nobody, cannot be made.
//! It does not know: files, clocks, devices, certificates, CBOR, the policy, or what a statement's change does.
//! The bytes are described in `docs/people-formats.md`.

mod approval;
mod name;
mod quorum;
mod roster;
mod rule;
mod statement;
mod succession;
mod webauthn;

pub use approval::{Approval, ApprovalError, MAX_APPROVAL_BYTES, PAYLOAD_TYPE, Proof, pae};
pub use name::Name;
pub use quorum::{Counted, NoQuorum, Quorum, Uncounted, Why, counted};
pub use roster::{
    Changes, Group, MAX_GROUPS, MAX_KEYS_OF_ONE, MAX_PEOPLE, MAX_ROSTER_BYTES, Method, Person, PersonKey,
    Roster, RosterContent, RosterError,
};
pub use rule::{MAX_COUNT, MAX_NEEDS, MethodKind, Need, Rule, RuleError};
pub use statement::{
    Change, Content, Decision, MAX_BREAK_GLASS, MAX_CHILDREN, MAX_SIGNATURES, MAX_STATEMENT_BYTES,
    MAX_VALIDITY_MS, PREDICATE_TYPE, STATEMENT_TYPE, Signing, Statement, StatementError,
};
pub use succession::{MAX_SIGNED_ROSTER_BYTES, ROSTER_TYPE, SignedRoster, SuccessionError};
pub use webauthn::{Assertion, AssertionError, MAX_CLIENT_DATA, challenge};
