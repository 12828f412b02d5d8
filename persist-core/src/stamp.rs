//! What a server says in each response of its own accord: `Date`, rendered once a second, and `Server`.

use alloc::vec::Vec;
use core::fmt;

use crate::field::{Field, FieldName, FieldValue};
use crate::lines::{self, FieldLines, Notes};

/// The length of an IMF-fixdate (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

/// What comes before the date, and behind it.
const AROUND_DATE: usize = "Date: \r\n".len();

/// The fields that a server adds to each response that does not have them: `Date` and, if it was given one, `Server`, ready to be sent.
///
/// Pure, as all of the core: the caller tells the time, and asks for the lines.
///
/// ```
/// use persist_core::{FieldValue, Fields, Stamp};
///
/// let mut stamp = Stamp::new(Some(FieldValue::from_static("here")));
/// stamp.set_time(784_111_777);
/// assert_eq!(stamp.lines(Fields::new().lines()).as_bytes(), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: here\r\n");
/// ```
#[derive(Clone)]
pub struct Stamp {
    /// The line of `Date`, which always has the same length, and behind it the line of `Server`.
    bytes: Vec<u8>,
    second: u64,
}

impl Stamp {
    /// With this `Server` field, if any. The time is 1970 until it is set.
    pub fn new(server: Option<FieldValue<'_>>) -> Self {
        let mut bytes = Vec::from(*b"Date: ");
        bytes.extend_from_slice(&imf_fixdate(0));
        bytes.extend_from_slice(b"\r\n");
        if let Some(value) = server {
            lines::push(&mut bytes, &mut Notes::default(), Field { name: FieldName::from_static("Server"), value });
        }
        Self { bytes, second: 0 }
    }

    /// Tells the time, in seconds since 1970 began in UTC. Cheap while the second is the same.
    #[inline]
    pub fn set_time(&mut self, unix_seconds: u64) {
        if self.second != unix_seconds {
            self.render(unix_seconds);
        }
    }

    #[cold]
    fn render(&mut self, unix_seconds: u64) {
        self.second = unix_seconds;
        self.bytes[AROUND_DATE - 2..][..DATE_BYTES].copy_from_slice(&imf_fixdate(unix_seconds));
    }

    /// The lines to add to a response with these fields: those that it does not have.
    ///
    /// RFC 9110 §6.6.1: an origin server with a clock sends `Date`.
    #[inline]
    pub fn lines(&self, beside: FieldLines<'_>) -> FieldLines<'_> {
        let (date, server) = self.bytes.split_at(AROUND_DATE + DATE_BYTES);
        let notes = beside.notes();
        let bytes = match (notes.say(Notes::DATE), notes.say(Notes::SERVER)) {
            (false, false) => &self.bytes,
            (false, true) => date,
            (true, false) => server,
            (true, true) => &[],
        };
        // Neither of them steers a connection.
        FieldLines::checked(bytes, Notes::default())
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stamp({})", self.bytes.escape_ascii())
    }
}

/// A point in time as HTTP writes it (RFC 9110 §5.6.7), for years of four digits; later ones stay at the last second of 9999.
///
/// ```
/// assert_eq!(&persist_core::stamp::imf_fixdate(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
pub fn imf_fixdate(unix_seconds: u64) -> [u8; DATE_BYTES] {
    const LAST: u64 = 253_402_300_799;
    const WEEKDAYS: &[u8] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let seconds = unix_seconds.min(LAST);
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut date = *b"Www, 00 Mmm 0000 00:00:00 GMT";
    let three = |names: &[u8], index: u64| -> [u8; 3] {
        let at = index as usize * 3;
        [names[at], names[at + 1], names[at + 2]]
    };
    date[..3].copy_from_slice(&three(WEEKDAYS, days % 7));
    date[8..11].copy_from_slice(&three(MONTHS, month - 1));
    for (at, number) in
        [(5, day), (12, year / 100), (14, year % 100), (17, time / 3600), (20, time / 60 % 60), (23, time % 60)]
    {
        date[at] = b'0' + (number / 10) as u8;
        date[at + 1] = b'0' + (number % 10) as u8;
    }
    date
}

/// Year, month and day of so many days after 1 January 1970. Years are counted from March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // Day 0 is now 1 March of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Fields;

    #[test]
    fn every_day_for_400_years_follows_the_one_before() {
        let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let length = |year, month| match month {
            2 => 28 + u64::from(leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for days in 0..146_097 {
            assert_eq!(civil(days), expected);
            let (year, month, day) = expected;
            expected = match (day == length(year, month), month) {
                (false, _) => (year, month, day + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
    }

    #[test]
    fn dates_are_written_as_http_writes_them() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_795_348_800, "Sun, 22 Nov 2026 12:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(imf_fixdate(seconds).escape_ascii().to_string(), date);
        }
    }

    #[test]
    fn a_field_of_the_response_itself_is_left_alone() {
        let mut stamp = Stamp::new(Some(FieldValue::from_static("here")));
        stamp.set_time(784_111_777);
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let mut fields = Fields::new();
        let mut said = |name: Option<&str>| {
            name.into_iter().for_each(|name| fields.push(name, "own").expect("a field"));
            stamp.lines(fields.lines()).as_bytes().escape_ascii().to_string()
        };
        let escaped = |text: &str| text.as_bytes().escape_ascii().to_string();
        assert_eq!(said(None), escaped(&alloc::format!("{date}Server: here\r\n")));
        assert_eq!(said(Some("server")), escaped(date));
        assert_eq!(said(Some("DATE")), "");
        let mut dated = Fields::new();
        dated.push("date", "own").expect("a field");
        assert_eq!(stamp.lines(dated.lines()).as_bytes(), b"Server: here\r\n");
        assert_eq!(Stamp::new(None).lines(dated.lines()).as_bytes(), b"");
    }

    #[test]
    fn the_date_follows_the_clock_in_both_directions() {
        let mut stamp = Stamp::new(None);
        for seconds in [1_795_348_800, 1_795_348_801, 1_795_348_800] {
            stamp.set_time(seconds);
            let date = [&b"Date: "[..], &imf_fixdate(seconds), b"\r\n"].concat();
            assert_eq!(stamp.lines(FieldLines::EMPTY).as_bytes(), date);
        }
    }

    use alloc::string::ToString;
}
