//! What a peer can do wrong: one variant for each rule, with its clause, the status to answer with, and the smuggling risk.

use crate::status::StatusCode;

/// What a peer did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The first byte can begin no message: another protocol, or the rest of an earlier message.
    #[error("no message begins with byte {byte:#04x}")]
    NotHttp {
        /// The byte.
        byte: u8,
    },
    /// The client speaks HTTP/2 with prior knowledge.
    #[error("this is the connection preface of HTTP/2")]
    Http2Preface,
    /// The request line is not `method SP target SP version`.
    #[error("the request line is not a method, one space, a target, one space and a version")]
    InvalidRequestLine,
    /// The method is not a token.
    #[error("byte {byte:#04x} may not stand in a method")]
    InvalidMethod {
        /// The byte.
        byte: u8,
    },
    /// The target holds a byte that no URI has.
    #[error("byte {byte:#04x} may not stand in a request target")]
    InvalidTarget {
        /// The byte.
        byte: u8,
    },
    /// The target has none of the four forms, or one that the method does not take.
    #[error("{0}")]
    WrongTargetForm(&'static str),
    /// The target is longer than [`Limits::target_bytes_max`](crate::Limits::target_bytes_max).
    #[error("the request target has {len} bytes, more than the limit of {limit}")]
    TargetTooLong {
        /// How long it is.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// The request line does not end within [`Limits::head_bytes_max`](crate::Limits::head_bytes_max).
    #[error("the request line does not end within the limit of {limit} bytes")]
    RequestLineTooLong {
        /// The limit.
        limit: u64,
    },
    /// The version is not `HTTP/` DIGIT `.` DIGIT.
    #[error("the version is not HTTP/ with one digit, a dot and one digit")]
    InvalidVersion,
    /// A major version other than 1.
    #[error("major version {major} is not HTTP/1")]
    UnsupportedVersion {
        /// The major version.
        major: u8,
    },
    /// The status line is not `version SP 3DIGIT SP [reason]`.
    #[error("the status line is not a version, one space, three digits, one space and a reason phrase")]
    InvalidStatusLine,
    /// A status code below 100.
    #[error("{0:03} is not a status code")]
    InvalidStatus(u16),
    /// A line ends with LF alone.
    #[error("a line ends with LF alone")]
    BareLf,
    /// A CR that no LF follows.
    #[error("a CR is not followed by LF")]
    BareCr,
    /// White space before the first field.
    #[error("white space stands before the first field")]
    SpaceBeforeFields,
    /// A field value goes on in the next line.
    #[error("a field value is folded over two lines")]
    ObsFold,
    /// A field line has no colon.
    #[error("a field line has no colon")]
    NoColon,
    /// White space between the name of a field and the colon.
    #[error("white space stands between a field name and its colon")]
    SpaceBeforeColon,
    /// A field name is empty.
    #[error("a field name is empty")]
    EmptyFieldName,
    /// A field name is not a token.
    #[error("byte {byte:#04x} may not stand in a field name")]
    InvalidFieldName {
        /// The byte.
        byte: u8,
    },
    /// A field value holds a control character.
    #[error("control character {byte:#04x} stands in a field value")]
    InvalidFieldValue {
        /// The byte.
        byte: u8,
    },
    /// More fields than [`Limits::fields_max`](crate::Limits::fields_max).
    #[error("more fields than the limit of {limit}")]
    TooManyFields {
        /// The limit.
        limit: u64,
    },
    /// The head does not end within [`Limits::head_bytes_max`](crate::Limits::head_bytes_max).
    #[error("the head does not end within the limit of {limit} bytes")]
    HeadTooLarge {
        /// The limit.
        limit: u64,
    },
    /// An HTTP/1.1 request without Host.
    #[error("the request has no host field")]
    MissingHost,
    /// More than one Host.
    #[error("the request has more than one host field")]
    RepeatedHost,
    /// The value of Host is not a host with an optional port.
    #[error("the host is not a name or address with an optional port")]
    InvalidHost,
    /// Content-Length is not a number.
    #[error("content-length is not a decimal number")]
    InvalidContentLength,
    /// Content-Length does not fit into 64 bits.
    #[error("content-length does not fit into 64 bits")]
    ContentLengthOverflow,
    /// Content-Length is given twice, with the same value.
    #[error("content-length {0} is given twice")]
    RepeatedContentLength(u64),
    /// Content-Length is given twice, with two values.
    #[error("content-length {first} conflicts with {second}")]
    ConflictingContentLength {
        /// The first.
        first: u64,
        /// The one that differs.
        second: u64,
    },
    /// A request has Content-Length and Transfer-Encoding.
    #[error("content-length and transfer-encoding stand in one request")]
    LengthAndEncoding,
    /// Transfer-Encoding is not a list of codings.
    #[error("transfer-encoding is not a list of codings, or gives chunked a parameter")]
    InvalidTransferEncoding,
    /// A transfer coding that we do not know or cannot remove.
    #[error("a transfer coding other than chunked is not supported")]
    UnsupportedCoding,
    /// The last transfer coding of a request is not chunked.
    #[error("the last transfer coding is not chunked")]
    ChunkedNotLast,
    /// Chunked is applied more than once.
    #[error("chunked is applied more than once")]
    ChunkedTwice,
    /// Transfer-Encoding in an HTTP/1.0 request.
    #[error("an http/1.0 request has a transfer-encoding")]
    EncodingInHttp10,
    /// An expectation other than `100-continue`.
    #[error("the request expects something other than 100-continue")]
    UnknownExpectation,
    /// A chunk size is not a hexadecimal number.
    #[error("byte {byte:#04x} may not stand in a chunk size")]
    InvalidChunkSize {
        /// The byte.
        byte: u8,
    },
    /// A chunk size does not fit into 64 bits.
    #[error("a chunk size does not fit into 64 bits")]
    ChunkSizeOverflow,
    /// A chunk extension breaks the grammar.
    #[error("byte {byte:#04x} may not stand in a chunk extension here")]
    InvalidChunkExt {
        /// The byte.
        byte: u8,
    },
    /// A chunk's data is not followed by CRLF.
    #[error("the data of a chunk is followed by byte {byte:#04x} instead of CRLF")]
    ChunkOverrun {
        /// The byte.
        byte: u8,
    },
    /// More bytes of chunk extensions in one body than [`Limits::chunk_ext_bytes_max`](crate::Limits::chunk_ext_bytes_max).
    #[error("chunk extensions and leading zeros go past the limit of {limit} bytes")]
    ChunkExtTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A trailer section larger than [`Limits::trailer_bytes_max`](crate::Limits::trailer_bytes_max).
    #[error("the trailer section does not end within the limit of {limit} bytes")]
    TrailerTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A field in the trailer section that decides about framing or routing.
    #[error("{0} stands in a trailer section")]
    ForbiddenTrailer(&'static str),
    /// 101 to a request that asked for no upgrade.
    #[error("the response switches protocols although the request did not ask for it")]
    UnaskedSwitch,
    /// The peer closed in the middle of a message.
    #[error("the input ends inside a message")]
    Truncated,
    /// Bytes that answer no request.
    #[error("bytes came that answer no request")]
    Unsolicited,
    /// More interim responses to one request than [`Limits::interim_max`](crate::Limits::interim_max).
    #[error("more interim responses than the limit of {limit}")]
    TooManyInterim {
        /// The limit.
        limit: u64,
    },
    /// Content larger than [`Limits::body_bytes_max`](crate::Limits::body_bytes_max).
    #[error("the content is larger than the limit of {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: u64,
    },
}

impl Cause {
    /// The clause that was broken, or that grants the limit.
    pub fn clause(&self) -> &'static str {
        match self {
            Self::NotHttp { .. } => "RFC 9112 §2.1",
            Self::Http2Preface => "RFC 9113 §3.4",
            Self::InvalidRequestLine | Self::RequestLineTooLong { .. } | Self::TargetTooLong { .. } => "RFC 9112 §3",
            Self::InvalidMethod { .. } => "RFC 9112 §3.1",
            Self::InvalidTarget { .. } | Self::MissingHost | Self::RepeatedHost | Self::InvalidHost => "RFC 9112 §3.2",
            Self::WrongTargetForm(_) => "RFC 9112 §3.2",
            Self::InvalidVersion => "RFC 9112 §2.3",
            Self::UnsupportedVersion { .. } => "RFC 9110 §2.5",
            Self::InvalidStatusLine => "RFC 9112 §4",
            Self::InvalidStatus(_) => "RFC 9110 §15",
            Self::BareLf | Self::BareCr | Self::SpaceBeforeFields => "RFC 9112 §2.2",
            Self::ObsFold => "RFC 9112 §5.2",
            Self::NoColon => "RFC 9112 §5",
            Self::SpaceBeforeColon => "RFC 9112 §5.1",
            Self::EmptyFieldName | Self::InvalidFieldName { .. } => "RFC 9110 §5.1",
            Self::InvalidFieldValue { .. } => "RFC 9110 §5.5",
            Self::TooManyFields { .. } | Self::HeadTooLarge { .. } | Self::TrailerTooLarge { .. } => "RFC 9110 §5.4",
            Self::InvalidContentLength | Self::ContentLengthOverflow => "RFC 9110 §8.6",
            Self::RepeatedContentLength(_) | Self::ConflictingContentLength { .. } => "RFC 9112 §6.3 rule 5",
            Self::LengthAndEncoding => "RFC 9112 §6.3 rule 3",
            Self::InvalidTransferEncoding | Self::UnsupportedCoding | Self::ChunkedTwice | Self::EncodingInHttp10 => {
                "RFC 9112 §6.1"
            }
            Self::ChunkedNotLast => "RFC 9112 §6.3 rule 4",
            Self::UnknownExpectation => "RFC 9110 §10.1.1",
            Self::InvalidChunkSize { .. } | Self::ChunkSizeOverflow | Self::ChunkOverrun { .. } => "RFC 9112 §7.1",
            Self::InvalidChunkExt { .. } | Self::ChunkExtTooLarge { .. } => "RFC 9112 §7.1.1",
            Self::ForbiddenTrailer(_) => "RFC 9110 §6.5.1",
            Self::UnaskedSwitch => "RFC 9110 §15.2.2",
            Self::Truncated => "RFC 9112 §8",
            Self::Unsolicited => "RFC 9112 §9.2",
            Self::TooManyInterim { .. } => "RFC 9110 §15.2",
            Self::BodyTooLarge { .. } => "RFC 9110 §15.5.14",
        }
    }

    /// What a server should answer.
    pub fn suggested_status(&self) -> StatusCode {
        match self {
            Self::BodyTooLarge { .. } | Self::ChunkExtTooLarge { .. } => StatusCode::CONTENT_TOO_LARGE,
            Self::TargetTooLong { .. } | Self::RequestLineTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::UnknownExpectation => StatusCode::EXPECTATION_FAILED,
            Self::TooManyFields { .. } | Self::HeadTooLarge { .. } | Self::TrailerTooLarge { .. } => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::UnsupportedCoding => StatusCode::NOT_IMPLEMENTED,
            Self::UnsupportedVersion { .. } | Self::Http2Preface => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What an attacker could make of a recipient that lets this pass, if it is more than a broken peer.
    pub fn smuggling_risk(&self) -> Option<&'static str> {
        Some(match self {
            Self::LengthAndEncoding => {
                "one recipient goes by content-length, the other by transfer-encoding: the rest of the body is the next request of one of them (CL.TE, TE.CL)"
            }
            Self::ConflictingContentLength { .. } | Self::RepeatedContentLength(_) => {
                "two recipients may each take another content-length: the rest of the body is the next request of one of them (CL.CL)"
            }
            Self::InvalidContentLength | Self::ContentLengthOverflow => {
                "a recipient that reads a prefix, wraps around, or ignores the field finds another end of the body"
            }
            Self::InvalidTransferEncoding | Self::UnsupportedCoding | Self::ChunkedNotLast | Self::ChunkedTwice => {
                "a recipient that does not recognise the coding ignores it and finds another end of the body (TE.TE)"
            }
            Self::EncodingInHttp10 => {
                "a recipient that knows no transfer-encoding in http/1.0 finds another end of the body"
            }
            Self::BareLf => "a recipient that ends lines with CRLF only sees one line where another sees two",
            Self::BareCr => "a recipient that takes CR for a line end sees two lines where another sees one",
            Self::ObsFold => {
                "a recipient that does not unfold takes the second line for a field of its own, or misses a framing field"
            }
            Self::SpaceBeforeFields => "a recipient that skips the line does not see the field that another one obeys",
            Self::SpaceBeforeColon => "a recipient that strips the space sees a field that another one ignores",
            Self::InvalidFieldName { .. } | Self::EmptyFieldName | Self::NoColon => {
                "a recipient that strips or skips the line sees other fields than one that does not"
            }
            Self::InvalidFieldValue { .. } => {
                "a recipient that ends the value at the control character sees another value"
            }
            Self::InvalidRequestLine | Self::InvalidTarget { .. } => {
                "recipients that split the line differently see other targets or versions, and route or cache by them"
            }
            Self::WrongTargetForm(_) | Self::InvalidHost => {
                "recipients that find another host in it route or cache differently"
            }
            Self::RepeatedHost | Self::MissingHost => "recipients that choose another host route or cache differently",
            Self::InvalidChunkSize { .. }
            | Self::ChunkSizeOverflow
            | Self::ChunkOverrun { .. }
            | Self::InvalidChunkExt { .. } => {
                "a recipient that reads the chunk line differently finds another end of the body"
            }
            Self::ForbiddenTrailer(_) => {
                "a recipient that merges trailers into the head changes the framing or the route afterwards"
            }
            Self::UnaskedSwitch => "what follows would be taken for another protocol instead of responses",
            Self::Unsolicited => {
                "the bytes would be taken for the response to the next request (response-queue poisoning)"
            }
            _ => return None,
        })
    }
}
