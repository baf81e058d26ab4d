//! W3C trace context, as MassTransit carries it.

use std::borrow::Cow;

use serde_json::Value;
use uuid::Uuid;

use crate::message::{Envelope, header};

/// The parts of a `traceparent`: `00-<trace>-<span>-<flags>`.
struct TraceParent<'a> {
    trace: &'a str,
    flags: &'a str,
}

impl<'a> TraceParent<'a> {
    /// Reads one of any version, of which all begin alike; `None`: it is none.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_id = |text: &str, digits| is_hex(text, digits) && text.bytes().any(|byte| byte != b'0');
        let is_version = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        (is_version && is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2)).then_some(Self { trace, flags })
    }
}

impl Envelope {
    /// Names the activity that the message comes from, by its `traceparent`; one that is malformed begins no trace.
    /// Every message that follows belongs to the same trace.
    #[must_use]
    pub fn begin_trace(mut self, traceparent: &str) -> Self {
        if TraceParent::parse(traceparent).is_some() {
            self.headers.insert(Cow::Borrowed(header::ACTIVITY_ID), Value::from(traceparent));
        }
        self
    }

    /// The trace that the message belongs to: 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<&str> {
        self.activity().map(|parent| parent.trace)
    }

    /// The activity that sends `message_id` because of this message: the same trace and flags, and a span of its own,
    /// derived from the message so that it is the same at each attempt.
    pub(crate) fn child_activity(&self, message_id: Uuid) -> Option<String> {
        let TraceParent { trace, flags } = self.activity()?;
        let (_, span) = message_id.as_u64_pair();
        // A span of zeros is none.
        Some(format!("00-{trace}-{:016x}-{flags}", span.max(1)))
    }

    fn activity(&self) -> Option<TraceParent<'_>> {
        self.text(header::ACTIVITY_ID).and_then(TraceParent::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Body;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of(traceparent: &str) -> Envelope {
        Envelope::raw(Uuid::from_u128(1), "A:B", Body::of(&())).begin_trace(traceparent)
    }

    #[test]
    fn given_trace_contexts_when_they_begin_a_trace_then_only_whole_ones_do() {
        for good in ["00-T-00f067aa0ba902b7-01", "00-T-00f067aa0ba902b7-00", "cc-T-00f067aa0ba902b7-01-what-else"] {
            assert_eq!(of(&good.replace('T', TRACE)).trace_id(), Some(TRACE), "{good}");
        }
        for bad in [
            "",
            "00-T-00f067aa0ba902b7",
            "00-T-00f067aa0ba902b7-01-more",
            "ff-T-00f067aa0ba902b7-01",
            "00-T-0000000000000000-01",
            "00-T-00F067AA0BA902B7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf9-00f067aa0ba902b7-01",
        ] {
            let envelope = of(&bad.replace('T', TRACE));
            assert_eq!((envelope.trace_id(), envelope.headers.len()), (None, 0), "{bad}");
        }
    }

    #[test]
    fn given_a_trace_when_a_message_follows_then_it_has_a_span_of_its_own_in_the_same_trace() {
        let cause = of(&format!("00-{TRACE}-00f067aa0ba902b7-01"));
        let child = Uuid::from_u128(0x1234_5678_9abc_def0_0f1e_2d3c_4b5a_6978);
        assert_eq!(cause.child_activity(child), Some(format!("00-{TRACE}-0f1e2d3c4b5a6978-01")));
        assert_eq!(cause.child_activity(Uuid::nil()), Some(format!("00-{TRACE}-0000000000000001-01")));
        assert_eq!(of("no trace").child_activity(child), None);
    }
}
