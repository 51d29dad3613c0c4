//! A virtual YubiKey in a reader of its own: under Yubico's module, under OpenSC's, or alone.

use super::{
    Module, PublicKey,
    provisioned::{Device, Raw},
};
use crate::{
    Error,
    files::{check_label, make_folder, write_private},
    tools::run,
};
use hsm_sim_yubikey::{
    Operation, Pcscd, PinPolicy, Profile, SOCKET_VARIABLE, Slot, TouchPolicy, VirtualYubiKey, YubiKeyJournal,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Each card is alone in its pcscd, and may have the number of any other.
const SERIAL: u32 = 5_430_001;
/// A card's PIN from the factory.
const PIN: &str = "123456";

/// A slot of the card: its number, and the `CKA_ID` that both modules give its key.
type Place = (u8, &'static str);

/// The slots that keys are put in, in this order; none for a token that is no card.
pub(super) fn slots(module: Module) -> Option<&'static [Place]> {
    const ALL: [Place; 4] = [(0x9a, "01"), (0x9c, "02"), (0x9d, "03"), (0x82, "05")];
    match module {
        // OpenSC does not let the others sign.
        Module::OpenSc => Some(&[(0x9a, "01"), (0x9c, "02")]),
        Module::Ykcs11 | Module::Piv => Some(&ALL),
        _ => None,
    }
}

/// A card in a reader. Fields are dropped in their order.
#[derive(Debug)]
pub(super) struct Card {
    card: VirtualYubiKey,
    _pcscd: Pcscd,
    journal: PathBuf,
    keys: Vec<PublicKey>,
}

pub(super) fn make(module: Module, dir: &Path, label: &str, keys: usize) -> Result<Raw, Error> {
    check_label(label)?;
    let dir = make_folder(dir)?;
    let pin_file = dir.join("pin");
    write_private(&pin_file, PIN)?;
    let keys = if module == Module::OpenSc { keys.max(1) } else { keys };
    let places: Vec<Place> = slots(module).unwrap_or_default().iter().copied().take(keys).collect();
    let mut card = Card::insert_new(module, &dir, &places)?;
    let socket = dir.join("pcscd.comm").to_string_lossy().into_owned();
    let env = vec![(SOCKET_VARIABLE.to_owned(), socket)];
    if module == Module::OpenSc {
        card.certify(&dir, &env, label, &places)?;
    }
    if module == Module::Piv {
        for (key, (slot, _)) in card.keys.iter_mut().zip(&places) {
            key.place = format!("{slot:02x}");
        }
    }
    let label = match module {
        Module::Ykcs11 => format!("YubiKey PIV #{SERIAL}"),
        _ => label.to_owned(),
    };
    Ok(Raw { module, dir, label, env, pin_file, so_pin_file: None, device: Device::Card(Box::new(card)) })
}

impl Card {
    fn insert_new(module: Module, dir: &Path, places: &[Place]) -> Result<Self, Error> {
        // Debian's modules know the management key of this profile only.
        let profile = if module == Module::Piv { Profile::V5_7_4 } else { Profile::V5_4_3 };
        let pcscd = Pcscd::start(dir, 1)?;
        let reader =
            pcscd.vpcd(0).ok_or(Error::NotInTime { device: "pcscd", what: "give a reader", waited_s: 0 })?;
        let journal = dir.join("journal");
        let mut card =
            VirtualYubiKey::builder().profile(profile).serial(SERIAL).reader(reader).journal(&journal);
        for (number, _) in places {
            let slot = slot(*number)?;
            // As a real card has them when nobody says otherwise.
            let pin = if slot == Slot::SIGNATURE { PinPolicy::Always } else { PinPolicy::Once };
            card = card.key(slot, pin, TouchPolicy::Never);
        }
        let card = card.insert()?;
        let key = |(number, id): &Place| {
            let spki = card.public_key(slot(*number)?).unwrap_or_default().to_vec();
            Ok(PublicKey { place: (*id).to_owned(), spki })
        };
        let keys = places.iter().map(key).collect::<Result<_, Error>>()?;
        Ok(Self { card, _pcscd: pcscd, journal, keys })
    }

    /// OpenSC shows no key without a certificate, takes the token's label from the first one, and its serial number from
    /// the CHUID.
    fn certify(
        &self,
        dir: &Path,
        env: &[(String, String)],
        label: &str,
        places: &[Place],
    ) -> Result<(), Error> {
        let tool = || {
            let mut tool = Command::new("yubico-piv-tool");
            tool.args(["--reader", "Yubico"]).envs(env.iter().cloned());
            tool
        };
        run(tool().args(["--action", "set-chuid"]))?;
        // Of any issuer: the tool does not get the card's keys to sign their own (yubico-piv-tool 2.2, OpenSSL 3).
        let issuer = dir.join("issuer.key");
        let mut openssl = Command::new("openssl");
        openssl
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
            .arg(&issuer);
        run(&mut openssl)?;
        for (key, (slot, _)) in self.keys.iter().zip(places) {
            let file = |kind: &str| dir.join(format!("{slot:02x}.{kind}"));
            let (public, certificate) = (file("der"), file("crt"));
            fs::write(&public, &key.spki).map_err(Error::file("write the public key", &public))?;
            let mut openssl = Command::new("openssl");
            openssl.args(["x509", "-new", "-subj", &format!("/CN={label}"), "-key"]).arg(&issuer);
            openssl.arg("-force_pubkey").arg(&public).arg("-out").arg(&certificate);
            run(&mut openssl)?;
            let slot = format!("{slot:02x}");
            run(tool()
                .args(["--action", "import-certificate", "--slot", &slot, "--input"])
                .arg(&certificate))?;
        }
        Ok(())
    }

    pub(super) fn serial(&self) -> u32 {
        self.card.serial()
    }

    pub(super) fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// What it signed, in order, without its attestations.
    pub(super) fn inputs(&self) -> Result<Vec<Vec<u8>>, Error> {
        let entries = YubiKeyJournal::read(&self.journal)?.into_iter();
        let signatures = entries.filter(|entry| entry.signed.operation == Operation::Sign);
        Ok(signatures.map(|entry| entry.signed.input.unwrap_or_default()).collect())
    }

    pub(super) fn pull(&self) -> Result<(), Error> {
        Ok(self.card.remove()?)
    }

    pub(super) fn pull_in_the_act(&self) {
        self.card.remove_during_next_op(None, false);
    }

    pub(super) fn insert(&self) -> Result<(), Error> {
        Ok(self.card.insert()?)
    }
}

fn slot(number: u8) -> Result<Slot, Error> {
    Slot::new(number).ok_or(Error::NoSlot { number })
}
