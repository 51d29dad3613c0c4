//! One signature with everything that clients get of it.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::{Instance, wait_for};

/// A signature of a service that has stopped since, as its users' clients get it.
pub(crate) struct Case {
    folder: tempfile::TempDir,
    pub(crate) bundle: Value,
    pub(crate) legacy: Value,
    pub(crate) trusted_root: Value,
}

impl Case {
    /// Signs an image, and takes what `chancery log` writes for the signature over its targets; and the same of a second
    /// service, whose log has the same name.
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let case = |name: &str| folder.path().join(name);
        for other in ["", "other."] {
            let service = Instance::start();
            let digest = service.registry.push("demo/app", "v1", "hello");
            let (answer, request) = service.sign_within("demo/app", &digest, "v1", "60s");
            assert_eq!(answer.code, 0, "{answer:?}");
            wait_for("the whole log to be published", || {
                (service.history().leaves().len() as u64 == service.committed()).then_some(())
            });
            let keys = PathBuf::from(&service.env()["CHANCERY_PUBKEYS"]);
            for key in ["targets.pub.pem", "snapshot.pub.pem", "set.pub.pem", "trusted_root.json"] {
                fs::copy(keys.join(key), case(&format!("{other}{key}"))).unwrap();
            }
            let file = |name: &str| case(&format!("{other}{name}"));
            let proved = service.chancery_as(
                "CHANCERY_AUDITOR_TOKEN",
                &[
                    &["log", "prove", request.as_deref().unwrap()][..],
                    &["--sigstore-bundle", text(&file("bundle.json")), "--payload", text(&file("blob"))],
                    &[
                        "--legacy-bundle",
                        text(&file("legacy.json")),
                        "--set-key",
                        text(&keys.join("set.pub.pem")),
                    ],
                ]
                .concat(),
            );
            assert_eq!(proved.code, 0, "{proved:?}");
        }
        let read = |name: &str| serde_json::from_slice(&fs::read(case(name)).unwrap()).unwrap();
        let (bundle, legacy, trusted_root) =
            (read("bundle.json"), read("legacy.json"), read("trusted_root.json"));
        Self { folder, bundle, legacy, trusted_root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    pub(crate) fn write(&self, name: &str, document: &Value) -> PathBuf {
        fs::write(self.path(name), document.to_string()).unwrap();
        self.path(name)
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
