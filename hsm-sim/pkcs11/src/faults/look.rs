//! What a token says of itself, changed as the control folder says.

use super::Faults;
use crate::{
    control::{PinFlag, View},
    forwarder::{Forwarder, Refusal},
};
use cryptoki_sys::{
    CK_FLAGS, CK_SLOT_ID, CK_SLOT_INFO, CK_TOKEN_INFO, CKF_PROTECTED_AUTHENTICATION_PATH, CKF_TOKEN_PRESENT,
    CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED, CKF_USER_PIN_TO_BE_CHANGED,
};

const PIN_FLAGS: CK_FLAGS =
    CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED | CKF_USER_PIN_TO_BE_CHANGED;

impl Forwarder {
    /// The token's view, if there is a control folder.
    pub(crate) fn view(&self) -> Result<Option<View>, Refusal> {
        Ok(self.faults.as_ref().map(|faults| faults.control.view()).transpose()?)
    }

    /// The real slot that the caller means.
    pub(crate) fn real_slot(&self, slot: CK_SLOT_ID) -> Result<CK_SLOT_ID, Refusal> {
        Ok(self.view()?.map_or(slot, |view| slot.wrapping_sub(view.token.slot_offset)))
    }

    /// What the caller sees of a real slot.
    pub(crate) fn visible_slot(&self, slot: CK_SLOT_ID) -> Result<CK_SLOT_ID, Refusal> {
        Ok(self.view()?.map_or(slot, |view| slot.wrapping_add(view.token.slot_offset)))
    }

    /// Changes the real token's answer.
    pub(crate) fn change_token_info(&self, info: &mut CK_TOKEN_INFO) -> Result<(), Refusal> {
        if let (Some(view), Some(faults)) = (self.view()?, &self.faults) {
            view.change_token_info(info, faults);
        }
        Ok(())
    }

    /// Changes the real slot's answer.
    pub(crate) fn change_slot_info(&self, info: &mut CK_SLOT_INFO) -> Result<(), Refusal> {
        if self.view()?.is_some_and(|view| view.removed) {
            info.flags &= !CKF_TOKEN_PRESENT;
        }
        Ok(())
    }
}

impl View {
    fn change_token_info(&self, info: &mut CK_TOKEN_INFO, faults: &Faults) {
        if let Some(serial) = &self.token.serial {
            fill(&mut info.serialNumber, serial);
        }
        if let Some(label) = &self.token.label {
            fill(&mut info.label, label);
        }
        if let Some(max) = self.token.max_sessions {
            (info.ulMaxSessionCount, info.ulMaxRwSessionCount) = (max, max);
            info.ulSessionCount = faults.sessions.count();
        }
        if self.token.protected_authentication_path.is_some() {
            info.flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
        }
        if let Some(flags) = self.pin_flags() {
            info.flags = (info.flags & !PIN_FLAGS) | flags;
        }
    }

    /// Those that are set outright, else those of the counter.
    fn pin_flags(&self) -> Option<CK_FLAGS> {
        if let Some(flags) = &self.token.pin_flags {
            return Some(flags.iter().map(|flag| number(*flag)).fold(0, |all, flag| all | flag));
        }
        let (tries, left) = (self.token.pin_tries?, self.pin_tries_left?);
        let low = if left < tries { CKF_USER_PIN_COUNT_LOW } else { 0 };
        Some(match left {
            0 => low | CKF_USER_PIN_LOCKED,
            1 => low | CKF_USER_PIN_FINAL_TRY,
            _ => low,
        })
    }
}

fn number(flag: PinFlag) -> CK_FLAGS {
    match flag {
        PinFlag::CountLow => CKF_USER_PIN_COUNT_LOW,
        PinFlag::FinalTry => CKF_USER_PIN_FINAL_TRY,
        PinFlag::Locked => CKF_USER_PIN_LOCKED,
        PinFlag::ToBeChanged => CKF_USER_PIN_TO_BE_CHANGED,
    }
}

/// PKCS#11's fields are padded with blanks.
fn fill(field: &mut [u8], text: &str) {
    field.fill(b' ');
    field.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
}
