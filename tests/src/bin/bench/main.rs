//! What a signature costs: the raw token, then the whole service at 1, 16 and 64 clients, in one run on one machine.
//! Judge by the ratio to the raw token; absolute figures say more about the machine.

use anyhow::{Context, Result};
use api::{Client, IdempotencyKey, NewRequest, Secret, Trust};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tests::{Instance, Settings, have};

/// How long the raw token is measured.
const RAW: Duration = Duration::from_secs(3);
/// Repositories that the requests are spread over.
const REPOSITORIES: usize = 20;
/// Clients, and how many requests they make together.
const LEVELS: [(usize, usize); 3] = [(1, 60), (16, 480), (64, 960)];
/// Kernel clock ticks a second (USER_HZ on Linux).
const TICKS: f64 = 100.0;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("raw", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return raw(rest);
    }
    if !have("docker-registry") || !have("softhsm2-util") {
        return Ok(());
    }
    let threads = thread::available_parallelism()?.get();
    let raw = raw_rate(threads)?;
    println!("raw C_Sign, P-256 in SoftHSM, {threads} threads: {raw:.0}/s");
    let service = Instance::with(&Settings { plain_token: true, ..Settings::default() });
    let digest = service.registry.push("demo/app0", "x", "bench");
    for r in 1..REPOSITORIES {
        anyhow::ensure!(
            service.registry.push(&format!("demo/app{r}"), "x", "bench") == digest,
            "equal images, equal digests"
        );
    }
    for r in 0..REPOSITORIES {
        let made = service.sign(&format!("demo/app{r}"), &digest, "first");
        anyhow::ensure!(made.code == 0, "{made:?}");
    }
    println!(
        "clients  requests/s    p50 ms    p99 ms  signatures  requests/raw  CPU ms a signature: daemon, keepers"
    );
    for (clients, total) in LEVELS {
        level(&service, &digest, clients, total, raw)?;
    }
    fsyncs(&service, &digest)
}

/// Signatures a second that the token makes with nothing around it; measured in a child, since SoftHSM finds its
/// configuration in the environment.
fn raw_rate(threads: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let token = hsm_sim::SoftHsm::create(folder.path(), "bench")?;
    let mut child = Command::new(std::env::current_exe()?);
    child.arg("raw").arg(threads.to_string()).arg(token.module()).arg(token.pin_file()).envs(token.env());
    let output = child.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The child: prints the rate.
fn raw(args: &[String]) -> Result<()> {
    let [threads, module, pin] = args else { anyhow::bail!("raw THREADS MODULE PIN-FILE") };
    let pkcs11 = Pkcs11::new(module)?;
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slot = *pkcs11.get_slots_with_initialized_token()?.first().context("no token")?;
    let keeper = pkcs11.open_rw_session(slot)?;
    keeper.login(UserType::User, Some(&AuthPin::from(fs::read_to_string(pin)?.trim().to_owned())))?;
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let public = [Attribute::Token(true), Attribute::Verify(true), Attribute::EcParams(p256)];
    let private =
        [Attribute::Token(true), Attribute::Private(true), Attribute::Sign(true), Attribute::Sensitive(true)];
    let (_, key) = keeper.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
    let end = Instant::now() + RAW;
    let workers: Vec<_> = (0..threads.parse::<usize>()?)
        .map(|_| {
            pkcs11.open_ro_session(slot).map(|session| thread::spawn(move || signatures(&session, key, end)))
        })
        .collect::<Result<_, _>>()?;
    let made: usize = workers.into_iter().map(|w| w.join().unwrap_or(0)).sum();
    println!("{}", made as f64 / RAW.as_secs_f64());
    Ok(())
}

fn signatures(session: &Session, key: ObjectHandle, end: Instant) -> usize {
    let mut made = 0;
    while Instant::now() < end && session.sign(&Mechanism::Ecdsa, key, &[7; 32]).is_ok() {
        made += 1;
    }
    made
}

/// One row: so many clients, each asking as soon as it has its answer.
fn level(service: &Instance, digest: &record::Digest, clients: usize, total: usize, raw: f64) -> Result<()> {
    let before = Usage::of(service)?;
    let start = Instant::now();
    let mut waits = ask(service, digest, clients, total)?;
    let seconds = start.elapsed().as_secs_f64();
    let used = Usage::of(service)?.since(&before);
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    let rate = total as f64 / seconds;
    println!(
        "{clients:>7}  {rate:>10.1}  {:>8.1}  {:>8.1}  {:>10}  {:>12.4}  {:.2}, {:.2}",
        at(0.5),
        at(0.99),
        used.signatures,
        rate / raw,
        used.daemon_s * 1000.0 / used.signatures as f64,
        used.keepers_s * 1000.0 / used.signatures as f64,
    );
    Ok(())
}

/// Makes the requests; how long each took until clients could see its tag.
fn ask(service: &Instance, digest: &record::Digest, clients: usize, total: usize) -> Result<Vec<Duration>> {
    let env = service.env();
    let client = Client::new(
        &env["CHANCERY_URL"],
        &Trust::CaFile(env["CHANCERY_CACERT"].clone().into()),
        Some(Secret::new(&env["CHANCERY_TOKEN"])?),
    )?;
    let next = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let one = |_| {
            let (client, next) = (client.clone(), next.clone());
            let names: Vec<String> =
                (0..REPOSITORIES).map(|r| service.repository(&format!("demo/app{r}"))).collect();
            let digest = *digest;
            tokio::spawn(async move {
                let mut waits = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= total {
                        return anyhow::Ok(waits);
                    }
                    let image = format!("{}@{digest}", names[n % REPOSITORIES]).parse()?;
                    let tag = format!("c{clients}-{n}").parse()?;
                    let start = Instant::now();
                    let mut request =
                        client.sign(&NewRequest { image, tag }, &IdempotencyKey::random()?).await?;
                    while !request.state.is_final() {
                        request = client.request(&request.id, 30).await?;
                    }
                    anyhow::ensure!(request.state == api::RequestState::Published, "{request:?}");
                    waits.push(start.elapsed());
                }
            })
        };
        let tasks: Vec<_> = (0..clients).map(one).collect();
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await??);
        }
        Ok(waits)
    })
}

