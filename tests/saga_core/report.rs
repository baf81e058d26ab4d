//! What operators are told.

use std::io;
use std::sync::{Arc, Mutex};

use saga_core::{Activity, Envelope};
use uuid::Uuid;

use crate::lamp::{Electrician, Job, LAMP, Watcher, Wire, house};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn given_a_message_of_a_trace_when_it_and_what_follows_fail_then_every_line_names_the_trace() {
    let (trace, log) = ("4bf92f3577b34da6a3ce929d0e0e4736", Log::default());
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let script = Arc::new(Mutex::new(vec![Job::Fail, Job::Refuse]));
        let mut harness = house(&Electrician { script, ..Electrician::default() }, &Watcher::default()).start();
        let command = Envelope::new(Uuid::from_u128(9), &Wire::of(LAMP));
        harness.send_envelope(Wire::ENDPOINT, command.begin_trace(&format!("00-{trace}-00f067aa0ba902b7-01")));
        harness.advance(std::time::Duration::from_secs(60));
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains(trace)).collect();
    assert_eq!((lines.len(), text.lines().count()), (3, 3), "{text}");
    assert!(lines[0].contains("WARN") && lines[0].contains("retried"), "{text}");
    assert!(lines[1].contains("ERROR") && lines[1].contains("the message is a dead letter"), "{text}");
    assert!(lines[2].contains("Lamps:WiringFailed"), "{text}");
}
