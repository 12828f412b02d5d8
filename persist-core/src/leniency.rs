//! Named departures from strict parsing. None of them can change where a message ends.

/// Which malformed spellings of a *head* are tolerated. Chunked framing, Content-Length syntax and Transfer-Encoding have no leniency.
///
/// Each flag carries its risk. [`Leniency::strict`] is the default for servers and for anything that stands in front of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Leniency {
    /// A bare LF ends a line of a response head (RFC 9112 §2.2 MAY).
    ///
    /// Risk: none for a client at the end of the chain; in front of another parser, one that sees CRLF only would see other lines.
    pub bare_lf_in_response_head: bool,
    /// A folded field value of a response is joined with SP (RFC 9112 §5.2 MUST for user agents).
    ///
    /// Risk: none for a client; a relay must pass on the joined form only.
    pub obs_fold_in_response: bool,
    /// More than one SP, or HTAB, between the parts of a status line, and no SP before an absent reason phrase.
    ///
    /// Risk: none: the three digits stay what they are.
    pub space_in_status_line: bool,
    /// Empty lines before a status line.
    ///
    /// Risk: a body that was two bytes too long goes unnoticed.
    pub empty_lines_before_response: bool,
}

impl Leniency {
    /// Nothing is tolerated.
    pub const fn strict() -> Self {
        Self {
            bare_lf_in_response_head: false,
            obs_fold_in_response: false,
            space_in_status_line: false,
            empty_lines_before_response: false,
        }
    }

    /// What a client at the end of the chain can tolerate.
    pub const fn client() -> Self {
        Self {
            bare_lf_in_response_head: true,
            obs_fold_in_response: true,
            space_in_status_line: true,
            empty_lines_before_response: true,
        }
    }
}

impl Default for Leniency {
    fn default() -> Self {
        Self::strict()
    }
}
