//! A recorded flow: the history of one instance as lines of JSON, to be kept, sent, and replayed.
//!
//! Each line is an object with one key that says what it is: `{"header": …}`, `{"step": …}`, `{"end": …}`. The first
//! line is a [`FlowLine::Header`], then comes one [`FlowLine::Step`] for each line of the journal, oldest
//! first, then one [`FlowLine::End`] with the instance as it was stored. A file without its last line was cut off.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commit::{JournalRow, Name, StoredInstance};
use crate::message::Body;

/// The version of the format that [`Flow::write`] writes and [`Flow::read`] takes. A field that is added needs
/// `#[serde(default)]`; anything else needs another version.
pub const FLOW_FORMAT: u32 = 1;

/// One line of a recorded flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FlowLine {
    /// The first line: what was recorded.
    Header(FlowHeader),
    /// What one message did.
    Step(Box<JournalRow>),
    /// The last line: where it ended.
    End(FlowEnd),
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowHeader {
    /// [`FLOW_FORMAT`].
    pub format: u32,
    /// [`Saga::NAME`](crate::Saga::NAME).
    pub saga: Name,
    /// The instance's id.
    pub id: Uuid,
    /// When the recording was written.
    pub recorded_at: DateTime<Utc>,
}

/// Where it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowEnd {
    /// The name of the state.
    pub state: String,
    /// How many steps it has taken.
    pub version: u64,
    /// The saga's data.
    pub data: Body,
    /// The failure that made one of its messages a dead letter and was not mended since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A recorded flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// What was recorded.
    pub header: FlowHeader,
    /// What each message did, oldest first.
    pub steps: Vec<JournalRow>,
    /// Where it ended.
    pub end: FlowEnd,
}

/// Why a flow can not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// A line is not what the format says.
    #[error("line {line} is no line of a flow: {error}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A line stands where it must not.
    #[error("line {0} is out of place: a flow is a header, its steps, and an end")]
    Order(usize),
    /// It was written in another format.
    #[error("the flow has format {0}, and {FLOW_FORMAT} is read here")]
    Format(u32),
    /// Its last line is missing.
    #[error("the flow was cut off: it has no end")]
    CutOff,
}

impl Flow {
    /// The flow of an instance and its journal.
    pub fn record(saga: &str, instance: &StoredInstance, steps: Vec<JournalRow>, now: DateTime<Utc>) -> Self {
        let saga = Name::Owned(saga.to_owned());
        Self {
            header: FlowHeader { format: FLOW_FORMAT, saga, id: instance.id, recorded_at: now },
            steps,
            end: FlowEnd {
                state: instance.state.clone(),
                version: instance.version,
                data: instance.data.clone(),
                fault: instance.fault.clone(),
            },
        }
    }

    /// The flow as lines of JSON, each with its line feed.
    ///
    /// # Errors
    /// Only when memory or a defect of serde says so: every field can be written.
    pub fn write(self) -> Result<String, serde_json::Error> {
        let steps = self.steps.into_iter().map(|step| FlowLine::Step(Box::new(step)));
        let lines = std::iter::once(FlowLine::Header(self.header)).chain(steps).chain([FlowLine::End(self.end)]);
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
        Ok(text)
    }

    /// Reads what [`Flow::write`] wrote; empty lines are passed over.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn read(text: &str) -> Result<Self, FlowError> {
        let (mut header, mut steps, mut end) = (None, Vec::new(), None);
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = index + 1;
            match serde_json::from_str(line).map_err(|error| FlowError::Line { line: number, error })? {
                FlowLine::Header(it) if it.format != FLOW_FORMAT => return Err(FlowError::Format(it.format)),
                FlowLine::Header(it) if header.is_none() => header = Some(it),
                FlowLine::Step(it) if header.is_some() && end.is_none() => steps.push(*it),
                FlowLine::End(it) if header.is_some() && end.is_none() => end = Some(it),
                _ => return Err(FlowError::Order(number)),
            }
        }
        match (header, end) {
            (Some(header), Some(end)) => Ok(Self { header, steps, end }),
            _ => Err(FlowError::CutOff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::JournalOutcome;

    fn flow() -> Flow {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let id = Uuid::from_u128(1);
        let step = JournalRow {
            saga: "order".into(),
            id,
            version: Some(1),
            endpoint: "order-saga".into(),
            message_id: Uuid::from_u128(2),
            message_type: "Orders:OrderSubmitted".into(),
            message: Body::of(&serde_json::json!({"total": "1.10"})),
            conversation_id: Uuid::from_u128(2),
            initiator_id: None,
            user: Some("anna".to_owned()),
            attempt: 1,
            outcome: JournalOutcome::Moved,
            from: Some("New".into()),
            to: Some("Pending".into()),
            effects: Vec::new(),
            error: None,
            at,
        };
        Flow {
            header: FlowHeader { format: FLOW_FORMAT, saga: "order".into(), id, recorded_at: at },
            steps: vec![step],
            end: FlowEnd { state: "Pending".to_owned(), version: 1, data: Body::of(&1), fault: None },
        }
    }

    #[test]
    fn given_a_flow_when_written_and_read_then_it_is_the_same() {
        let text = flow().write().unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with(r#"{"header":{"format":1,"saga":"order","#), "{text}");
        assert_eq!(Flow::read(&text).unwrap(), flow());
    }

    #[test]
    fn given_what_is_no_flow_when_read_then_the_error_says_where() {
        let text = flow().write().unwrap();
        let lines: Vec<_> = text.lines().collect();
        let error = |text: String| Flow::read(&text).unwrap_err().to_string();
        assert_eq!(error(lines[..2].join("\n")), "the flow was cut off: it has no end");
        assert!(error(format!("{}\n{}", lines[1], lines[0])).starts_with("line 1 is out of place"));
        assert!(error(format!("{}\n\n{{}}", lines[0])).starts_with("line 3 is no line of a flow"));
        assert!(error(text.replace("\"format\":1", "\"format\":2")).starts_with("the flow has format 2"));
    }
}
