//! What a signature costs: the raw token, then the whole service at 1, 16 and 64 clients, in one run on one machine; then
//! what a decision of policy and a large log cost. Judge by the ratio to the raw token; absolute figures say more about the
//! machine.

mod decision;
mod growth;
mod load;
mod process;
mod retention;
mod token;

use anyhow::Result;
use load::{load, log_size, prepare};
use process::cpu_seconds;
use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
};
use tests::{Instance, Settings, have};

/// Clients, and how many requests they make together.
const LEVELS: [(usize, usize); 3] = [(1, 60), (16, 480), (64, 960)];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["raw", ..] => token::raw(&args[1..]),
        ["policy"] => decision::decisions(),
        _ if !have("docker-registry") || !have("softhsm2-util") => Ok(()),
        [] => {
            signatures()?;
            decision::decisions()?;
            growth::growth()
        }
        ["signatures"] => signatures(),
        ["growth"] => growth::growth(),
        ["retention"] => retention::retention(),
        _ => anyhow::bail!("bench [signatures|policy|growth|retention]"),
    }
}

/// The cost of signatures in a log that has just begun.
fn signatures() -> Result<()> {
    let threads = thread::available_parallelism()?.get();
    let raw = token::raw_rate(threads)?;
    println!("raw C_Sign, P-256 in SoftHSM, {threads} threads: {raw:.0}/s");
    let service = Instance::with(&Settings { plain_token: true, ..Settings::default() });
    let digest = prepare(&service)?;
    println!(
        "clients  requests/s    p50 ms    p99 ms  signatures  requests/raw  CPU ms a signature: daemon, keepers"
    );
    for (clients, total) in LEVELS {
        level(&service, &digest, clients, total, raw)?;
    }
    fsyncs(&service, &digest)
}

/// One row: so many clients, each asking as soon as it has its answer.
fn level(service: &Instance, digest: &record::Digest, clients: usize, total: usize, raw: f64) -> Result<()> {
    let before = Usage::of(service)?;
    let made = load(service, digest, clients, total)?;
    let used = Usage::of(service)?.since(&before);
    println!(
        "{clients:>7}  {:>10.1}  {:>8.1}  {:>8.1}  {:>10}  {:>12.4}  {:.2}, {:.2}",
        made.rate,
        made.wait_ms(0.5),
        made.wait_ms(0.99),
        used.signatures,
        made.rate / raw,
        used.daemon_s * 1000.0 / used.signatures as f64,
        used.keepers_s * 1000.0 / used.signatures as f64,
    );
    Ok(())
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
    load(service, digest, 1, REQUESTS)?;
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
