//! `judge-sigstore KEY.PEM BUNDLE TRUSTED_ROOT BLOB`: what Rust's sigstore-verify says of a bundle. 0: it verifies; 1: it does not,
//! for the reason on standard error.

use sigstore_verify::{
    PublicKeyVerificationPolicy, Verifier,
    trust_root::TrustedRoot,
    types::{Bundle, DerPublicKey},
};
use std::{error::Error, fs, process::ExitCode};

fn main() -> ExitCode {
    match judge() {
        Ok(()) => {
            println!("verified");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn judge() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [key, bundle, root, blob] = args.as_slice() else {
        return Err("usage: judge-sigstore KEY.PEM BUNDLE TRUSTED_ROOT BLOB".into());
    };
    let policy = PublicKeyVerificationPolicy::new(DerPublicKey::from_pem(&fs::read_to_string(key)?)?);
    let bundle = Bundle::from_json(&fs::read_to_string(bundle)?)?;
    let verifier = Verifier::new(&TrustedRoot::from_file(root)?)?;
    let verdict = verifier.verify(&fs::read(blob)?, &bundle, &policy)?;
    if verdict.tlog_verified() { Ok(()) } else { Err("it did not look at the log".into()) }
}
