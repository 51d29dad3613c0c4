//! Machines: what a client certificate opens, and what none opens. The CA and its CRL are made here, the daemon is real.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use record::{Leaf, Sha256};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
};
use tests::{Instance, Settings, free_port, have, wait_for};

const SVID: &str = "spiffe://prod.example/ci/builder";

/// A CA for machines.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its key, in files.
struct Held {
    certificate: PathBuf,
    key: PathBuf,
    spki: Sha256,
}

/// A service with a listener for machines.
struct Desk {
    service: Instance,
    authority: Authority,
    port: u16,
}

impl Authority {
    fn new() -> Self {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(rcgen::DnType::CommonName, "machines");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = ca.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(ca, key), certificate }
    }

    /// The list of what is revoked, good until the first day of a year.
    fn crl(&self, revoked: &[u64], until: i32) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 2),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// What a machine's certificate says, before a test changes it.
fn machine(serial: u64, uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params
}

impl Desk {
    fn start() -> Self {
        let (mut service, authority, port) = (Instance::start(), Authority::new(), free_port());
        service.stop();
        let file = |name: &str| service.dir().join(name);
        fs::write(file("machines.pem"), &authority.certificate).unwrap();
        fs::write(file("machines.crl"), authority.crl(&[66], 2100)).unwrap();
        let config = file("chanceryd.toml");
        let text = fs::read_to_string(&config).unwrap();
        let section = format!(
            "\n[machines]\nlisten = \"127.0.0.1:{port}\"\nroots = {:?}\ncrls = [{:?}]\ntrust_domains = [\"prod.example\"]\n",
            file("machines.pem"),
            file("machines.crl")
        );
        fs::write(&config, text + &section).unwrap();
        service.resume(&Settings::default());
        Self { service, authority, port }
    }

    fn certificate(&self, name: &str, params: &CertificateParams, by: &Authority) -> Held {
        let key = KeyPair::generate().unwrap();
        let [certificate, file] =
            ["pem", "key"].map(|kind| self.service.dir().join(format!("machine-{name}.{kind}")));
        fs::write(&certificate, params.signed_by(&key, &by.issuer).unwrap().pem()).unwrap();
        fs::write(&file, key.serialize_pem()).unwrap();
        Held {
            certificate,
            key: file,
            spki: Sha256::of(&rcgen::PublicKeyData::subject_public_key_info(&key)),
        }
    }

    fn own(&self, name: &str, params: &CertificateParams) -> Held {
        self.certificate(name, params, &self.authority)
    }

