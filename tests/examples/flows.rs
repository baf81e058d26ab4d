//! The committed flows agree with today's table, and the replay says what is wrong with a bad file.

use std::path::Path;

use saga_core::Flow;

#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/replay.rs"]
mod example;

use super::{files, read};

fn error(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flow.jsonl");
    std::fs::write(&file, text).unwrap();
    example::replayed(&file).unwrap_err().to_string()
}

#[test]
fn given_the_committed_flows_when_replayed_then_todays_table_agrees() {
    let flows = files("examples/flows", ".jsonl");
    assert!(flows.len() >= 3, "{flows:?}");
    for file in flows {
        let replay = example::replayed(&file).unwrap();
        assert!(replay.agrees() && replay.steps.len() > 2, "{}:\n{replay}", file.display());
    }
}

#[test]
fn given_a_recording_of_another_decision_when_replayed_then_the_step_is_named() {
    let mut flow = Flow::read(&read("examples/flows/completed.jsonl")).unwrap();
    flow.steps[2].to = Some("Expired".into());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flow.jsonl");
    std::fs::write(&file, flow.write().unwrap()).unwrap();
    let replay = example::replayed(&file).unwrap();
    assert!(!replay.agrees());
    assert!(replay.to_string().contains("✗ to: recorded Expired, today Completed"), "{replay}");
}

#[test]
fn given_a_bad_file_when_replayed_then_the_error_says_which_line_and_what_was_expected() {
    let text = read("examples/flows/completed.jsonl");
    let lines: Vec<_> = text.lines().collect();
    let garbled = format!("{}\n{{\"stop\":1}}\n", lines[0]);
    let (garbled, headless) = (error(&garbled), error(&lines[1..].join("\n")));
    assert!(garbled.starts_with("line 2 is no line of a flow: unknown variant `stop`"), "{garbled}");
    assert!(garbled.contains("expected one of `header`, `step`, `end`"), "{garbled}");
    assert!(headless.starts_with("line 1 is out of place: a flow is a header"), "{headless}");
    assert_eq!(error(&lines[..3].join("\n")), "the flow was cut off: it has no end");
    assert_eq!(error(""), "the flow was cut off: it has no end");
    let trip = text.replacen("\"saga\":\"order\"", "\"saga\":\"trip\"", 1);
    assert_eq!(error(&trip), "the flow is one of saga trip, and order is replayed here");
    assert!(example::replayed(Path::new("no/such/file")).is_err());
}
