//! A mirror in a bucket.

use super::site::Site;
use std::{fs, path::Path};
use tests::{DAEMON, S3, Settings, wait_for};
use tlog::Checkpoint;

const PREFIX: &str = "audit/log";

/// The table of the configuration.
fn table(server: &S3, credentials: &Path) -> String {
    format!(
        "[[mirror]]\nto = \"s3://{}/{PREFIX}\"\nentries = true\nevery_s = 1\nregion = \"us-east-1\"\n\
         endpoint = \"http://127.0.0.1:{}\"\ncredentials_file = {credentials:?}",
        S3::BUCKET,
        server.port()
    )
}

/// Waits until the bucket has everything that is signed now, and has both verifiers look at it; the size that it had.
fn is_followed(site: &Site, server: &S3) -> u64 {
    let size = site.service.noted().unwrap();
    let followed = wait_for("the bucket to follow", || {
        let (_, note) = server.object(&format!("{PREFIX}/checkpoint"))?;
        let checkpoint = Checkpoint::open(&String::from_utf8(note).unwrap(), &site.vkey()).unwrap();
        (checkpoint.size >= size).then_some(checkpoint.size)
    });
    let copy = tempfile::tempdir().unwrap();
    server.download(PREFIX, "checkpoint", copy.path());
    site.verifies(copy.path());
    followed
}

/// Everything that the service lets others see: its log, its word about itself, its processes.
fn shown(site: &Site) -> String {
    let log = fs::read_to_string(site.service.dir().parent().unwrap().join("dev.err")).unwrap();
    let keepers = site.service.http("CHANCERY_AUDITOR_TOKEN", "/v1/keepers", &[]).1;
    let process = format!("/proc/{}", site.service.pid(DAEMON));
    let of_process =
        ["environ", "cmdline"].map(|file| fs::read(format!("{process}/{file}")).unwrap_or_default());
    [log, keepers, site.alarms(), String::from_utf8_lossy(&of_process.concat()).into_owned()].concat()
}

#[test]
fn a_bucket_is_a_whole_log_for_whoever_may_read_it_and_its_secret_is_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut server) = S3::start(dir.path()) else { return };
    let credentials = dir.path().join("s3.toml");
    server.write_credentials(&credentials, server.secret());
    let Some(mut site) = Site::start(|_| table(&server, &credentials)) else { return };
    let size = is_followed(&site, &server);
    let (head, _) = server.object(&format!("{PREFIX}/checkpoint")).unwrap();
    for line in ["content-type: text/plain; charset=utf-8", "cache-control: no-cache"] {
        assert!(head.contains(line), "{head}");
    }
    let tile = server.object(&format!("{PREFIX}/tile/0/000.p/{size}")).unwrap();
    for line in
        ["content-type: application/octet-stream", "cache-control: private, max-age=31536000, immutable"]
    {
        assert!(tile.0.contains(line), "{}", tile.0);
    }
    assert!(!shown(&site).contains(server.secret()));

    assert_eq!(site.service.stop(), 0);
    server.write_credentials(&credentials, "another-secret-of-forty-characters-0000");
    site.service.resume(&Settings::default());
    let says = site.has_alarm("refuses");
    assert!(
        says.contains("403") && says.contains("credentials_file") && says.contains("entries behind"),
        "{says}"
    );
    assert!(!shown(&site).contains("another-secret"));
    site.sign("v2");
    server.write_credentials(&credentials, server.secret());
    is_followed(&site, &server);
    site.has_no_alarm();

    let port = server.port();
    drop(server);
    site.sign("v3");
    site.has_alarm(&format!("s3://{}/{PREFIX}", S3::BUCKET));
    // It comes back empty, with another user, whose credentials are taken without a restart.
    server = S3::start_at(dir.path(), port).unwrap();
    server.write_credentials(&credentials, server.secret());
    site.sign("v4");
    is_followed(&site, &server);
    site.has_no_alarm();
    assert!(!shown(&site).contains(server.secret()));
}
