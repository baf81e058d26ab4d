//! What operators are told: one log line and one count for each thing that went wrong.

use crate::message::Envelope;
use crate::unit_of_work::Verdict;

/// Counts a handled message, and logs it if it failed: a retry as a warning, a dead letter as one error.
pub(crate) fn verdict(endpoint: &str, envelope: &Envelope, verdict: &Verdict) {
    let labels = [("endpoint", endpoint.to_owned()), ("outcome", verdict.label().to_owned())];
    metrics::counter!("saga_messages_handled_total", &labels).increment(1);
    let (message_id, message_type, attempt) = (envelope.message_id, envelope.name(), envelope.attempt());
    let correlation_id = envelope.correlation_id.map(tracing::field::display);
    let trace_id = envelope.trace_id();
    match verdict {
        Verdict::Handled(_) => {}
        Verdict::Again(failure) => {
            metrics::counter!("saga_messages_retried_total", &labels[..1]).increment(1);
            let kind = failure.kind().name();
            tracing::warn!(
                endpoint, message_type, %message_id, correlation_id, trace_id, attempt, kind, error = %failure, "retried"
            );
        }
        Verdict::Dead(failure) => {
            metrics::counter!("saga_messages_faulted_total", &labels[..1]).increment(1);
            let kind = failure.kind().name();
            tracing::error!(
                endpoint, message_type, %message_id, correlation_id, trace_id, attempt, kind, error = %failure,
                "the message is a dead letter"
            );
        }
    }
}
