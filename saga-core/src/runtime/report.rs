//! What operators are told: one log line and one count for each thing that went wrong.

use crate::message::Envelope;
use crate::unit_of_work::Verdict;

/// Tells of the messages of one batch. Their counts are added up first, because a metric is looked up by its labels each
/// time.
pub(crate) struct Report<'a> {
    endpoint: &'a str,
    /// By the outcome.
    counts: Vec<(&'static str, u64)>,
}

impl<'a> Report<'a> {
    pub(crate) fn of(endpoint: &'a str) -> Self {
        Self { endpoint, counts: Vec::new() }
    }

    /// Counts a handled message, and logs it if it failed: a retry as a warning, a dead letter as one error.
    pub(crate) fn verdict(&mut self, envelope: &Envelope, verdict: &Verdict) {
        let label = verdict.label();
        match self.counts.iter_mut().find(|(other, _)| *other == label) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((label, 1)),
        }
        let (failure, is_dead) = match verdict {
            Verdict::Handled(_) => return,
            Verdict::Again(failure) => (failure, false),
            Verdict::Dead(failure) => (failure, true),
        };
        let (endpoint, kind) = (self.endpoint, failure.kind().name());
        let (message_id, message_type, attempt) = (envelope.message_id, envelope.name(), envelope.attempt());
        let correlation_id = envelope.correlation_id.map(tracing::field::display);
        let trace_id = envelope.trace_id();
        if is_dead {
            metrics::counter!("saga_messages_faulted_total", "endpoint" => endpoint.to_owned()).increment(1);
            tracing::error!(
                endpoint, message_type, %message_id, correlation_id, trace_id, attempt, kind, error = %failure,
                "the message is a dead letter"
            );
        } else {
            metrics::counter!("saga_messages_retried_total", "endpoint" => endpoint.to_owned()).increment(1);
            tracing::warn!(
                endpoint, message_type, %message_id, correlation_id, trace_id, attempt, kind, error = %failure, "retried"
            );
        }
    }

    /// Adds the counts to the metrics.
    pub(crate) fn count(self) {
        for (outcome, count) in self.counts {
            let endpoint = self.endpoint.to_owned();
            metrics::counter!("saga_messages_handled_total", "endpoint" => endpoint, "outcome" => outcome)
                .increment(count);
        }
    }
}
