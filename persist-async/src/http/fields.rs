//! Fields as the `http` crate has them, and the extension that keeps their order and case.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use persist_core::{Blame, Field, Fields, Phase, RequestHead, ResponseHead};

use crate::error::{Error, Result};

/// The fields of a message in their own order and case: an extension of received messages, and of messages to be sent.
///
/// A [`HeaderMap`] keeps neither. When a message is sent, its map says *which* fields it has, and this extension, if there is one, how they are
/// spelled and ordered: what is in the map and not here comes last, what is here and no longer in the map is not sent. So what was received
/// can be passed on as it came, whatever was added, changed or removed on the way.
///
/// ```
/// use persist_async::Fields;
/// use persist_async::http::OriginalFields;
///
/// let mut fields = Fields::new();
/// fields.push("X-Odd-CASE", "1")?;
/// let mut request = http::Request::get("http://127.0.0.1/").header("x-odd-case", "1").body(())?;
/// request.extensions_mut().insert(OriginalFields::from(fields)); // sent as X-Odd-CASE
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct OriginalFields(Kept);

#[derive(Clone)]
enum Kept {
    Request(RequestHead),
    Response(ResponseHead),
    Own(Fields),
}

impl OriginalFields {
    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        let (request, response, own) = match &self.0 {
            Kept::Request(head) => (Some(head.fields()), None, None),
            Kept::Response(head) => (None, Some(head.fields()), None),
            Kept::Own(fields) => (None, None, Some(fields.iter())),
        };
        request.into_iter().flatten().chain(response.into_iter().flatten()).chain(own.into_iter().flatten())
    }

    /// The head of the request that the fields came in, its target as it was received included.
    pub fn request(&self) -> Option<&RequestHead> {
        if let Kept::Request(head) = &self.0 { Some(head) } else { None }
    }

    /// The head of the response that the fields came in, its reason phrase included.
    pub fn response(&self) -> Option<&ResponseHead> {
        if let Kept::Response(head) = &self.0 { Some(head) } else { None }
    }
}

impl From<Fields> for OriginalFields {
    fn from(fields: Fields) -> Self {
        Self(Kept::Own(fields))
    }
}

impl From<RequestHead> for OriginalFields {
    fn from(head: RequestHead) -> Self {
        Self(Kept::Request(head))
    }
}

impl From<ResponseHead> for OriginalFields {
    fn from(head: ResponseHead) -> Self {
        Self(Kept::Response(head))
    }
}

/// Shows of field values the lengths only.
impl fmt::Debug for OriginalFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.iter().map(|field| (field.name, field.value.as_bytes().len()));
        f.debug_map().entries(lengths).finish()
    }
}

/// A map of these fields. Values of one name stay in order.
pub fn from_fields<'f>(fields: impl IntoIterator<Item = Field<'f>, IntoIter: Clone>) -> HeaderMap {
    let fields = fields.into_iter();
    let (count, bytes) =
        fields.clone().fold((0, 0), |(count, bytes), field| (count + 1, bytes + field.value.as_bytes().len()));
    let mut map = HeaderMap::with_capacity(count);
    // One block for all values.
    let mut block = BytesMut::with_capacity(bytes);
    fields.clone().for_each(|field| block.extend_from_slice(field.value.as_bytes()));
    let mut block = block.freeze();
    for field in fields {
        let value = value(block.split_to(field.value.as_bytes().len()), field);
        // Names are tokens here as there, and heads have at most 65,535 bytes: a map has room for their fields.
        if let Ok(name) = HeaderName::from_bytes(field.name.as_str().as_bytes()) {
            map.append(name, value);
        }
    }
    map
}

fn value(bytes: Bytes, field: Field<'_>) -> HeaderValue {
    let mut value = HeaderValue::from_maybe_shared(bytes).expect("what may stand in a field value is the same there");
    value.set_sensitive(field.name.is("Authorization") || field.name.is("Proxy-Authorization"));
    value
}

/// The fields of this map, in the order and case of `original` as far as it knows them. `Content-Length` and `Transfer-Encoding`, which are
/// the connection's to write, are left out.
pub fn to_fields(map: &HeaderMap, original: Option<&OriginalFields>) -> Fields {
    let mut fields = Fields::new();
    match original {
        Some(original) => in_order(map, original, &mut fields),
        None => map.iter().for_each(|(name, value)| push(&mut fields, name.as_str(), name, value)),
    }
    fields
}

fn in_order(map: &HeaderMap, original: &OriginalFields, fields: &mut Fields) {
    // How many values of each name are written.
    let mut written: HeaderMap<usize> = HeaderMap::with_capacity(map.keys_len());
    for field in original.iter() {
        let Ok(name) = HeaderName::from_bytes(field.name.as_str().as_bytes()) else { continue };
        let nth = written.get(&name).copied().unwrap_or(0);
        let Some(value) = map.get_all(&name).iter().nth(nth) else { continue };
        push(fields, field.name.as_str(), &name, value);
        written.insert(name, nth + 1);
    }
    for name in map.keys() {
        let done = written.get(name).copied().unwrap_or(0);
        map.get_all(name).iter().skip(done).for_each(|value| push(fields, name.as_str(), name, value));
    }
}

fn push(fields: &mut Fields, spelled: &str, name: &HeaderName, value: &HeaderValue) {
    if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
        return;
    }
    // Surrounding white space is no part of a value (RFC 9110 §5.5), though the map allows it. All else that a map holds is well-formed.
    let _ = fields.push(spelled, value.as_bytes().trim_ascii());
}

/// What the head of a message that is sent says of its content.
#[derive(Default)]
pub(super) struct Said {
    /// `Content-Length`.
    pub(super) length: Option<u64>,
    /// Whether `Trailer` announces trailers.
    pub(super) trailers: bool,
}

impl Said {
    /// One walk: maps are small, and looking each name up costs more.
    pub(super) fn by(map: &HeaderMap) -> Result<Self> {
        let mut said = Self::default();
        for (name, value) in map {
            if name == CONTENT_LENGTH {
                let length = number(value).filter(|length| said.length.is_none_or(|other| other == *length));
                said.length = Some(length.ok_or_else(|| {
                    Error::new(Phase::Prepare, "content-length is not one number of bytes").blaming(Blame::Caller)
                })?);
            } else if name == TRAILER {
                said.trailers = true;
            }
        }
        Ok(said)
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let digits = Some(value.as_bytes()).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
