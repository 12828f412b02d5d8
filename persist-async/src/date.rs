//! The fields that a server adds to each response: `Date`, rendered once a second, and `Server`.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use persist_core::{FieldName, FieldValue, Fields, Response};
use tokio::time::Instant;

/// The length of an IMF-fixdate (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

/// What a server adds to each response that does not say it itself.
#[derive(Debug)]
pub(crate) struct Stamp {
    server: Option<Box<[u8]>>,
    number: u64,
}

/// The fields as they are during one second, kept by each thread so that threads need not meet.
struct Rendered {
    stamp: u64,
    until: Instant,
    fields: Fields,
}

thread_local! {
    static RENDERED: Cell<Option<Box<Rendered>>> = const { Cell::new(None) };
}

impl Stamp {
    /// With this `Server` field, if any.
    pub(crate) fn new(server: Option<FieldValue<'_>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let server = server.map(|value| value.as_bytes().into());
        Self { server, number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Calls `give` with the fields to be added to the response.
    pub(crate) fn with<T>(&self, response: &Response, now: Instant, give: impl FnOnce(&Fields) -> T) -> T {
        let own = |name: &str| {
            response.fields.iter().any(|field| field.name.as_str().len() == name.len() && field.name.is(name))
        };
        let kept = RENDERED.try_with(Cell::take).ok().flatten();
        let rendered = match kept {
            Some(kept) if kept.stamp == self.number && now < kept.until => kept,
            _ => Box::new(self.render(now)),
        };
        let result = if own("Date") || own("Server") {
            let mut fields = Fields::new();
            rendered.fields.iter().filter(|field| !own(field.name.as_str())).for_each(|field| fields.push_field(field));
            give(&fields)
        } else {
            give(&rendered.fields)
        };
        // A thread that is ending has no place to keep it.
        let _ = RENDERED.try_with(|place| place.set(Some(rendered)));
        result
    }

    /// RFC 9110 §6.6.1: an origin server with a clock sends `Date`.
    fn render(&self, now: Instant) -> Rendered {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut fields = Fields::new();
        let date = render(since.as_secs());
        for (name, value) in [("Date", Some(&date[..])), ("Server", self.server.as_deref())] {
            if let Some(value) = value.and_then(|value| FieldValue::new(value).ok()) {
                fields.push_field(persist_core::Field { name: FieldName::new(name).expect("a token"), value });
            }
        }
        let until = now + Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos()));
        Rendered { stamp: self.number, until, fields }
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

    fn added(stamp: &Stamp, response: &Response, now: Instant) -> Vec<String> {
        stamp.with(response, now, |fields| fields.iter().map(|field| field.name.to_string()).collect())
    }

    #[test]
    fn fields_of_the_response_itself_are_left_alone() {
        let stamp = Stamp::new(FieldValue::new(b"here").ok());
        let now = Instant::now();
        assert_eq!(added(&stamp, &Response::ok(), now), ["Date", "Server"]);
        let dated = Response::ok().field("date", "then").expect("a field");
        assert_eq!(added(&stamp, &dated, now), ["Server"]);
        let own = dated.field("server", "theirs").expect("a field");
        assert!(added(&stamp, &own, now).is_empty());
        assert_eq!(added(&Stamp::new(None), &Response::ok(), now), ["Date"], "another server's name is not borrowed");
    }

    #[test]
    fn the_date_is_rendered_once_a_second() {
        let stamp = Stamp::new(None);
        let now = Instant::now();
        let first = stamp.with(&Response::ok(), now, std::ptr::from_ref);
        let until = stamp.with(&Response::ok(), now, |fields| {
            assert_eq!(std::ptr::from_ref(fields), first, "the same fields, not rendered again");
            RENDERED.take()
        });
        assert!(until.is_none(), "in use");
        let rendered = stamp.render(now);
        assert!(rendered.until > now && rendered.until <= now + Duration::from_secs(1));
    }
}
