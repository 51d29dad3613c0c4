//! Machines: who asks, where a client certificate says so.
//!
//! Promises: the same judge looks at a certificate in the handshake and again with every request, with the CAs and CRLs
//! as they are on the disk at that time: what is revoked is refused on connections that are open already, too. A CRL that
//! has ended refuses every certificate that it speaks for. It does not know what a machine may do.

mod certificate;

pub(crate) use certificate::{Machine, is_trust_domain};

use crate::{config::MachinesConfig, fatal::Fatal, health::Health, refusals::Refusals};
use record::{Clock, Sha256, Time};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use x509_cert::{crl::CertificateList, der::Decode};

/// How often CAs and CRLs are looked at again: what an operator revokes is refused no later than this after it.
const LOOK: Duration = Duration::from_secs(10);
/// Largest file of CAs or CRLs: hundreds of thousands of revoked certificates.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Names of these alarms in the daemon's health.
const ALARMS: &str = "machines";

/// Judges client certificates.
pub(crate) struct Machines {
    roots: PathBuf,
    crls: Vec<PathBuf>,
    trust_domains: Vec<String>,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
    refusals: Arc<Refusals>,
    clock: Arc<dyn Clock>,
}

/// What is in force.
struct Current {
    verifier: Arc<dyn ClientCertVerifier>,
    crls: Vec<Crl>,
    /// Of all files, to tell whether one has changed.
    sha256: Sha256,
}

/// When one CRL ends.
struct Crl {
    file: PathBuf,
    ends: Option<Time>,
}

/// Why the CAs and CRLs cannot be taken.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("more than 16 MiB")]
    TooLarge,
    #[error("is no PEM file of {0}: {1}")]
    Pem(&'static str, rustls::pki_types::pem::Error),
    #[error("holds no {0}")]
    Empty(&'static str),
    #[error("holds what is no CA certificate: {0}")]
    Root(Error),
    #[error("holds what is no CRL: {0}")]
    Crl(x509_cert::der::Error),
    #[error("cannot be used together: {0}")]
    Verifier(rustls::server::VerifierBuilderError),
}

impl std::fmt::Debug for Machines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machines").field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl Machines {
    /// Reads the CAs and CRLs; a start without them is refused.
    pub(crate) fn open(
        config: &MachinesConfig,
        refusals: Arc<Refusals>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fatal> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let current = Files::read(&config.roots, &config.crls)
            .and_then(|files| Current::of(&files, &provider))
            .map_err(|(path, why)| Fatal::Config { path, why: why.to_string() })?;
        Ok(Self {
            roots: config.roots.clone(),
            crls: config.crls.clone(),
            trust_domains: config.trust_domains.clone(),
            provider,
            current: RwLock::new(current),
            refusals,
            clock,
        })
    }

    /// The machine that this chain (its own certificate first, DER) names at this time.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Machine, Error> {
        let (own, above) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.verifier().verify_client_cert(own, above, now)?;
        certificate::machine(own, &self.trust_domains)
            .map_err(|e| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(e)))))
    }

    /// Takes up the CAs and CRLs whenever they change on the disk, and says so while they cannot be taken or have ended.
    pub(crate) async fn follow(self: Arc<Self>, health: Arc<Health>) {
        let mut alarms = Vec::new();
        loop {
            let machines = self.clone();
            let looked = tokio::task::spawn_blocking(move || machines.look()).await;
            let failed = looked.ok().and_then(Result::err).map(|(file, why)| {
                let file = file.display();
                format!("machines: {file}: {why}: the CAs and CRLs that were read before stay in force")
            });
            let now = [self.ended(), failed.into_iter().collect()].concat();
            now.iter().filter(|alarm| !alarms.contains(*alarm)).for_each(|alarm| tracing::warn!("{alarm}"));
            health.set_alarms(ALARMS, now.clone());
            alarms = now;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads the files again, and takes what they say if it is something else.
    fn look(&self) -> Result<(), (PathBuf, FileError)> {
        let files = Files::read(&self.roots, &self.crls)?;
        let sha256 = self.current.read().unwrap_or_else(PoisonError::into_inner).sha256;
        if files.sha256() != sha256 {
            let next = Current::of(&files, &self.provider)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
            tracing::info!("CAs and CRLs of machines have changed and are in force");
        }
        Ok(())
    }

    /// An alarm for each CRL that has ended.
    fn ended(&self) -> Vec<String> {
        let now = self.clock.now();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let alarm = |crl: &Crl| {
            let ended = crl.ends.filter(|ends| *ends <= now)?;
            Some(format!(
                "machines: a CRL in {} has ended at {ended}: every certificate of its CA is refused until there is a newer one",
                crl.file.display()
            ))
        };
        current.crls.iter().filter_map(alarm).collect()
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).verifier.clone()
    }
}

