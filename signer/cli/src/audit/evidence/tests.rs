use super::*;
use crate::audit::{
    matching::End,
    synthetic::{Log, completion, denial, intent, outcome},
};
use record::{Leaf, OutcomeKind};

/// A denial, then intents: signed, failed, open.
fn log() -> Log {
    let mut log = Log::new();
    log.push(denial(1, "v9"));
    log.push(intent(2, 1));
    log.push(intent(3, 2));
    log.push(intent(4, 3));
    log.push(outcome(3, OutcomeKind::Failed));
    log.push(completion(1));
    log
}

fn evidence(log: &Log, wanted: Wanted) -> Result<Vec<u8>, AuditError> {
    let published = log.published(log.size());
    collect(&published.source(), &log.trust(), &wanted)?.evidence.encode()
}

fn shown(log: &Log, index: u64) -> About {
    verify(&evidence(log, Wanted::Index(index)).unwrap(), &log.trust()).unwrap().about
}

#[test]
fn evidence_of_a_signature_is_the_same_from_its_intent_and_from_its_completion() {
    let log = log();
    let file = evidence(&log, Wanted::Index(2)).unwrap();
    assert_eq!(file, evidence(&log, Wanted::Index(6)).unwrap());
    let about = shown(&log, 2);
    assert_eq!((about.index, about.kind), (2, "intent"));
    assert_eq!(about.ended, Some(Ended { end: End::Signed, index: Some(6) }));
    let signature = about.signature.unwrap();
    assert_eq!((signature.presented_at, signature.evidence), (0, vec!["CKA_LOCAL=true".to_owned()]));
    assert_eq!(about.not_proven, [FIRST_OF_ITS_KIND, FIRST_END]);
}

#[test]
fn every_other_entry_has_evidence_too() {
    let log = log();
    let end = |index| shown(&log, index).ended.map(|ended| (ended.end, ended.index));
    assert_eq!(end(3), Some((End::Failed, Some(5))));
    assert_eq!(end(5), Some((End::Failed, Some(5))));
    assert_eq!(shown(&log, 5).not_proven, [FIRST_END]);
    assert_eq!(
        (end(4), shown(&log, 4).not_proven),
        (None, vec![NO_END]),
        "a file cannot show what is absent"
    );
    assert_eq!((shown(&log, 1).kind, shown(&log, 0).kind), ("denied", "genesis"));
    let none = evidence(&log, Wanted::Index(7)).unwrap_err();
    assert!(matches!(none, AuditError::NoEntry { index: 7, size: 7 }));
}

#[test]
fn a_request_leads_to_its_signature_or_its_denial() {
    let log = log();
    let requests = |index: u64| {
        let leaf = log.entries().nth(usize::try_from(index).unwrap()).unwrap();
        Facts::of(&Leaf::decode(leaf).unwrap()).asked[0].request.clone().unwrap()
    };
    for (index, end) in [(2, Some(End::Signed)), (1, None)] {
        let file = evidence(&log, Wanted::Request(requests(index))).unwrap();
        let about = verify(&file, &log.trust()).unwrap().about;
        assert_eq!((about.index, about.ended.map(|e| e.end)), (index, end));
    }
    let stranger = Wanted::Request(RequestId::new(crate::audit::synthetic::time(77)));
    assert!(matches!(evidence(&log, stranger), Err(AuditError::NoRequest { size: 7, .. })));
}

