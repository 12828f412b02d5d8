//! Whether a condition of the request lets it be answered in full: RFC 9110 §13.2.2, in its order.

use std::time::{Duration, SystemTime};

use persist_core::{FieldValue, Method, RequestHead};

/// What a representation is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    /// A strong entity tag, quotes and all.
    pub(super) etag: String,
    pub(super) modified: SystemTime,
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Answer as if there were none.
    Holds,
    /// 304
    NotModified,
    /// 412
    Failed,
}

/// The fields of a request that are conditions.
pub(super) trait Conditions {
    /// All values of this field, in order.
    fn values(&self, name: &str) -> Vec<FieldValue<'_>>;
}

impl Conditions for RequestHead {
    fn values(&self, name: &str) -> Vec<FieldValue<'_>> {
        self.fields().filter(|field| field.name.is(name)).map(|field| field.value).collect()
    }
}

impl Validators {
    /// From a file's length and time of modification.
    pub(super) fn new(len: u64, modified: SystemTime) -> Self {
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { etag: format!("\"{:x}-{len:x}\"", since.as_nanos()), modified }
    }

    /// `Last-Modified`
    pub(super) fn last_modified(&self) -> String {
        httpdate::fmt_http_date(self.modified)
    }

    /// Evaluates the conditions of a GET or HEAD.
    pub(super) fn evaluate(&self, method: &Method, request: &impl Conditions) -> Condition {
        // RFC 9110 §13.2.2 steps 1 and 2
        let if_match = request.values("If-Match");
        if !if_match.is_empty() {
            if !self.any_tag(&if_match, Comparison::Strong) {
                return Condition::Failed;
            }
        } else if let Some(date) = date(&request.values("If-Unmodified-Since"))
            && self.modified_after(date)
        {
            return Condition::Failed;
        }
        // RFC 9110 §13.2.2 steps 3 and 4
        let if_none_match = request.values("If-None-Match");
        let unchanged = if if_none_match.is_empty() {
            date(&request.values("If-Modified-Since")).is_some_and(|date| !self.modified_after(date))
        } else {
            self.any_tag(&if_none_match, Comparison::Weak)
        };
        match unchanged {
            true if matches!(*method, Method::GET | Method::HEAD) => Condition::NotModified,
            true => Condition::Failed,
            false => Condition::Holds,
        }
    }

    /// RFC 9110 §13.1.5: whether a `Range` is to be honoured: the client has a part of exactly this representation. So a weak tag never matches,
    /// and a date only if it is the very one that we say.
    pub(super) fn range_allowed(&self, request: &impl Conditions) -> bool {
        match request.values("If-Range")[..] {
            [] => true,
            [value] => value.to_str().is_some_and(|text| text == self.etag || text == self.last_modified()),
            _ => false,
        }
    }

    fn any_tag(&self, values: &[FieldValue<'_>], comparison: Comparison) -> bool {
        values.iter().filter_map(|value| value.to_str()).any(|list| {
            list.trim() == "*"
                || tags(list).any(|tag| match comparison {
                    Comparison::Strong => tag == self.etag,
                    Comparison::Weak => tag.strip_prefix("W/").unwrap_or(tag) == self.etag,
                })
        })
    }

    /// Dates have whole seconds.
    fn modified_after(&self, date: SystemTime) -> bool {
        self.modified.duration_since(date).is_ok_and(|later| later >= Duration::from_secs(1))
    }
}

/// RFC 9110 §8.8.3.2
#[derive(Clone, Copy)]
enum Comparison {
    Strong,
    Weak,
}

/// RFC 9110 §8.8.3: the entity tags of a list. A comma may stand inside the quotes.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let opening = rest.find('"')?;
        let closing = opening + 1 + rest[opening + 1..].find('"')?;
        let tag = &rest[..=closing];
        rest = &rest[closing + 1..];
        Some(tag)
    })
}

/// RFC 9110 §13.1.3: a field that is not one valid date is ignored.
fn date(values: &[FieldValue<'_>]) -> Option<SystemTime> {
    match values {
        [value] => httpdate::parse_http_date(value.to_str()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    impl Conditions for persist_core::Fields {
        fn values(&self, name: &str) -> Vec<FieldValue<'_>> {
            self.iter().filter(|field| field.name.is(name)).map(|field| field.value).collect()
        }
    }

    pub(crate) fn fields(pairs: &[(&str, &str)]) -> persist_core::Fields {
        let mut fields = persist_core::Fields::new();
        for (name, value) in pairs {
            fields.push(name, value).unwrap();
        }
        fields
    }

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn validators() -> Validators {
        let modified = httpdate::parse_http_date(DATE).unwrap() + Duration::from_millis(400);
        Validators { etag: "\"a,b\"".to_owned(), modified }
    }

    #[test]
    fn conditions_are_evaluated_in_the_order_of_the_rfc() {
        use Condition::{Failed, Holds, NotModified};
        let table: &[(&[(&str, &str)], Condition)] = &[
            (&[], Holds),
            (&[("If-Match", "*")], Holds),
            (&[("If-Match", "\"x\", \"a,b\"")], Holds),
            (&[("If-Match", "W/\"a,b\"")], Failed),
            (&[("If-Match", "\"x\"")], Failed),
            (&[("If-Match", "\"a,b\""), ("If-Unmodified-Since", EARLIER)], Holds),
            (&[("If-Unmodified-Since", DATE)], Holds),
            (&[("If-Unmodified-Since", EARLIER)], Failed),
            (&[("If-Unmodified-Since", "yesterday")], Holds),
            (&[("If-None-Match", "\"a,b\"")], NotModified),
            (&[("If-None-Match", "W/\"a,b\"")], NotModified),
            (&[("If-None-Match", "*")], NotModified),
            (&[("If-None-Match", "\"x\""), ("If-Modified-Since", DATE)], Holds),
            (&[("If-None-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], NotModified),
            (&[("If-Modified-Since", DATE)], NotModified),
            (&[("If-Modified-Since", EARLIER)], Holds),
            (&[("If-Modified-Since", "tomorrow")], Holds),
            (&[("If-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], Failed),
        ];
        for (pairs, expected) in table {
            assert_eq!(validators().evaluate(&Method::GET, &fields(pairs)), *expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_range_is_honoured_only_for_the_same_representation() {
        for (value, allowed) in
            [("\"a,b\"", true), ("W/\"a,b\"", false), ("\"x\"", false), (DATE, true), (EARLIER, false), ("x", false)]
        {
            assert_eq!(validators().range_allowed(&fields(&[("If-Range", value)])), allowed, "{value}");
        }
        assert!(validators().range_allowed(&fields(&[])));
    }
}
