//! How much of anything one connection may hold or cost.

/// Limits in bytes and counts. Each is checked before memory is spent; the error names the limit and the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// One head, start line and all, in bytes; at most 65,535. All interim responses of an exchange share one such budget.
    ///
    /// 32 KiB: four times what common servers take, so that large cookies pass.
    pub head_bytes_max: u32,
    /// Fields in one head or trailer section. 100: what Apache takes.
    pub fields_max: u16,
    /// A request target, in bytes. 8,000: the least that RFC 9112 §3 recommends to support.
    pub target_bytes_max: u32,
    /// Chunk extensions in one body, in bytes, all chunks together. 16 KiB: nobody uses them, attackers do.
    pub chunk_ext_bytes_max: u32,
    /// One trailer section, in bytes. 8 KiB.
    pub trailer_bytes_max: u32,
    /// Content of one message, in bytes. No limit by default: the core never holds content.
    pub body_bytes_max: u64,
    /// Bytes waiting in the outbox before `send_body` takes no more. 64 KiB: what one write to a socket can take.
    pub outbox_bytes_max: u32,
    /// Server: bytes of responses that were given before their turn. 1 MiB.
    pub parked_bytes_max: u32,
    /// Client: interim responses to one request. 16.
    pub interim_max: u16,
    /// Bytes of an unwanted body that are read and dropped to save the connection. 256 KiB: about one round trip's worth.
    pub drain_bytes_max: u64,
    /// Bytes that [`keep`](crate::Conn::keep) takes. 64 KiB: one scratch buffer of an adapter.
    pub kept_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            target_bytes_max: 8_000,
            chunk_ext_bytes_max: 16 * 1024,
            trailer_bytes_max: 8 * 1024,
            body_bytes_max: u64::MAX,
            outbox_bytes_max: 64 * 1024,
            parked_bytes_max: 1024 * 1024,
            interim_max: 16,
            drain_bytes_max: 256 * 1024,
            kept_bytes_max: 64 * 1024,
        }
    }
}
