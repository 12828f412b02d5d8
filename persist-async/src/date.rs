//! The fields that a server adds to each response, kept by each thread so that threads need not meet.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use persist_core::{FieldLines, FieldValue, Instant};

/// What a server adds to each response that does not say it itself: `Date`, rendered once a second, and `Server`.
#[derive(Debug)]
pub(crate) struct Stamp {
    server: Option<Box<[u8]>>,
    number: u64,
}

/// The fields as they are during one second.
struct Rendered {
    /// Whose.
    number: u64,
    until: Instant,
    stamp: persist_core::Stamp,
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

    /// Calls `give` with the fields to be added to a response that has the fields `beside`.
    pub(crate) fn with<T>(&self, beside: FieldLines<'_>, now: Instant, give: impl FnOnce(FieldLines<'_>) -> T) -> T {
        let kept = RENDERED.try_with(Cell::take).ok().flatten();
        let rendered = match kept {
            Some(kept) if kept.number == self.number && now < kept.until => kept,
            kept => self.render(now, kept),
        };
        let result = give(rendered.stamp.lines(beside));
        // A thread that is ending has no place to keep it.
        let _ = RENDERED.try_with(|place| place.set(Some(rendered)));
        result
    }

    #[cold]
    fn render(&self, now: Instant, kept: Option<Box<Rendered>>) -> Box<Rendered> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = now + Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos()));
        let mut rendered = kept.filter(|kept| kept.number == self.number).unwrap_or_else(|| {
            let server = self.server.as_deref().and_then(|name| FieldValue::new(name).ok());
            Box::new(Rendered { number: self.number, until, stamp: persist_core::Stamp::new(server) })
        });
        rendered.until = until;
        rendered.stamp.set_time(since.as_secs());
        rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn added(stamp: &Stamp, beside: FieldLines<'_>, now: Instant) -> Vec<String> {
        stamp.with(beside, now, |fields| fields.iter().map(|field| field.name.to_string()).collect())
    }

    #[test]
    fn fields_of_the_response_itself_are_left_alone_and_another_servers_name_is_not_borrowed() {
        const DATED: FieldLines<'static> = FieldLines::from_static("date: then\r\n");
        let stamp = Stamp::new(FieldValue::new(b"here").ok());
        let now = clock::now();
        assert_eq!(added(&stamp, FieldLines::EMPTY, now), ["Date", "Server"]);
        assert_eq!(added(&stamp, DATED, now), ["Server"]);
        assert_eq!(added(&Stamp::new(None), FieldLines::EMPTY, now), ["Date"]);
    }

    #[test]
    fn the_date_is_looked_up_once_a_second() {
        let stamp = Stamp::new(None);
        let now = clock::now();
        let until = || RENDERED.take().map(|rendered| (rendered.until, RENDERED.set(Some(rendered))).0);
        added(&stamp, FieldLines::EMPTY, now);
        let first = until().expect("kept");
        assert!(first > now && first <= now + Duration::from_secs(1));
        added(&stamp, FieldLines::EMPTY, Instant::from_duration(first.since_epoch() - Duration::from_nanos(1)));
        assert_eq!(until(), Some(first), "still the same second");
        added(&stamp, FieldLines::EMPTY, first);
        assert!(until() > Some(first), "looked up anew");
    }
}
