//! Kryoptic: one slot over one SQLite file. It keeps that file open, so that nothing can be taken away from under it.

use super::{
    Module,
    provisioned::{Device, Place, Raw},
};
use crate::{
    Error,
    files::write_private,
    tools::{cached, cached_version},
};
use std::path::{Path, PathBuf};

pub(super) fn library() -> PathBuf {
    cached("kryoptic/libkryoptic_pkcs11.so")
}

pub(super) fn version() -> Result<String, Error> {
    cached_version("kryoptic")
}

pub(super) fn make(dir: &Path, label: &str) -> Result<Raw, Error> {
    let place = Place::make(dir, label)?;
    let (conf, store) = (place.dir.join("kryoptic.conf"), place.dir.join("token.sql"));
    let text = format!("[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", store.display());
    write_private(&conf, &text)?;
    let env = vec![("KRYOPTIC_CONF".to_owned(), conf.to_string_lossy().into_owned())];
    place.initialise(&library(), &env, label)?;
    Ok(place.raw(Module::Kryoptic, label, env, Device::Files))
}
