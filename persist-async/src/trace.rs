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

/// A span, or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: Option<tracing::Span>,
    #[cfg(feature = "tracing")]
    connection: u64,
}

/// A span that was entered, until it is dropped.
pub(crate) struct Entered<'a> {
    #[cfg(feature = "tracing")]
    _entered: Option<tracing::span::Entered<'a>>,
    span: std::marker::PhantomData<&'a Span>,
}

impl Span {
    /// Of a connection.
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "there is nothing to tell"))]
    pub(crate) fn connection(id: u64, role: &'static str) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: Some(tracing::debug_span!(
                target: "persist",
                "connection",
                connection = id,
                role,
            )),
            #[cfg(feature = "tracing")]
            connection: id,
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
        }
    }

    /// What is told from here on is told within it.
    #[cfg_attr(not(feature = "tracing"), expect(clippy::unused_self, reason = "there is nothing to enter"))]
    #[inline(always)]
    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered {
            #[cfg(feature = "tracing")]
            _entered: self.span.as_ref().map(tracing::Span::enter),
            span: std::marker::PhantomData,
        }
    }
}
