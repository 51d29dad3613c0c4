//! A server that speaks S3's protocol and checks its callers' signatures: moto, from PyPI, where tests/setup.sh could get it.

use crate::{Output, free_port, instance::signal, wait_for};
use rustix::process::Signal;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    net::TcpStream,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Calls that need no right: as many as there may be until the bucket and its only user are made, when it becomes 0.
const SETUP_CALLS: &str = "1000000";
/// What signs the calls of the set-up.
const ANYBODY: (&str, &str) = ("anybody", "anything");

/// The server, one bucket in it, and the one user who may do everything there. All of it is in memory.
pub struct S3 {
    port: u16,
    process: Child,
    user: (String, String),
}

impl S3 {
    /// The bucket's name.
    pub const BUCKET: &str = "logs";

    /// A server on a port that is free. None where it is not installed, which is said.
    pub fn start(folder: &Path) -> Option<Self> {
        Self::start_at(folder, free_port())
    }

    /// The same at a port, anew and empty.
    pub fn start_at(folder: &Path, port: u16) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/moto/bin/moto_server");
        if !program.is_file() {
            hsm_sim::skip("moto is not installed: tests/setup.sh modules says why");
            return None;
        }
        let said = File::create(folder.join("s3.log")).unwrap();
        let mut process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("INITIAL_NO_AUTH_ACTION_COUNT", SETUP_CALLS)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        wait_for("moto to serve", || {
            assert!(process.try_wait().unwrap().is_none(), "moto ended: see {}", folder.display());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let mut server = Self { port, process, user: (String::new(), String::new()) };
        server.set_up();
        Some(server)
    }

    fn set_up(&mut self) {
        let anybody = (ANYBODY.0.to_owned(), ANYBODY.1.to_owned());
        let made = self.call(&anybody, "s3", &["-X", "PUT"], Self::BUCKET);
        assert!(made.stdout.ends_with("\n200"), "{made:?}");
        let policy =
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        let policy = format!("PolicyDocument={policy}");
        let iam = |args: &[&str]| {
            let data = args.iter().flat_map(|arg| ["--data-urlencode", arg]);
            let all: Vec<_> = data.chain(["--data-urlencode", "Version=2010-05-08"]).collect();
            let done = self.call(&anybody, "iam", &all, "");
            assert!(done.stdout.ends_with("\n200"), "{done:?}");
            done.stdout
        };
        iam(&["Action=CreateUser", "UserName=mirror"]);
        iam(&["Action=PutUserPolicy", "UserName=mirror", "PolicyName=all", &policy]);
        let key = iam(&["Action=CreateAccessKey", "UserName=mirror"]);
        let member = |name: &str| {
            let (_, rest) = key.split_once(&format!("<{name}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        self.user = (member("AccessKeyId"), member("SecretAccessKey"));
        let closed = self.call(
            &anybody,
            "s3",
            &["-H", "Content-Type: text/plain", "--data", "0"],
            "moto-api/reset-auth",
        );
        assert!(closed.stdout.ends_with("\n200"), "{closed:?}");
    }

    /// One signed call by curl; the status is the last line.
    fn call(&self, user: &(String, String), service: &str, args: &[&str], path: &str) -> Output {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "--max-time",
            "20",
            "-w",
            "\n%{http_code}",
            "--user",
            &format!("{}:{}", user.0, user.1),
        ]);
        curl.args(["--aws-sigv4", &format!("aws:amz:us-east-1:{service}")]).args(args);
        if service == "s3" {
            // S3 wants the hash of the body, which is empty where it is checked; curl has it from a newer version on.
            curl.args(["-H", &format!("x-amz-content-sha256: {}", record::Sha256::of(b""))]);
        }
        Output::of(curl.arg(format!("http://127.0.0.1:{}/{path}", self.port)))
    }

    /// Where it is.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What no output may show.
    pub fn secret(&self) -> &str {
        &self.user.1
    }

    /// Writes a file of credentials, mode 0600, with this secret.
    pub fn write_credentials(&self, path: &Path, secret: &str) {
        // Nobody reads half of it.
        let new = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
        writeln!(file, "access_key_id = {:?}\nsecret_access_key = {secret:?}", self.user.0).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// An object with the head of the answer; `None` if there is none.
    pub fn object(&self, key: &str) -> Option<(String, Vec<u8>)> {
        let head = tempfile::NamedTempFile::new().unwrap();
        let body = tempfile::NamedTempFile::new().unwrap();
        let args = ["-D", head.path().to_str().unwrap(), "-o", body.path().to_str().unwrap()];
        let done = self.call(&self.user, "s3", &args, &format!("{}/{key}", Self::BUCKET));
        let found = done.stdout.ends_with("\n200");
        found.then(|| {
            (fs::read_to_string(head.path()).unwrap().to_lowercase(), fs::read(body.path()).unwrap())
        })
    }

    /// Downloads everything below a prefix into a folder: first the file with this name, then what is listed.
    pub fn download(&self, prefix: &str, first: &str, folder: &Path) {
        let take = |path: &str| {
            let Some((_, bytes)) = self.object(&format!("{prefix}/{path}")) else { return };
            let file: PathBuf = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        };
        take(first);
        let encoded = format!("{prefix}/").replace('/', "%2F");
        let query = format!("{}?list-type=2&prefix={encoded}", Self::BUCKET);
        let listed = self.call(&self.user, "s3", &[], &query);
        assert!(listed.stdout.ends_with("\n200"), "{listed:?}");
        let keys = listed.stdout.split("<Key>").skip(1).filter_map(|rest| rest.split_once('<'));
        let paths = keys.filter_map(|(key, _)| key.strip_prefix(prefix)?.strip_prefix('/'));
        paths.filter(|path| *path != first).for_each(take);
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // One that has ended by itself needs no signal.
        let _ended = signal(Signal::KILL, self.process.id());
        let _status = self.process.wait();
    }
}
