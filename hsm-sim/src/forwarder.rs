//! Where the built forwarding module lies. Cargo puts it beside the executables of the same profile.

use crate::Error;
use std::{
    env,
    path::{Path, PathBuf},
};

const FILE: &str = "libhsm_sim_pkcs11.so";
/// An executable lies in the profile's folder, or one below it (`deps`, `examples`).
const LEVELS: usize = 2;

/// The PKCS#11 module that forwards to `HSM_SIM_MODULE` and journals into `HSM_SIM_JOURNAL`: what `HSM_SIM_PKCS11`
/// names, else the newest one that was built for the profile of the running executable.
pub fn forwarder() -> Result<PathBuf, Error> {
    if let Some(named) = env::var_os("HSM_SIM_PKCS11") {
        return newest(&[PathBuf::from(named)]);
    }
    let executable =
        env::current_exe().map_err(Error::file("find the running executable", "/proc/self/exe"))?;
    newest(&places_beside(&executable))
}

fn places_beside(executable: &Path) -> Vec<PathBuf> {
    executable
        .ancestors()
        .skip(1)
        .take(LEVELS)
        .flat_map(|folder| [folder.join(FILE), folder.join("deps").join(FILE)])
        .collect()
}

/// `cargo build` leaves a link in the profile's folder that a later `cargo test` does not renew: the newest is current.
fn newest(places: &[PathBuf]) -> Result<PathBuf, Error> {
    let built = |path: &&PathBuf| path.metadata().and_then(|found| found.modified()).ok();
    places.iter().filter(|path| path.is_file()).max_by_key(built).cloned().ok_or_else(|| Error::Forwarder {
        tried: places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::{FILE, newest, places_beside};
    use crate::Error;
    use std::{
        fs::{self, File},
        path::Path,
        time::{Duration, SystemTime},
    };

    #[test]
    fn tests_binaries_and_examples_of_a_profile_all_look_into_its_two_folders() {
        for executable in ["/t/debug/deps/x-1", "/t/debug/chancery", "/t/debug/examples/x"] {
            let places = places_beside(Path::new(executable));
            for place in ["/t/debug", "/t/debug/deps"] {
                assert!(places.contains(&Path::new(place).join(FILE)), "{executable}: {places:?}");
            }
        }
    }

    #[test]
    fn the_newest_build_wins() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("deps")).unwrap();
        let (old, new) = (dir.path().join(FILE), dir.path().join("deps").join(FILE));
        for (path, seconds) in [(&old, 1), (&new, 2)] {
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::create(path).unwrap().set_modified(modified).unwrap();
        }
        assert_eq!(newest(&[old.clone(), new.clone()]).unwrap(), new);
        assert_eq!(newest(&[new.clone(), old]).unwrap(), new);
    }

    #[test]
    fn an_unbuilt_module_says_how_to_build_it() {
        let error = newest(&[Path::new("/no/such").join(FILE)]).unwrap_err();
        assert!(matches!(error, Error::Forwarder { .. }));
        assert!(error.to_string().contains("cargo build -p hsm-sim-pkcs11"), "{error}");
    }
}