impl ClientCertVerifier for Machines {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The CAs can change while this is lent: clients send the certificate that they have.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        match self.judge(&chain, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(e) => {
                self.refusals.unknown(self.clock.now());
                tracing::info!(error = %e, "a client certificate was refused");
                Err(e)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

/// The files as they are on the disk: the CAs, and each file of CRLs.
struct Files {
    roots: (PathBuf, Vec<u8>),
    crls: Vec<(PathBuf, Vec<u8>)>,
}

impl Files {
    fn read(roots: &Path, crls: &[PathBuf]) -> Result<Self, (PathBuf, FileError)> {
        let file = |path: &Path| match read(path) {
            Ok(bytes) => Ok((path.to_owned(), bytes)),
            Err(e) => Err((path.to_owned(), e)),
        };
        Ok(Self { roots: file(roots)?, crls: crls.iter().map(|path| file(path)).collect::<Result<_, _>>()? })
    }

    /// Of the hashes of all files: no byte can move from one to the next unseen.
    fn sha256(&self) -> Sha256 {
        let all = std::iter::once(&self.roots).chain(&self.crls);
        let hashes: Vec<u8> = all.flat_map(|(_, bytes)| *Sha256::of(bytes).as_bytes()).collect();
        Sha256::of(&hashes)
    }
}

impl Current {
    fn of(files: &Files, provider: &Arc<CryptoProvider>) -> Result<Self, (PathBuf, FileError)> {
        let in_file = |path: &Path| {
            let path = path.to_owned();
            move |e: FileError| (path, e)
        };
        let (roots, pem) = &files.roots;
        let store = roots_in(pem).map_err(in_file(roots))?;
        let (mut lists, mut ends) = (Vec::new(), Vec::new());
        for (path, pem) in &files.crls {
            for list in crls_in(pem).map_err(in_file(path))? {
                let ends_at = ends_at(&list).map_err(in_file(path))?;
                ends.push(Crl { file: path.clone(), ends: ends_at });
                lists.push(list);
            }
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone());
        if !lists.is_empty() {
            // An unknown status is a refusal, which is what rustls does by itself; an ended CRL is none, unless it is told.
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        let verifier = builder.build().map_err(|e| in_file(roots)(FileError::Verifier(e)))?;
        Ok(Self { verifier, crls: ends, sha256: files.sha256() })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(FileError::TooLarge);
    }
    Ok(fs::read(path)?)
}

fn roots_in(pem: &[u8]) -> Result<RootCertStore, FileError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| FileError::Pem("certificates", e))?;
        store.add(certificate).map_err(FileError::Root)?;
    }
    if store.is_empty() { Err(FileError::Empty("certificate")) } else { Ok(store) }
}

fn crls_in(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = lists.map_err(|e| FileError::Pem("CRLs", e))?;
    if lists.is_empty() { Err(FileError::Empty("CRL")) } else { Ok(lists) }
}

/// A CRL's `nextUpdate` (RFC 5280, section 5.1.2.5).
fn ends_at(list: &CertificateRevocationListDer<'_>) -> Result<Option<Time>, FileError> {
    let list: CertificateList = CertificateList::from_der(list).map_err(FileError::Crl)?;
    let ends = list.tbs_cert_list.next_update;
    Ok(ends.and_then(|at| certificate::time(at.to_unix_duration())))
}
