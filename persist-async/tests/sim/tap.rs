//! Somebody who listens on the wire: which requests and which replies go by, by their field `Id`.

const BEFORE: &[u8] = b"\r\nId: ";

#[derive(Debug, Default)]
pub(crate) struct Tap {
    tail: Vec<u8>,
    /// In the order in which they went by.
    pub(crate) ids: Vec<u64>,
}

impl Tap {
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        // Content has no line ends.
        if self.tail.is_empty() && !bytes.contains(&b'\r') {
            return;
        }
        self.tail.extend_from_slice(bytes);
        let mut seen = 0;
        while let Some(at) = self.tail[seen..].windows(BEFORE.len()).position(|window| window == BEFORE) {
            let digits = seen + at + BEFORE.len();
            let Some(len) = self.tail[digits..].iter().position(|&byte| byte == b'\r') else { break };
            let number: Option<u64> =
                std::str::from_utf8(&self.tail[digits..digits + len]).ok().and_then(|text| text.parse().ok());
            self.ids.extend(number);
            seen = digits + len;
        }
        // What may be the beginning of another one.
        let rest = &self.tail[seen..];
        let from = rest.iter().rposition(|&byte| byte == b'\r').filter(|at| rest.len() - at < 40);
        self.tail = from.map_or_else(Vec::new, |at| rest[at..].to_vec());
    }
}
