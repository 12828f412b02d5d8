//! What one request is to be: what is sent, what its handler does, and how its reply is read. Client and handler both look here, by the request's number.

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use persist_async::{Body, Method, Request};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::dice::Dice;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) n: u64,
    pub(crate) method: Method,
    /// It has a key by which copies are known.
    pub(crate) keyed: bool,
    pub(crate) upload: Upload,
    pub(crate) expect: bool,
    pub(crate) handling: Handling,
    pub(crate) reading: Reading,
    /// The client drops what it does about the request after this time.
    pub(crate) patience: Option<Duration>,
    /// A deadline of its own.
    pub(crate) deadline: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) enum Upload {
    Nothing,
    Whole(usize),
    /// From a reader that pauses between pieces.
    Read {
        len: usize,
        declared: bool,
        pace: Duration,
    },
    /// From a reader that fails in the middle.
    Breaks {
        len: usize,
        at: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Handling {
    /// Before and after the content is read.
    pub(crate) think: [Duration; 2],
    pub(crate) takes: Takes,
    pub(crate) interims: usize,
    pub(crate) answer: Answer,
    /// The response says `Connection: close`.
    pub(crate) close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Whole,
    Part,
    Nothing,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Whole(usize),
    Read {
        len: usize,
        declared: bool,
        pace: Duration,
    },
    /// The handler returns without one.
    None,
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Whole,
    Slow(Duration),
    Part,
    Dropped,
}

/// What kinds of requests a run has, beside the ordinary ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whims {
    /// Percent of requests that are dropped, read in part, or have a deadline that may be too short.
    pub(crate) impatient: usize,
    /// Percent of handlers that do not answer, close, or take only part of the content.
    pub(crate) careless: usize,
    /// Percent of uploads that break off.
    pub(crate) breaking: usize,
}

fn size(dice: &mut Dice) -> usize {
    match dice.below(100) {
        0 => 300_000,
        1..=4 => dice.within(60_000, 140_000),
        5..=19 => dice.within(1_000, 30_000),
        20..=34 => dice.within(0, 2),
        _ => dice.within(3, 1_000),
    }
}

fn pace(dice: &mut Dice) -> Duration {
    if dice.percent(60) { Duration::ZERO } else { dice.millis(1, 60) }
}

impl Plan {
    pub(crate) fn draw(n: u64, whims: Whims, dice: &mut Dice) -> Self {
        let (method, has_content) = match dice.below(10) {
            0..=3 => (Method::GET, false),
            4 => (Method::HEAD, false),
            5 => (Method::PUT, true),
            6 => (Method::DELETE, false),
            _ => (Method::POST, true),
        };
        let upload = match dice.below(5) {
            _ if !has_content => Upload::Nothing,
            _ if dice.percent(whims.breaking) => {
                let len = dice.within(10, 20_000);
                Upload::Breaks { len, at: dice.below(len) }
            }
            0 | 1 => Upload::Read { len: size(dice), declared: dice.percent(50), pace: pace(dice) },
            2 => Upload::Nothing,
            _ => Upload::Whole(size(dice)),
        };
        let is_careless = dice.percent(whims.careless);
        let answer = match dice.below(6) {
            0 if is_careless => Answer::None,
            1 if is_careless => Answer::Panic,
            0..=2 => Answer::Read { len: size(dice), declared: dice.percent(50), pace: pace(dice) },
            _ => Answer::Whole(size(dice)),
        };
        let think = |dice: &mut Dice| if dice.percent(60) { Duration::ZERO } else { dice.millis(1, 400) };
        let handling = Handling {
            think: [think(dice), think(dice)],
            takes: if is_careless { dice.pick(&[Takes::Whole, Takes::Part, Takes::Nothing]) } else { Takes::Whole },
            interims: if dice.percent(10) { dice.within(1, 3) } else { 0 },
            answer,
            close: is_careless && dice.percent(40),
        };
        let is_impatient = dice.percent(whims.impatient);
        let reading = match dice.below(4) {
            0 if is_impatient => Reading::Part,
            1 if is_impatient => Reading::Dropped,
            2 if dice.percent(40) => Reading::Slow(dice.millis(1, 80)),
            _ => Reading::Whole,
        };
        let patience = (is_impatient && dice.percent(60)).then(|| dice.millis(0, 900));
        let deadline = (is_impatient && dice.percent(40)).then(|| dice.millis(1, 2_000));
        Self {
            n,
            keyed: method == Method::POST && dice.percent(25),
            expect: !matches!(upload, Upload::Nothing) && dice.percent(20),
            method,
            upload,
            handling,
            reading,
            patience,
            deadline,
        }
    }

    /// A request that nothing is the matter with.
    pub(crate) fn plain(n: u64) -> Self {
        let think = [Duration::ZERO; 2];
        let answer = Answer::Whole(100);
        Self {
            n,
            method: Method::GET,
            keyed: false,
            upload: Upload::Nothing,
            expect: false,
            handling: Handling { think, takes: Takes::Whole, interims: 0, answer, close: false },
            reading: Reading::Whole,
            patience: None,
            deadline: None,
        }
    }

    pub(crate) fn request(&self, target: String) -> Request {
        let mut request = Request::new(self.method.clone(), target).field("Id", self.n.to_string()).expect("a value");
        if self.keyed {
            request = request.field("Idempotency-Key", self.n.to_string()).expect("a value");
        }
        if self.expect {
            request = request.field("Expect", "100-continue").expect("a value");
        }
        request
    }

    pub(crate) fn body(&self) -> Body {
        match self.upload {
            Upload::Nothing => Body::empty(),
            Upload::Whole(len) => Body::from(content(self.n, Way::Up, len)),
            Upload::Read { len, declared, pace } if pace.is_zero() => {
                let mut rest = content(self.n, Way::Up, len);
                let pieces = move |_: &mut Context<'_>| {
                    let piece = rest.split_to(rest.len().min(15_000));
                    Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
                };
                Body::pieces(pieces, declared.then_some(len as u64))
            }
            Upload::Read { len, declared, pace } => {
                Body::reader(Drip::new(content(self.n, Way::Up, len), None, pace), declared.then_some(len as u64))
            }
            Upload::Breaks { len, at } => {
                let drip = Drip::new(content(self.n, Way::Up, len), Some(len - at), Duration::ZERO);
                Body::reader(drip, (at % 2 == 0).then_some(len as u64))
            }
        }
    }

    /// Whether nothing is sent behind its head, not even the end of content that there is none of.
    pub(crate) fn is_a_head_alone(&self) -> bool {
        matches!(self.upload, Upload::Nothing | Upload::Whole(0) | Upload::Read { len: 0, declared: true, .. })
    }

    pub(crate) fn uploads(&self) -> usize {
        match self.upload {
            Upload::Nothing => 0,
            Upload::Whole(len) | Upload::Read { len, .. } | Upload::Breaks { len, .. } => len,
        }
    }

    /// The content of its reply; `None` if it gets none of its own.
    pub(crate) fn downloads(&self) -> Option<usize> {
        match self.handling.answer {
            Answer::Whole(len) | Answer::Read { len, .. } => Some(len),
            Answer::None | Answer::Panic => None,
        }
    }

    /// Whether sending it twice does no harm.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.method.is_idempotent() || self.keyed
    }

    /// Whether all who have to do with it see it through to its end.
    pub(crate) fn is_decent(&self) -> bool {
        self.downloads().is_some()
            && matches!(self.reading, Reading::Whole | Reading::Slow(_))
            && !matches!(self.upload, Upload::Breaks { .. })
            && (self.patience, self.deadline) == (None, None)
    }

    /// Whether it leaves its connection as it found it, besides.
    pub(crate) fn leaves_no_trace(&self) -> bool {
        self.is_decent() && !self.handling.close && (self.handling.takes == Takes::Whole || self.uploads() == 0)
    }
}

