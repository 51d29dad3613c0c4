//! Attributes of keys as the control folder shows them: `CKA_ALWAYS_AUTHENTICATE`, and `CKA_EC_POINT` as some tokens
//! give it. Only with a control folder.

use crate::{
    control::{Call, Token},
    forwarder::{Forwarder, Refusal, enter},
    operations::hex,
    real::call,
};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_TRUE, CK_ULONG,
    CK_UNAVAILABLE_INFORMATION, CKA_ALWAYS_AUTHENTICATE, CKA_EC_POINT, CKR_ARGUMENTS_BAD,
    CKR_BUFFER_TOO_SMALL, CKR_OK,
};
use std::slice;

/// P-521's point has 133 bytes, and DER adds three.
const MAX_POINT_BYTES: usize = 512;
const OCTET_STRING: u8 = 0x04;

pub(super) unsafe extern "C" fn attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    enter("C_GetAttributeValue", |forwarder| {
        forwarder.guarded(&Call::in_session("C_GetAttributeValue", session), || {
            if template.is_null() {
                return Ok(CKR_ARGUMENTS_BAD);
            }
            let length = usize::try_from(count).map_err(|_| Refusal::Length { bytes: count })?;
            // SAFETY: not null; the caller gives `count` attributes, its own during the call.
            let attributes = unsafe { slice::from_raw_parts_mut(template, length) };
            read(forwarder, session, object, attributes)
        })
    })
}

fn read(
    forwarder: &Forwarder,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    attributes: &mut [CK_ATTRIBUTE],
) -> Result<CK_RV, Refusal> {
    let token = forwarder.view()?.map(|view| view.token).unwrap_or_default();
    let _pass = forwarder.pass();
    let ask = |attributes: &mut [CK_ATTRIBUTE]| {
        let count = attributes.len() as CK_ULONG;
        // SAFETY: as many attributes as announced; their values are the caller's, or a `Point`'s, alive meanwhile.
        unsafe { call!(forwarder.real, C_GetAttributeValue(session, object, attributes.as_mut_ptr(), count)) }
    };
    let rv = if token.raw_ec_point { ask_for_raw_point(attributes, ask) } else { ask(attributes) };
    if attributes.iter().any(|attribute| attribute.type_ == CKA_ALWAYS_AUTHENTICATE) {
        let key = forwarder.real.key_id(session, object).map(|id| hex(&id)).unwrap_or_default();
        show_always_authenticate(&token, &key, attributes);
    }
    Ok(rv)
}

/// A key that has the attribute at all shows it as true.
fn show_always_authenticate(token: &Token, key: &str, attributes: &[CK_ATTRIBUTE]) {
    if !token.wants_login_for(key) {
        return;
    }
    let shown = |attribute: &&CK_ATTRIBUTE| {
        attribute.type_ == CKA_ALWAYS_AUTHENTICATE && attribute.ulValueLen == 1 && !attribute.pValue.is_null()
    };
    for attribute in attributes.iter().filter(shown) {
        // SAFETY: the module just wrote one byte there.
        unsafe { *attribute.pValue.cast::<CK_BYTE>() = CK_TRUE };
    }
}

/// The real value goes to a place of our own: it is longer than the caller's needs to be.
struct Point {
    index: usize,
    asked: CK_ATTRIBUTE,
    der: Vec<u8>,
}

fn ask_for_raw_point(
    attributes: &mut [CK_ATTRIBUTE],
    ask: impl FnOnce(&mut [CK_ATTRIBUTE]) -> CK_RV,
) -> CK_RV {
    let is_point = |(_, attribute): &(usize, &mut CK_ATTRIBUTE)| attribute.type_ == CKA_EC_POINT;
    let redirect = |(index, attribute): (usize, &mut CK_ATTRIBUTE)| {
        let mut point = Point { index, asked: *attribute, der: vec![0; MAX_POINT_BYTES] };
        attribute.pValue = point.der.as_mut_ptr().cast();
        attribute.ulValueLen = MAX_POINT_BYTES as CK_ULONG;
        point
    };
    let points: Vec<Point> = attributes.iter_mut().enumerate().filter(is_point).map(redirect).collect();
    let mut rv = ask(attributes);
    for point in points {
        let Some(attribute) = attributes.get_mut(point.index) else { continue };
        let given = point.give(attribute.ulValueLen, attribute);
        if rv == CKR_OK {
            rv = given;
        }
    }
    rv
}

impl Point {
    /// Puts the point to where the caller asked for it, as PKCS#11 does: its length alone if there is no place.
    fn give(self, length: CK_ULONG, attribute: &mut CK_ATTRIBUTE) -> CK_RV {
        attribute.pValue = self.asked.pValue;
        let der = usize::try_from(length).ok().and_then(|length| self.der.get(..length));
        let Some(raw) = der.map(without_octet_string) else { return CKR_OK };
        attribute.ulValueLen = raw.len() as CK_ULONG;
        if attribute.pValue.is_null() {
            return CKR_OK;
        }
        if self.asked.ulValueLen < attribute.ulValueLen {
            attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: the caller's place has room for as many bytes, and is not ours.
        unsafe { raw.as_ptr().copy_to_nonoverlapping(attribute.pValue.cast(), raw.len()) };
        CKR_OK
    }
}

/// The content of a DER OCTET STRING; anything else as it is.
fn without_octet_string(der: &[u8]) -> &[u8] {
    let content = match der {
        [OCTET_STRING, length @ ..=0x7f, content @ ..] if usize::from(*length) == content.len() => {
            Some(content)
        }
        [OCTET_STRING, 0x81, length, content @ ..] if usize::from(*length) == content.len() => Some(content),
        _ => None,
    };
    content.unwrap_or(der)
}

#[cfg(test)]
mod tests {
    use super::without_octet_string;

    #[test]
    fn only_a_whole_octet_string_is_opened() {
        for (der, raw) in [
            ([&[4, 65, 4], [7; 64].as_slice()].concat(), [&[4], [7; 64].as_slice()].concat()),
            ([&[4, 0x81, 133], [4; 133].as_slice()].concat(), vec![4; 133]),
            (vec![4; 65], vec![4; 65]),
            (vec![], vec![]),
        ] {
            assert_eq!(without_octet_string(&der), raw);
        }
    }
}
