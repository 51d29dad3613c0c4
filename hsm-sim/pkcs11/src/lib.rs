//! A PKCS#11 module for tests that stands in front of a real one: the oracle of what a key really signed, and a hand
//! on how the token fails.
//!
//! It forwards every call to the module named in `HSM_SIM_MODULE` and appends to the file named in `HSM_SIM_JOURNAL`
//! (both absolute) one JSON line per signature that the key made, and one per `C_Login`:
//!
//! ```text
//! {"n":1,"pid":4711,"function":"C_Login","rv":"0x0"}
//! {"n":2,"pid":4711,"function":"C_Sign","key":"01","mechanism":"0x1041","input_sha256":"..","input":"..","signature":".."}
//! ```
//!
//! If `HSM_SIM_CONTROL` names a folder, it does to the calls what `rules.jsonl` in it says, and shows the token as
//! `token.json` says; `README.md` has every rule. Without the variable no call is touched.
//!
//! Promises: a signature is in the journal, on disk, before the caller has it; a key whose use could not be journaled
//! is not used, and if the journal fails after the key was used, the caller gets `CKR_GENERAL_ERROR` and no signature.
//! A signature that a rule withholds or alters is in the journal as the key made it. No PIN is ever written. No panic crosses into C. What the module says otherwise is what the real one says, except
//! that the few calls which could sign unseen are not supported (`overrides` has the table).
//! It does not know: the meaning of what is signed; and it does not see raw RSA through `C_Decrypt`.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod control;
mod faults;
mod forwarder;
mod journal;
mod operations;
mod overrides;
mod real;

pub use overrides::C_GetFunctionList;
