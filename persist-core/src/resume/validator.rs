//! Strong validators: what proves that two parts are of the same content (RFC 9110 §8.8).

use alloc::vec::Vec;

use crate::field::FieldValue;

/// A strong validator, as it stood in its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Validator {
    ETag(Vec<u8>),
    LastModified(Vec<u8>),
}

impl Validator {
    /// The response's strong validator: its `ETag` unless weak, else its `Last-Modified` if that is strong.
    pub(super) fn strong<'f>(field: impl Fn(&str) -> Option<FieldValue<'f>>) -> Option<Self> {
        if let Some(tag) = field("ETag") {
            // RFC 9110 §13.1.5: with an entity tag at hand, a date is not used instead.
            return is_strong_tag(tag.as_bytes()).then(|| Self::ETag(tag.as_bytes().to_vec()));
        }
        let (modified, date) = (field("Last-Modified")?, field("Date")?);
        // RFC 9110 §8.8.2.2: strong if the response was made at least a second later, so that it cannot have changed again in the same second.
        let strong = parse_date(modified.as_bytes())? < parse_date(date.as_bytes())?;
        strong.then(|| Self::LastModified(modified.as_bytes().to_vec()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::ETag(value) | Self::LastModified(value) => value,
        }
    }

    /// Whether another response names the very same one.
    pub(super) fn confirmed_by<'f>(&self, field: impl Fn(&str) -> Option<FieldValue<'f>>) -> bool {
        self.matches(field) == Some(true)
    }

    /// Whether another response names a different one.
    pub(super) fn contradicts<'f>(&self, field: impl Fn(&str) -> Option<FieldValue<'f>>) -> bool {
        self.matches(field) == Some(false)
    }

    fn matches<'f>(&self, field: impl Fn(&str) -> Option<FieldValue<'f>>) -> Option<bool> {
        let name = match self {
            Self::ETag(_) => "ETag",
            Self::LastModified(_) => "Last-Modified",
        };
        // RFC 9110 §8.8.3.2: strong comparison is equality, and a weak tag is never equal.
        field(name).map(|value| value.as_bytes() == self.as_bytes())
    }
}

fn is_strong_tag(tag: &[u8]) -> bool {
    matches!(tag, [b'"', inner @ .., b'"'] if inner.iter().all(|&byte| byte == b'!' || (byte > b'"' && byte != 0x7f)))
}

/// An IMF-fixdate (RFC 9110 §5.6.7) as numbers that compare as times do. The obsolete forms are not strong enough for us.
fn parse_date(value: &[u8]) -> Option<[u32; 6]> {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let form = b"___, __ ___ ____ __:__:__ GMT";
    let fits = value.len() == form.len() && value.iter().zip(form).all(|(byte, form)| *form == b'_' || byte == form);
    if !fits {
        return None;
    }
    let number = |from: usize, to: usize| {
        value[from..to].iter().try_fold(0, |number, byte| Some(number * 10 + (*byte as char).to_digit(10)?))
    };
    let month = MONTHS.chunks(3).position(|month| *month == value[8..11])?;
    Some([number(12, 16)?, month as u32, number(5, 7)?, number(17, 19)?, number(20, 22)?, number(23, 25)?])
}
