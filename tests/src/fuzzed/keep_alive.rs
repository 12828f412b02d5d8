//! The `Keep-Alive` field: any value is read without fault, and adding parameters never lengthens what was announced.

use persist_core::KeepAlive;

/// Reads the input as a value, and with parameters appended.
///
/// # Panics
/// If a second, equal line changes anything, or a smaller parameter does not win.
pub fn keep_alive(data: &[u8]) {
    let announced = KeepAlive::parse(data);
    let twice = [data, b",", data].concat();
    assert_eq!(KeepAlive::parse(&twice), announced, "the same line twice");
    let with_zero = KeepAlive::parse(&[data, b", timeout=0, max=0"].concat());
    let no_time = with_zero.timeout.is_some_and(|timeout| timeout.is_zero());
    assert!(no_time && with_zero.max == Some(0), "the smaller of two values counts: {with_zero:?}");
    if !data.contains(&b'=') {
        assert_eq!(announced, KeepAlive::default(), "no parameter, no announcement");
    }
}
