//! A real registry (Debian's docker-registry) on loopback, and images in it.

use crate::wait_for;
use record::Digest;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running registry.
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts one that keeps its files in `folder`.
    pub fn start(folder: &Path, port: u16) -> Self {
        fs::create_dir_all(folder).unwrap();
        let config = folder.join("config.yml");
        let data = folder.join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_for("the registry to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { child, port }
    }

    /// Its name in image references.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Pushes an image manifest whose only content is `text`; the registry's API is spoken directly.
    pub fn push(&self, repository: &str, tag: &str, text: &str) -> Digest {
        let config = format!("{{\"text\":\"{text}\"}}");
        let blob = Digest::of(config.as_bytes());
        let location = self.call("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"").1;
        let location = location
            .split_once(&self.port.to_string())
            .map_or(location.as_str(), |(_, path)| path)
            .to_owned();
        let joint = if location.contains('?') { '&' } else { '?' };
        let put = format!("{location}{joint}digest={blob}");
        assert_eq!(self.call("PUT", &put, "application/octet-stream", config.as_bytes()).0, 201);
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{blob}\",\"size\":{}}},\"layers\":[]}}",
            config.len()
        );
        let path = format!("/v2/{repository}/manifests/{tag}");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        assert_eq!(self.call("PUT", &path, kind, manifest.as_bytes()).0, 201);
        Digest::of(manifest.as_bytes())
    }

    /// One HTTP/1.1 call: status and `Location`.
    fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.host(),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let location =
            answer.lines().find_map(|l| l.strip_prefix("Location: ")).unwrap_or_default().trim().to_owned();
        (status, location)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
