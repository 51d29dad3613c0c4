//! SoftHSM: the folder with its tokens is what can be taken away.

use super::{
    Module,
    provisioned::{Device, Raw},
};
use crate::{Error, SoftHsm};
use std::path::Path;

pub(super) fn make(dir: &Path, label: &str) -> Result<Raw, Error> {
    let token = SoftHsm::create(dir, label)?;
    let dir = token.conf().parent().unwrap_or(dir).to_owned();
    Ok(Raw {
        module: Module::SoftHsm,
        dir,
        label: label.to_owned(),
        env: token.env(),
        pin_file: token.pin_file().to_owned(),
        so_pin_file: Some(token.so_pin_file().to_owned()),
        device: Device::Folder(token.store()),
    })
}
