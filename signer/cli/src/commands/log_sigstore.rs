//! What cosign and its relatives need to enforce the log: `chancery log trusted-root`, and the files that `log prove` writes for
//! them.

use super::log::trust;
use crate::{
    args::{ClientFileArgs, LogTrustedRootArgs},
    audit::{AuditError, LogSource, Trust, evidence::Evidence, replace},
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use formats::sigstore::{Bundle, BundleError, Included, LegacyBundle, SignedEntryTimestamp, TrustedRoot};
use record::{Algorithm, Completion, Intent, Leaf, Sha256, SignedData, Spki};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Largest PEM file of a public key: one has 178 bytes.
const MAX_PEM: u64 = 16 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrustedRootResult {
    pub(super) trusted_root: TrustedRoot,
}

impl Answer for TrustedRootResult {
    const SCHEMA: &'static str = "chancery.trusted-root/v1";
}

/// Prints or writes a `trusted_root.json` from keys that the caller has: no server is asked.
pub(super) fn trusted_root(args: &LogTrustedRootArgs, output: &mut Output) -> Result<Exit, Failure> {
    let vkey = trust(&args.key)?.key;
    let set_key = args.set_key.as_deref().map(read_public_key).transpose()?;
    let trusted_root = TrustedRoot::of_log(&vkey, set_key.as_ref());
    let text = json(trusted_root.to_json())?;
    match &args.out {
        Some(out) => {
            write(out, text.as_bytes())?;
            output.note(&format!("{}: believes the log {} alone", out.display(), vkey.name()));
        }
        None => output.result(&TrustedRootResult { trusted_root }, &text)?,
    }
    Ok(Exit::Ok)
}

/// Writes what was asked for besides evidence; gives the files.
pub(super) fn write_client_files(
    args: &ClientFileArgs,
    source: &LogSource,
    trust: &Trust,
    evidence: &Evidence,
) -> Result<Vec<PathBuf>, Failure> {
    if args.is_empty() {
        return Ok(Vec::new());
    }
    let signed = Signed::of(evidence)?;
    if let Some(file) = &args.sigstore_bundle {
        write(file, json(signed.bundle(trust)?.to_json())?.as_bytes())?;
    }
    if let Some(file) = &args.legacy_bundle {
        let set_key = args.set_key.as_deref().map(read_public_key).transpose()?.ok_or_else(no_set_key)?;
        let set = signed.timestamp(source, &set_key)?;
        write(file, json(LegacyBundle::of(&signed.completion, set).to_json())?.as_bytes())?;
    }
    if let Some(file) = &args.payload {
        write(file, &signed.payload(source)?)?;
    }
    Ok(args.files().cloned().collect())
}

/// A signature that the log has, and its proof.
struct Signed<'a> {
    index: u64,
    leaf: &'a [u8],
    hashes: Vec<tlog::Hash>,
    note: &'a str,
    /// By the intent, whose key may sign another hash.
    payload: Sha256,
    completion: Completion,
}

impl<'a> Signed<'a> {
    fn of(evidence: &'a Evidence) -> Result<Self, Failure> {
        let none = || {
            Failure::new(Exit::NotFound, "there is no signature to make a client's files of")
                .why("the entry is no intent that was signed, and no signature of one")
                .next("find one with chancery log search --end signed")
        };
        let proven = evidence.end().ok_or_else(none)?;
        let Ok(Leaf::Completion(completion)) = Leaf::decode(proven.leaf()) else { return Err(none()) };
        let intent = evidence.intent().map(|proven| Leaf::decode(proven.leaf()));
        let Some(Ok(Leaf::Intent(Intent { payload, .. }))) = intent else { return Err(none()) };
        let (hashes, note) = (proven.hashes()?, evidence.checkpoint());
        Ok(Self { index: proven.index, leaf: proven.leaf(), hashes, note, payload, completion })
    }

    fn bundle(&self, trust: &Trust) -> Result<Bundle, Failure> {
        let Self { index, leaf, hashes, note, .. } = self;
        let entry = Included { index: *index, leaf, hashes, note };
        Bundle::of_blob(entry, &trust.key).map_err(|e| match e {
            BundleError::NoClient { .. } => {
                Failure::new(Exit::NotFound, "there is no Sigstore bundle of this signature")
                    .why(e)
                    .next("prove it with `chancery log prove --out`, or have it signed by a P-256 key")
            }
            e => AuditError::Evidence(api::chain_text(&e)).into(),
        })
    }

    fn timestamp(&self, source: &LogSource, set_key: &Spki) -> Result<SignedEntryTimestamp, Failure> {
        let wrong = |why: &str| {
            Failure::new(Exit::Verification, format!("the entry timestamp of entry {} is worthless", self.index))
                .why(why)
                .next("compare --set-key with the log keeper's [set_key]; if they are the same, tell the people who run the log")
        };
        let Some(bytes) = source.read(&format!("set/{}", self.index)).map_err(Failure::from)? else {
            return Err(Failure::new(Exit::NotFound, "no entry timestamp is to be had here")
                .why("the log keeper makes one when its server is asked: published files have none")
                .next("give a server in place of the folder"));
        };
        let set: SignedEntryTimestamp = serde_json::from_slice(&bytes).map_err(|e| wrong(&e.to_string()))?;
        if set.says(&self.completion, self.index, set_key) {
            Ok(set)
        } else {
            Err(wrong("it is not by this key, or not of this entry"))
        }
    }

    fn payload(&self, source: &LogSource) -> Result<Vec<u8>, Failure> {
        let sha256 = self.payload;
        let signed = |bytes: &[u8]| {
            SignedData::of(self.completion.spki().algorithm(), bytes)
                .is_ok_and(|data| data == *self.completion.data())
        };
        match source.read(&format!("payload/{sha256}")).map_err(Failure::from)? {
            Some(bytes) if signed(&bytes) => Ok(bytes),
            Some(_) => Err(Failure::new(Exit::Verification, "the server gave other bytes than were signed")
                .why(format!("the intent of entry {} has the SHA-256 {sha256}", self.index))
                .next("tell the people who run the log")),
            None => Err(Failure::new(
                Exit::NotFound,
                format!("the signed bytes {sha256} are not to be had here"),
            )
            .why("published files have their digest alone: the bytes are kept by the server")
            .next("give a server in place of the folder, or take the bytes from where they were published")),
        }
    }
}

fn no_set_key() -> Failure {
    Failure::new(Exit::Usage, "--legacy-bundle needs --set-key")
        .next("give the PEM file of the log's SET key")
}

/// A P-256 public key in PEM, as `openssl` and cosign write it.
fn read_public_key(path: &Path) -> Result<Spki, Failure> {
    let bad = |why: String| {
        Failure::new(Exit::Usage, format!("{} is no key of entry timestamps", path.display()))
            .why(why)
            .next("give the PEM file (BEGIN PUBLIC KEY) of a P-256 key")
    };
    let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if size > MAX_PEM {
        return Err(bad(format!("it has {size} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    match Spki::from_pem(&text) {
        Ok(spki) if spki.algorithm() == Algorithm::EcdsaP256 => Ok(spki),
        Ok(spki) => Err(bad(format!("it is a {} key", spki.algorithm()))),
        Err(e) => Err(bad(e.to_string())),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    replace(path, bytes)
        .map_err(|e| Failure::new(Exit::State, format!("cannot write {}", path.display())).why(e))
}

fn json(text: Result<String, serde_json::Error>) -> Result<String, Failure> {
    text.map_err(|e| Failure::new(Exit::Internal, "cannot write the document as JSON").why(e))
}
