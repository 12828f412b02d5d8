//! The fields that a server adds to each response: `Date`, rendered once a second, and `Server`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use persist_core::{Field, FieldName, FieldValue, Response};

/// The length of an IMF-fixdate (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

/// What a server adds to each response that does not say it itself.
#[derive(Debug)]
pub(crate) struct Stamp {
    server: Option<Box<[u8]>>,
    rendered: Mutex<(u64, [u8; DATE_BYTES])>,
}

impl Stamp {
    /// With this `Server` field, if any.
    pub(crate) fn new(server: Option<FieldValue<'_>>) -> Self {
        let server = server.map(|value| value.as_bytes().into());
        Self { server, rendered: Mutex::new((0, render(0))) }
    }

    /// Whether the response has no `Date` of its own. RFC 9110 §6.6.1: an origin server with a clock sends one.
    pub(crate) fn wants_date(&self, response: &Response) -> bool {
        response.fields.get("Date").is_none()
    }

    /// The value of `Date`, now.
    pub(crate) fn date(&self) -> [u8; DATE_BYTES] {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if rendered.0 != seconds {
            *rendered = (seconds, render(seconds));
        }
        rendered.1
    }

    /// The `Server` field, unless the response has one.
    pub(crate) fn server(&self, response: &Response) -> Option<Field<'_>> {
        let value = FieldValue::new(self.server.as_deref()?).ok()?;
        response.fields.get("Server").is_none().then_some(Field { name: FieldName::from_static("Server"), value })
    }
}

fn render(seconds: u64) -> [u8; DATE_BYTES] {
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let mut date = [b' '; DATE_BYTES];
    // An IMF-fixdate always has this length, up to the year 9999.
    date.iter_mut().zip(text.bytes()).for_each(|(byte, digit)| *byte = digit);
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_an_imf_fixdate_of_29_bytes() {
        assert_eq!(&render(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn fields_of_the_response_itself_are_left_alone() {
        let value = FieldValue::new(b"here").expect("a field value");
        let stamp = Stamp::new(Some(value));
        let own = Response::ok().field("server", "theirs").expect("a field").field("date", "then").expect("a field");
        assert!(stamp.server(&own).is_none() && !stamp.wants_date(&own));
        let bare = Response::ok();
        assert_eq!(stamp.server(&bare).map(|field| field.value), Some(value));
        assert!(stamp.wants_date(&bare));
    }
}