/// Where content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// The content of the message number `n`: letters that are another's at every shift, and never look like a head.
pub(crate) fn content(n: u64, way: Way, len: usize) -> Bytes {
    const OFFSETS: usize = 1 << 16;
    static LETTERS: LazyLock<Bytes> = LazyLock::new(|| {
        let mut dice = Dice::new(0);
        (0..OFFSETS + 400_000).map(|_| b'a' + (dice.number() % 26) as u8).collect()
    });
    let at = (n as usize * 2 + usize::from(way == Way::Down)) * 4_099 % OFFSETS;
    LETTERS.slice(at..at + len)
}

/// A reader that gives content in pieces, with a pause before each, and may fail while so much is left.
pub(crate) struct Drip {
    content: Bytes,
    fails_at: Option<usize>,
    pace: Duration,
    piece: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Drip {
    pub(crate) fn new(content: Bytes, fails_at: Option<usize>, pace: Duration) -> Self {
        let piece = (content.len() / 5).max(1);
        Self { content, fails_at, pace, piece, pause: None }
    }
}

impl AsyncRead for Drip {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.pace.is_zero() {
            let pace = this.pace;
            let pause = this.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pace)));
            ready!(pause.as_mut().poll(cx));
            pause.as_mut().reset(Instant::now() + pace);
        }
        let left = this.content.len();
        if this.fails_at.is_some_and(|at| left <= at) {
            return Poll::Ready(Err(io::Error::other("the reader fails, as it was told to")));
        }
        let most = this.piece.min(left - this.fails_at.unwrap_or(0)).min(buf.remaining());
        buf.put_slice(&this.content[..most]);
        this.content.advance(most);
        Poll::Ready(Ok(()))
    }
}
