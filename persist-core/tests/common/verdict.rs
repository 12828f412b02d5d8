//! Whether what two machines said about a connection is true, judged from what the network saw.

use persist_core::{CloseReason, Disposition, Failure, Method, Overlap};

use super::plan::Content;
use super::seen::{Log, Seen};
use super::world::{Sent, World, content_of};

impl World {
    /// Bytes of this request that the link took.
    fn accepted_of(&self, index: usize) -> u64 {
        let start = self.sent[index].start;
        let end = self.sent.get(index + 1).map_or(u64::MAX, |next| next.start);
        self.up.accepted.clamp(start, end.max(start)) - start
    }

    /// Judges everything, once the client's machine has closed or is at rest.
    pub fn judge(&self) {
        for index in 0..self.sent.len() {
            self.judge_exchange(index);
        }
        self.judge_server();
        for log in [&self.client.log, &self.server.log] {
            no_event_follows_the_last(log);
        }
        if let (true, Some(reason)) = (self.client.closed, self.client.conn.close_reason()) {
            assert_eq!(self.client.log.closed(), Some(reason));
        }
    }

    fn judge_exchange(&self, index: usize) {
        let sent = &self.sent[index];
        let ends = self.client.log.ends(sent.id.number());
        assert_eq!(ends.len(), 1, "exchange {} must end exactly once: {ends:?}\n{self:?}", sent.id.number());
        match ends[0] {
            None => self.judge_reply(sent),
            Some(failure) => self.judge_failure(index, failure),
        }
    }

    /// A complete reply is the one to this request, whole.
    fn judge_reply(&self, sent: &Sent) {
        let number = sent.id.number();
        let head = self.client.log.0.iter().find_map(|seen| match seen {
            Seen::Head(whose, line, _) if *whose == number => Some(line),
            _ => None,
        });
        let head = head.expect("a reply without a head");
        let content = self.client.log.content(number);
        let answers = head.split(" | ").find_map(|field| field.strip_prefix("X-Answers: "));
        let Some(answers) = answers else {
            let by_machine = ["500", "408", "503", "400"].iter().any(|status| head.starts_with(status));
            assert!(by_machine && content.is_empty(), "who answered this? {head}");
            return;
        };
        assert_eq!(answers, sent.ask.to_string(), "the answer to another request: {head}");
        let answer = &self.plan.answers[sent.ask];
        let bare = self.plan.asks[sent.ask].method == Method::HEAD || matches!(answer.status, 204 | 304);
        let expected = content_of(sent.ask, if bare { 0 } else { answer.content.len() });
        // An HTTP/1.0 client gets no chunks, so such a reply ends with the connection too.
        let until_close = matches!(answer.content, Content::UntilClose(_))
            || self.plan.downgrade_requests && matches!(answer.content, Content::Chunked(..));
        if until_close {
            assert!(expected.starts_with(&content), "not what was answered to {}", sent.ask);
        } else {
            assert_eq!(content, expected, "not what was answered to {}", sent.ask);
        }
    }

    fn judge_failure(&self, index: usize, failure: &Failure) {
        let sent = &self.sent[index];
        let accepted = self.accepted_of(index);
        assert_eq!(failure.sent, accepted, "request {}: {failure}\n{self:?}", sent.ask);
        let is_unsent = failure.disposition == Disposition::NotSent;
        assert_eq!(is_unsent, accepted == 0, "NotSent if, and only if, no byte was taken: {failure}");
        if let Disposition::PartlySent { bytes } = failure.disposition {
            assert_eq!(bytes, accepted);
        }
        let handler = self.handlers.iter().find(|handler| handler.ask == sent.ask);
        if let Some(handler) = handler {
            assert!(!is_unsent, "the server has it");
            // What may overlap may have begun; and an HTTP/1.0 response says close for a server that does not know it did.
            let may_have_begun = self.plan.overlap == Overlap::Any || self.plan.asks[sent.ask].method.is_safe();
            let excused = may_have_begun || self.plan.downgrade_responses;
            assert!(
                failure.disposition != Disposition::Declined || excused,
                "the server took what it declined: {self:?}"
            );
            let seen_whole = self.server.log.ends(handler.id.number()).contains(&None);
            let said_partly = matches!(failure.disposition, Disposition::PartlySent { .. });
            assert!(!(seen_whole && said_partly), "the server has all of it: {failure}\n{self:?}");
        }
        if sent.cancelled && failure.reason == CloseReason::Aborted {
            return;
        }
        assert!(
            !failure.reason.is_graceful() || failure.disposition != Disposition::ReplyPartial || self.client.closed
        );
    }

    fn judge_server(&self) {
        let heads = self.handlers.len();
        let mut ended = 0;
        for handler in &self.handlers {
            let number = handler.id.number();
            let failures = self.server.log.ends(number).into_iter().flatten().count();
            assert!(failures <= 1, "told twice that {number} ended");
            ended += failures;
            let ask = &self.plan.asks[handler.ask];
            let expected = content_of(handler.ask, ask.content.len());
            let content = self.server.log.content(number);
            assert!(expected.starts_with(&content), "not what was asked in {}", handler.ask);
            if self.server.log.ends(number).contains(&None) {
                assert_eq!(content, expected, "not all that was asked in {}", handler.ask);
            }
        }
        if self.server.closed {
            let completed = self.server.conn.completed() as usize;
            assert_eq!(heads, completed + ended, "every request is answered, or ends: {self:?}");
        }
    }
}

/// After `Ended` nothing more is heard of an exchange, and after `Closed` of anything.
fn no_event_follows_the_last(log: &Log) {
    for (at, seen) in log.0.iter().enumerate() {
        let later = &log.0[at + 1..];
        match seen {
            Seen::Closed(_) => assert!(later.is_empty(), "after Closed: {later:?}"),
            Seen::Ended(id, _) => {
                let more = later.iter().find(|seen| whose(seen) == Some(*id));
                assert!(more.is_none(), "after the end of {id}: {more:?}");
            }
            _ => {}
        }
    }
}

fn whose(seen: &Seen) -> Option<u64> {
    match seen {
        Seen::Interim(id, _) | Seen::Head(id, ..) | Seen::Data(id, _) | Seen::End(id, _) | Seen::Ended(id, _) => {
            Some(*id)
        }
        Seen::Continue(id) | Seen::UploadStopped(id) | Seen::Switched(id) => Some(*id),
        Seen::Closed(_) => None,
    }
}
