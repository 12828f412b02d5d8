//! One direction of a connection between two machines: bytes are taken, delayed, cut and joined, and may come to harm.

use std::collections::VecDeque;

/// What happens once a direction has carried so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// No further byte arrives, and nobody is told.
    Stall,
    /// Both directions are dead, what is under way in them included: reading and writing fail.
    Reset,
    /// The reader sees the end of file; what the writer still writes is swallowed.
    Cut,
    /// Writing fails; the reader sees the end of file. The other direction goes on.
    Refuse,
}

pub const HARMS: [Harm; 4] = [Harm::Stall, Harm::Reset, Harm::Cut, Harm::Refuse];

/// Harm, and after how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub harm: Harm,
    pub at: u64,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Bytes(Vec<u8>),
    Eof,
    Failed,
}

/// One direction.
#[derive(Debug)]
pub struct Pipe {
    flight: VecDeque<u8>,
    capacity: usize,
    fault: Option<Fault>,
    /// Writes versions down: what was HTTP/1.1 arrives as HTTP/1.0.
    downgrade: bool,
    matched: usize,
    pub accepted: u64,
    pub delivered: u64,
    /// The writer shut its side down.
    pub shut: bool,
    /// The reader is gone.
    pub deaf: bool,
    pub dead: bool,
    told: bool,
}

impl Pipe {
    pub fn new(capacity: usize, fault: Option<Fault>, downgrade: bool) -> Self {
        Self {
            flight: VecDeque::new(),
            capacity,
            fault,
            downgrade,
            matched: 0,
            accepted: 0,
            delivered: 0,
            shut: false,
            deaf: false,
            dead: false,
            told: false,
        }
    }

    fn harmed(&self, harm: Harm) -> Option<u64> {
        self.fault.filter(|fault| fault.harm == harm).map(|fault| fault.at)
    }

    /// Whether a reset is due: the world then kills both directions.
    pub fn must_reset(&self) -> bool {
        !self.dead && self.harmed(Harm::Reset).is_some_and(|at| self.accepted >= at)
    }

    pub fn kill(&mut self) {
        self.dead = true;
        self.flight.clear();
    }

    /// Bytes that are under way.
    pub fn under_way(&self) -> usize {
        self.flight.len()
    }

    /// Whether a write would do something: take bytes, or fail.
    pub fn may_write(&self) -> bool {
        self.fails_writes() || self.flight.len() < self.capacity
    }

    fn fails_writes(&self) -> bool {
        self.dead || self.deaf || self.harmed(Harm::Refuse).is_some_and(|at| self.accepted >= at)
    }

    /// Takes some of `bytes`; `None`: writing fails.
    pub fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.fails_writes() {
            return None;
        }
        let mut n = bytes.len().min(self.capacity - self.flight.len());
        for harm in [Harm::Refuse, Harm::Reset] {
            if let Some(at) = self.harmed(harm) {
                n = n.min((at - self.accepted) as usize);
            }
        }
        for &byte in &bytes[..n] {
            let byte = if self.downgrade { self.downgraded(byte) } else { byte };
            self.accepted += 1;
            if self.harmed(Harm::Cut).is_none_or(|at| self.accepted <= at) {
                self.flight.push_back(byte);
            }
        }
        Some(n)
    }

    fn downgraded(&mut self, byte: u8) -> u8 {
        const VERSION: &[u8] = b"HTTP/1.1";
        self.matched = match byte {
            _ if byte == VERSION[self.matched] => self.matched + 1,
            b'H' => 1,
            _ => 0,
        };
        if self.matched == VERSION.len() {
            self.matched = 0;
            return b'0';
        }
        byte
    }

    fn arrivable(&self) -> usize {
        match self.harmed(Harm::Stall) {
            Some(at) => self.flight.len().min((at - self.delivered) as usize),
            None => self.flight.len(),
        }
    }

    fn is_over(&self) -> bool {
        let ended = |harm| self.harmed(harm).is_some_and(|at| self.accepted >= at);
        let stalled = self.harmed(Harm::Stall).is_some();
        !stalled && (self.shut || ended(Harm::Cut) || ended(Harm::Refuse))
    }

    /// Whether a read would do something.
    pub fn may_read(&self) -> bool {
        !self.deaf && !self.told && (self.dead || self.arrivable() > 0 || self.is_over())
    }

    /// Whether a read would give bytes.
    pub fn has_bytes(&self) -> bool {
        !self.dead && self.arrivable() > 0
    }

    /// Gives up to `max` bytes, or, once, the end.
    pub fn read(&mut self, max: usize) -> Read {
        if self.dead {
            self.told = true;
            return Read::Failed;
        }
        let n = self.arrivable().min(max);
        if n == 0 {
            self.told = true;
            return Read::Eof;
        }
        self.delivered += n as u64;
        Read::Bytes(self.flight.drain(..n).collect())
    }
}