#[test]
fn a_file_with_any_altered_entry_proof_or_checkpoint_is_refused() {
    let log = log();
    let whole: serde_json::Value =
        serde_json::from_slice(&evidence(&log, Wanted::Index(2)).unwrap()).unwrap();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut altered = whole.clone();
        change(&mut altered);
        assert_ne!(altered, whole);
        verify(&serde_json::to_vec(&altered).unwrap(), &log.trust()).unwrap_err().to_string()
    };
    assert!(verify(&serde_json::to_vec(&whole).unwrap(), &log.trust()).is_ok());
    let count = whole["entries"].as_array().unwrap().len();
    assert_eq!(count, 3);
    for at in 0..count {
        refused(&|f| f["entries"][at]["index"] = (f["entries"][at]["index"].as_u64().unwrap() + 1).into());
        refused(&|f| {
            f["entries"][at]["leaf"] = format!("{} ", f["entries"][at]["leaf"].as_str().unwrap()).into()
        });
        refused(&|f| f["entries"][at]["proof"][0] = tlog::empty_root().to_base64().into());
        refused(&|f| f["entries"][at]["role"] = "entry".into());
        let twice = refused(&|f| {
            let entry = f["entries"][at].clone();
            f["entries"].as_array_mut().unwrap().push(entry);
        });
        assert!(twice.contains("two entries"), "{twice}");
    }
    for at in 0..2 {
        refused(&|f| drop(f["entries"].as_array_mut().unwrap().remove(at)));
    }
    refused(&|f| f["schema"] = "chancery.evidence/v2".into());
    refused(&|f| f["more"] = true.into());
    refused(&|f| f["log"] = "log+00000000+AQ==".into());
    refused(&|f| f["checkpoint"] = f["checkpoint"].as_str().unwrap().replacen("\n7\n", "\n8\n", 1).into());
}

#[test]
fn ends_of_other_intents_and_keys_that_were_not_presented_are_refused() {
    let log = log();
    let part = |index: u64| -> serde_json::Value {
        serde_json::from_slice(&evidence(&log, Wanted::Index(index)).unwrap()).unwrap()
    };
    let (signed, failed) = (part(2), part(3));
    let mut swapped = signed;
    swapped["entries"][2] = failed["entries"][2].clone();
    let refused = verify(&serde_json::to_vec(&swapped).unwrap(), &log.trust()).unwrap_err();
    assert!(refused.to_string().contains("is not the end of the intent 2"), "{refused}");
    let mut keyless = Log::without_keepers();
    keyless.push(intent(1, 1));
    let file = evidence(&keyless, Wanted::Index(1)).unwrap();
    let refused = verify(&file, &keyless.trust()).unwrap_err();
    assert!(refused.to_string().contains("does not present the key"), "{refused}");
}

#[test]
fn an_intent_is_judged_as_one_whatever_the_file_calls_it() {
    let mut log = Log::new();
    log.push(intent(1, 1));
    let whole: serde_json::Value =
        serde_json::from_slice(&evidence(&log, Wanted::Index(1)).unwrap()).unwrap();
    assert_eq!(whole["entries"].as_array().unwrap().len(), 2);
    let mut renamed = whole;
    renamed["entries"][1]["role"] = "entry".into();
    let refused = verify(&serde_json::to_vec(&renamed).unwrap(), &log.trust()).unwrap_err();
    assert!(refused.to_string().contains("entry 1 is an intent"), "{refused}");
}

#[test]
fn an_intent_for_another_log_or_with_anothers_purpose_is_refused() {
    let refused = |change: &dyn Fn(&mut record::Intent)| {
        let Leaf::Intent(mut faulty) = intent(1, 1) else { panic!() };
        change(&mut faulty);
        let mut log = Log::new();
        log.push(Leaf::Intent(faulty));
        let file = evidence(&log, Wanted::Index(1)).unwrap();
        verify(&file, &log.trust()).unwrap_err().to_string()
    };
    let other_log = refused(&|intent| intent.log = "other.chancery.test".parse().unwrap());
    assert!(other_log.contains("an intent for the log other.chancery.test"), "{other_log}");
    let other_format = refused(&|intent| intent.format = record::Format::DctRootCertificate);
    assert!(other_format.contains("purpose or format"), "{other_format}");
}

#[test]
fn a_signature_without_its_intent_says_that_it_shows_none() {
    let mut log = Log::new();
    log.push(completion(7));
    assert_eq!(shown(&log, 1).not_proven, [NO_INTENT]);
    let published = log.published(log.size());
    let collected = collect(&published.source(), &log.trust(), &Wanted::Index(0)).unwrap();
    assert_eq!(collected.findings, 1, "what is wrong with another entry is told too");
}

#[test]
fn an_entry_is_named_by_its_index_or_its_request() {
    assert_eq!("17".parse(), Ok(Wanted::Index(17)));
    assert!(matches!("0190a7d2-0000-7000-8000-000000000000".parse(), Ok(Wanted::Request(_))));
    for bad in ["", "x", "-1", "99999999999999999999"] {
        assert!(bad.parse::<Wanted>().is_err(), "{bad}");
    }
}