/// What the processes have used so far.
struct Usage {
    daemon_s: f64,
    keepers_s: f64,
    signatures: u64,
}

impl Usage {
    fn of(service: &Instance) -> Result<Self> {
        let cpu = |words: &[&str]| cpu_seconds(service.pid(words));
        Ok(Self {
            daemon_s: cpu(&["chanceryd", "serve"]),
            keepers_s: cpu(&["chancery-keeper", "/log/"]) + cpu(&["chancery-keeper", "/signing/"]),
            signatures: log_size(service)? / 2,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            daemon_s: self.daemon_s - before.daemon_s,
            keepers_s: self.keepers_s - before.keepers_s,
            signatures: (self.signatures - before.signatures).max(1),
        }
    }
}

/// User and system time of a process (proc(5), fields 14 and 15 of `stat`).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

/// Leaves in the log; while only requests are made, each signature is an intent and a completion.
fn log_size(service: &Instance) -> Result<u64> {
    let env = service.env();
    let client =
        Client::new(&env["CHANCERY_URL"], &Trust::CaFile(env["CHANCERY_CACERT"].clone().into()), None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(client.readyz())?.readiness.log_size)
}

/// Calls of fsync and fdatasync by all three processes, for requests made one after the other.
fn fsyncs(service: &Instance, digest: &record::Digest) -> Result<()> {
    if !have("strace") {
        return Ok(());
    }
    let out = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-q", "-e", "trace=fsync,fdatasync", "-o"]).arg(out.path());
    for words in [["chanceryd", "serve"], ["chancery-keeper", "/log/"], ["chancery-keeper", "/signing/"]] {
        strace.arg("-p").arg(service.pid(&words).to_string());
    }
    let mut strace = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // A request shows that strace is attached: its calls are in the file. The processes let only root look.
    let mut attempts = 0;
    while fs::metadata(out.path())?.len() == 0 {
        if let Some(ended) = strace.try_wait()? {
            let mut said = String::new();
            strace.stderr.take().map(|mut e| e.read_to_string(&mut said)).transpose()?;
            hsm_sim::skip(format_args!("fsyncs are not counted: strace {ended}: {}", said.trim()));
            return Ok(());
        }
        attempts += 1;
        let made = service.sign("demo/app0", digest, &format!("attach{attempts}"));
        anyhow::ensure!(made.code == 0 && attempts < 20, "{made:?}");
    }
    let count =
        || fs::read_to_string(out.path()).unwrap_or_default().lines().filter(|l| l.contains("sync(")).count();
    let (before, signed) = (count(), log_size(service)?);
    const REQUESTS: usize = 10;
    ask(service, digest, 1, REQUESTS)?;
    let made = (log_size(service)? - signed) / 2;
    println!(
        "fsync and fdatasync, one client: {:.1} a signature, {:.1} a request",
        (count() - before) as f64 / made as f64,
        (count() - before) as f64 / REQUESTS as f64
    );
    let _ = strace.kill();
    let _ = strace.wait();
    Ok(())
}
