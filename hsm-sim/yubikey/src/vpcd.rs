//! The wire between a card and vsmartcard's reader driver in pcscd. The driver is the TCP server; a connection is a card.
//!
//! A frame is a length of two bytes, most significant first, and so many bytes. One byte is an order of the reader: 0
//! power off, 1 power on, 2 reset, 4 tell the ATR. Anything longer is an APDU. Only ATR and APDU are answered.

use rustix::net::sockopt::set_tcp_quickack;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// The shortest ATR there is.
const BLANK_ATR: [u8; 2] = [0x3b, 0];
/// "No precise diagnosis": a client that gets this does not take the card for an old YubiKey.
const BLANK_SW: [u8; 2] = [0x6f, 0];

/// What the reader wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Power off, or a reset: either ends the session.
    Reset,
    PowerOn,
    Atr,
    Apdu(Vec<u8>),
    /// Nothing known; it is not answered.
    Unknown,
}

/// Plays a card that knows nothing, until the reader goes away. It fills the slot beside a YubiKey: `ykman` 5 waits three
/// seconds for a card in every empty one that bears a YubiKey's name.
pub fn play_blank(reader: SocketAddr) -> io::Result<()> {
    let mut link = TcpStream::connect(reader)?;
    while let Some(order) = receive_at_once(&mut link)? {
        match order {
            Order::Atr => send(&mut link, &BLANK_ATR)?,
            Order::Apdu(_) => send(&mut link, &BLANK_SW)?,
            Order::Reset | Order::PowerOn | Order::Unknown => {}
        }
    }
    Ok(())
}

/// [`receive`], without the 40 ms that the driver would wait: it sends length and payload apart and holds the second back
/// until the first is acknowledged. The kernel forgets the wish, so it is told before each order.
pub(crate) fn receive_at_once(link: &mut TcpStream) -> io::Result<Option<Order>> {
    set_tcp_quickack(&*link, true)?;
    receive(link)
}

/// The next order; `None` when the reader went away.
fn receive(from: &mut impl Read) -> io::Result<Option<Order>> {
    let mut length = [0; 2];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut payload = vec![0; usize::from(u16::from_be_bytes(length))];
    from.read_exact(&mut payload)?;
    Ok(Some(match payload.as_slice() {
        [0 | 2] => Order::Reset,
        [1] => Order::PowerOn,
        [4] => Order::Atr,
        [] | [_] => Order::Unknown,
        _ => Order::Apdu(payload),
    }))
}

pub(crate) fn send(to: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    let length =
        u16::try_from(payload.len()).map_err(|_| io::Error::other("no frame has room for this reply"))?;
    to.write_all(&[&length.to_be_bytes(), payload].concat())
}

#[cfg(test)]
mod tests {
    use super::{Order, receive, send};

    #[test]
    fn orders_and_apdus_are_told_apart_by_their_length() {
        let mut wire = &[0, 1, 0, 0, 1, 1, 0, 1, 2, 0, 1, 4, 0, 1, 9, 0, 2, 0, 0xa4][..];
        let apdu = Order::Apdu(vec![0, 0xa4]);
        for expected in [Order::Reset, Order::PowerOn, Order::Reset, Order::Atr, Order::Unknown, apdu] {
            assert_eq!(receive(&mut wire).unwrap(), Some(expected));
        }
        assert_eq!(receive(&mut wire).unwrap(), None);
        assert!(receive(&mut &[0, 2, 0][..]).is_err());
    }

    #[test]
    fn a_reply_has_its_length_before_it() {
        let mut wire = Vec::new();
        send(&mut wire, &[0x90, 0]).unwrap();
        assert_eq!(wire, [0, 2, 0x90, 0]);
        assert!(send(&mut wire, &[0; 65536]).is_err());
    }
}
