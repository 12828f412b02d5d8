//! What this crate tells `tracing`, with the feature of that name: a span for each connection and each exchange, and what a client does about them.
//! Without it, spans are nothing, and nothing is compiled.
//!
//! Everything is at debug level, target `persist`, and carries numbers, methods, addresses and reasons. Never a target, a field value or content: those may hold credentials.

/// An event.
macro_rules! tell {
    ($($event:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "persist", $($event)*)
    };
}

pub(crate) use tell;

#[cfg(feature = "tracing")]
thread_local! {
    /// The connection of the exchange that this thread is at work for: what that moves is told of the exchange.
    static AT_WORK: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// A span, or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: Option<tracing::Span>,
    #[cfg(feature = "tracing")]
    connection: u64,
    #[cfg(feature = "tracing")]
    is_exchange: bool,
}

/// A span that was entered, until it is dropped.
pub(crate) struct Entered<'a> {
    #[cfg(feature = "tracing")]
    _entered: Option<tracing::span::Entered<'a>>,
    /// What the thread was at work for before.
    #[cfg(feature = "tracing")]
    before: Option<u64>,
    span: std::marker::PhantomData<&'a Span>,
}

impl Span {
    /// Of a connection.
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "there is nothing to tell"))]
    pub(crate) fn connection(id: u64, role: &'static str) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: Some(tracing::debug_span!(target: "persist", "connection", connection = id, role)),
            #[cfg(feature = "tracing")]
            connection: id,
            #[cfg(feature = "tracing")]
            is_exchange: false,
        }
    }

    /// Of an exchange, within its connection's.
    #[cfg_attr(
        not(feature = "tracing"),
        expect(unused_variables, clippy::unused_self, reason = "there is nothing to tell")
    )]
    pub(crate) fn exchange(&self, number: u64, method: &str) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: self.span.as_ref().map(|parent| {
                let connection = self.connection;
                tracing::debug_span!(target: "persist", parent: parent, "exchange", connection, exchange = number, method)
            }),
            #[cfg(feature = "tracing")]
            connection: self.connection,
            #[cfg(feature = "tracing")]
            is_exchange: true,
        }
    }

    /// What is told from here on is told within it. A connection's is not entered within that of one of its exchanges.
    #[cfg_attr(not(feature = "tracing"), expect(clippy::unused_self, reason = "there is nothing to enter"))]
    #[inline(always)]
    pub(crate) fn enter(&self) -> Entered<'_> {
        #[cfg(feature = "tracing")]
        let before = AT_WORK.try_with(std::cell::Cell::get).ok().flatten();
        #[cfg(feature = "tracing")]
        let covered = !self.is_exchange && before == Some(self.connection);
        #[cfg(feature = "tracing")]
        if self.is_exchange {
            let _ = AT_WORK.try_with(|at_work| at_work.set(Some(self.connection)));
        }
        Entered {
            #[cfg(feature = "tracing")]
            _entered: self.span.as_ref().filter(|_| !covered).map(tracing::Span::enter),
            #[cfg(feature = "tracing")]
            before,
            span: std::marker::PhantomData,
        }
    }
}

#[cfg(feature = "tracing")]
impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // A thread that ends may still drop handles.
        let _ = AT_WORK.try_with(|at_work| at_work.set(self.before));
    }
}
