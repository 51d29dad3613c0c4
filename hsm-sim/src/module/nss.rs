//! NSS softokn: a database made by `certutil`, named in the text that the forwarder hands to the module.

use super::{
    Module,
    provisioned::{Device, Place, Raw},
};
use crate::{
    Error,
    tools::{cached, cached_version, multiarch, run},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const FOLDER: &str = "nss";

pub(super) fn library() -> PathBuf {
    libraries().join("libsoftokn3.so")
}

pub(super) fn version() -> Result<String, Error> {
    cached_version(FOLDER)
}

fn libraries() -> PathBuf {
    cached(FOLDER).join("usr/lib").join(multiarch())
}

pub(super) fn make(dir: &Path, label: &str) -> Result<Raw, Error> {
    let place = Place::make(dir, label)?;
    let database = place.dir.join("db");
    fs::create_dir(&database).map_err(Error::file("make the folder", &database))?;
    let database = format!("sql:{}", database.display());
    let path = ("LD_LIBRARY_PATH".to_owned(), libraries().to_string_lossy().into_owned());
    let mut certutil = Command::new(cached(FOLDER).join("usr/bin/certutil"));
    certutil.args(["-N", "-d", &database, "-f"]).arg(&place.pin_file).envs([path.clone()]);
    run(&mut certutil)?;
    let arguments = format!(
        "configDir='{database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=passwordRequired \
         dbTokenDescription='{label}'"
    );
    let env = vec![path, ("HSM_SIM_INIT_ARGS".to_owned(), arguments)];
    Ok(place.raw(Module::NssSoftokn, label, env, Device::Files))
}