    /// One call at the machines' listener; status 0 is a TLS alert.
    fn call(&self, who: Option<&Held>, path: &str, args: &[&str]) -> (u16, Value) {
        let base = format!("https://localhost:{}", self.port);
        let mut all = vec![];
        if let Some(held) = who {
            all.extend(["--cert", held.certificate.to_str().unwrap(), "--key", held.key.to_str().unwrap()]);
        }
        all.extend(args);
        let (status, body) = self.service.http_at(&base, "", path, &all);
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Whether a certificate gets past the handshake and is somebody.
    fn is_somebody(&self, held: &Held) -> bool {
        match self.call(Some(held), NOWHERE, &[]) {
            (404, said) => said["code"] == "not-found",
            (0, _) => false,
            other => panic!("{other:?}"),
        }
    }

    /// A connection that stays open.
    fn connect(&self, held: &Held) -> BufReader<StreamOwned<ClientConnection, TcpStream>> {
        let pem = |path: &PathBuf| fs::read(path).unwrap();
        let mut roots = RootCertStore::empty();
        let ca = pem(&PathBuf::from(&self.service.env()["CHANCERY_CACERT"]));
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(&pem(&held.certificate)).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&pem(&held.key)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        BufReader::new(StreamOwned::new(session, TcpStream::connect(("127.0.0.1", self.port)).unwrap()))
    }
}

/// A request that nobody has made: who asks for it as somebody is told that it is not there.
const NOWHERE: &str = "/v1/requests/0190a7d2-0000-7000-8000-000000000000";

/// One request on an open connection: its status.
fn status(connection: &mut BufReader<StreamOwned<ClientConnection, TcpStream>>) -> u16 {
    let request = format!("GET {NOWHERE} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).unwrap() > 0, "the connection was closed: {head:?}");
        if line == "\r\n" {
            break;
        }
        head.push(line.to_ascii_lowercase());
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.trim().parse().unwrap()];
    connection.read_exact(&mut body).unwrap();
    head[0].split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn only_a_certificate_that_its_ca_vouches_for_now_is_somebody_and_policy_decides_what_it_may_do() {
    if !have("docker-registry") || !have("curl") {
        return;
    }
    let desk = Desk::start();
    let builder = desk.own("builder", &machine(1, &[SVID]));
    let plain = desk.own("plain", &machine(2, &[]));
    assert!(desk.is_somebody(&builder) && desk.is_somebody(&plain));

    let refused = [
        ("of-another-ca", desk.certificate("of-another-ca", &machine(3, &[SVID]), &Authority::new())),
        ("revoked", desk.own("revoked", &machine(66, &[SVID]))),
        ("ended", {
            let mut params = machine(4, &[SVID]);
            params.not_after = date_time_ymd(2025, 1, 1);
            desk.own("ended", &params)
        }),
        ("not-yet", {
            let mut params = machine(5, &[SVID]);
            params.not_before = date_time_ymd(2099, 1, 1);
            desk.own("not-yet", &params)
        }),
        ("for-servers", {
            let mut params = machine(6, &[SVID]);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            desk.own("for-servers", &params)
        }),
        ("for-nothing", {
            let mut params = machine(7, &[SVID]);
            params.extended_key_usages = vec![];
            desk.own("for-nothing", &params)
        }),
        ("other-domain", desk.own("other-domain", &machine(8, &["spiffe://evil.example/ci/builder"]))),
        ("two-names", desk.own("two-names", &machine(9, &[SVID, "spiffe://prod.example/root"]))),
        ("no-path", desk.own("no-path", &machine(10, &["spiffe://prod.example"]))),
        ("dots", desk.own("dots", &machine(11, &["spiffe://prod.example/ci/../root"]))),
    ];
    for (name, held) in &refused {
        assert!(!desk.is_somebody(held), "{name}");
    }
    assert_eq!(desk.call(None, NOWHERE, &[]).0, 0, "no certificate");
    assert_eq!(desk.service.http("", NOWHERE, &[]).0, 401, "the other listener asks for no certificate");

    // Two identities are one too many: a token does not come in with a machine's certificate.
    let admin = format!("Authorization: Bearer {}", desk.service.env()["CHANCERY_ADMIN_TOKEN"]);
    let (status, said) = desk.call(Some(&builder), "/v1/tokens", &["-H", &admin]);
    assert_eq!((status, &said["code"]), (400, &"bad-request".into()), "{said}");
    // Nor is a header a certificate.
    assert_eq!(desk.service.http("", NOWHERE, &["-H", "X-Client-Cert: x", "-H", "Forwarded: for=x"]).0, 401);
    assert_eq!(desk.call(Some(&builder), "/v1/tokens", &[]).0, 403, "a machine administers nothing");

    // Policy has no team with them: the refusal is in the log with its name, and no key was used.
    let digest = desk.service.registry.push("demo/app", "v1", "x");
    let body = format!("{{\"image\":\"{}@{digest}\",\"tag\":\"v1\"}}", desk.service.repository("demo/app"));
    for held in [&builder, &plain] {
        let args = ["-H", "Content-Type: application/json", "-H", "Idempotency-Key: k", "-d", &body];
        let (status, said) = desk.call(Some(held), "/v1/requests?wait=0", &args);
        assert_eq!((status, &said["code"]), (403, &"denied".into()), "{said}");
    }
    let names: Vec<String> = desk.service.history().leaves().iter().filter_map(denied_by).collect();
    assert_eq!(names, [format!("machine:{SVID}"), format!("machine:{}", plain.spki)]);
    assert!(desk.service.signed().is_empty(), "no key was used");

    // In a team that signs there, the one may; the other one still may not.
    let policy = desk.service.dir().join("policy");
    let file = policy.join("repositories.toml");
    let text = fs::read_to_string(&file).unwrap();
    let team = format!(
        "signers = [\"builders\"]\n\n[[team]]\nname = \"builders\"\nmembers = [\"machine:{SVID}\"]\n"
    );
    fs::write(&file, text + &team).unwrap();
    desk.service.hang_up();
    let json = ["-H", "Content-Type: application/json", "-d", &body, "-H"];
    let ask = |who, key: &str| desk.call(Some(who), "/v1/requests?wait=30", &[&json[..], &[key]].concat());
    let mut tries = 0;
    let said = wait_for("the machine's request to be signed", || {
        tries += 1;
        let (status, said) = ask(&builder, &format!("Idempotency-Key: team-{tries}"));
        (status == 201).then_some(said)
    });
    assert_eq!(said["by"], format!("machine:{SVID}"));
    assert_eq!(ask(&plain, "Idempotency-Key: team").0, 403);

    // The log has by what it was decided, and anybody with the policy decides the same again.
    let of_request = |leaf: &Leaf| matches!(leaf, Leaf::Allowance(a) if a.request.as_str() == said["id"]);
    let at = desk.service.history().leaves().iter().position(of_request).unwrap();
    let line = desk.service.chancery_as(
        "CHANCERY_AUDITOR_TOKEN",
        &["log", "show", "--from", &at.to_string(), "--limit", "1", "-o", "json"],
    );
    assert_eq!(line.code, 0, "{line:?}");
    let entry = desk.service.dir().join("entry.json");
    let replay = |text: &str| {
        fs::write(&entry, text).unwrap();
        let words = ["policy", "replay", policy.to_str().unwrap(), "--decision", entry.to_str().unwrap()];
        desk.service.chancery(&words).code
    };
    assert_eq!(replay(&line.stdout), 0);
    assert_eq!(replay(&line.stdout.replace("builtin/", "builtin/un")), 10, "rules that did not decide");
    desk.service.verify_log();
}

fn denied_by(leaf: &Leaf) -> Option<String> {
    match leaf {
        Leaf::Denial(denial) => Some(denial.by.to_string()),
        _ => None,
    }
}

#[test]
fn what_is_revoked_is_refused_on_open_connections_too_and_so_is_everything_once_a_crl_has_ended() {
    if !have("docker-registry") || !have("curl") {
        return;
    }
    let desk = Desk::start();
    let (first, second) = (desk.own("first", &machine(1, &[SVID])), desk.own("second", &machine(2, &[SVID])));
    let (mut one, mut two) = (desk.connect(&first), desk.connect(&second));
    // Both are kept busy: a connection that says nothing for five seconds is closed.
    let mut ask = || (status(&mut one), status(&mut two));
    assert_eq!(ask(), (404, 404));

    let crl = desk.service.dir().join("machines.crl");
    fs::write(&crl, desk.authority.crl(&[1], 2100)).unwrap();
    wait_for("the revoked certificate, and no other, to be refused", || (ask() == (401, 404)).then_some(()));
    assert!(!desk.is_somebody(&first) && desk.is_somebody(&second));

    // What cannot be read changes nothing, and is told.
    let alarms = || -> Vec<String> {
        let (_, ready) = desk.service.http("", "/readyz", &[]);
        let ready: Value = serde_json::from_str(&ready).unwrap();
        ready["alarms"].as_array().into_iter().flatten().map(|a| a.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(alarms(), Vec::<String>::new());
    fs::write(&crl, "half a file").unwrap();
    wait_for("the alarm", || {
        assert_eq!(ask(), (401, 404), "what was read before is in force");
        alarms().iter().any(|alarm| alarm.contains("holds no CRL")).then_some(())
    });

    // A list that has ended says nothing of anybody.
    fs::write(&crl, desk.authority.crl(&[], 2025)).unwrap();
    wait_for("everybody to be refused", || (ask() == (401, 401)).then_some(()));
    assert!(!desk.is_somebody(&second));
    let ended = |alarm: &String| alarm.contains("has ended at 2025-01-01");
    wait_for("the alarm", || (ask() == (401, 401) && alarms().iter().any(ended)).then_some(()));
    fs::write(&crl, desk.authority.crl(&[1], 2100)).unwrap();
    wait_for("the other one to be somebody again", || (ask() == (401, 404)).then_some(()));
    wait_for("no alarm", || (ask() == (401, 404) && alarms().is_empty()).then_some(()));
}

#[test]
fn a_start_with_cas_or_crls_that_cannot_be_read_is_refused() {
    if !have("docker-registry") {
        return;
    }
    let mut desk = Desk::start();
    desk.service.stop();
    let crl = desk.service.dir().join("machines.crl");
    fs::write(&crl, "").unwrap();
    let said = desk.service.resume_in_vain();
    let log = fs::read_to_string(desk.service.dir().join("daemon.log")).unwrap_or_default();
    assert!([&said, &log].iter().any(|text| text.contains("holds no CRL")), "{said}\n{log}");
}
