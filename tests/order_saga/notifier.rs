use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use order_saga::*;
use saga_core::testkit::Harness;
use saga_core::{Clock, Envelope, Failure, MemoryStore};
use uuid::Uuid;

use crate::fixture::{at, id, money};

/// Remembers mails, and fails as often as it is told to.
#[derive(Default)]
struct RecordingMailer {
    mails: Mutex<Vec<(Mail, Uuid)>>,
    failures: Mutex<u32>,
}

#[async_trait]
impl Mailer for RecordingMailer {
    async fn send(&self, mail: &Mail, idempotency_key: Uuid) -> Result<(), Failure> {
        self.mails.lock().unwrap().push((mail.clone(), idempotency_key));
        let mut failures = self.failures.lock().unwrap();
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err(Failure::retry("mail server away"))
    }
}

fn completed() -> OrderCompleted {
    OrderCompleted { order_id: id(7), user_id: "ann".to_owned(), total: money("99.80") }
}

fn expired() -> OrderExpired {
    OrderExpired { order_id: id(7), user_id: "ann".to_owned(), total: money("99.80"), since: at(-600) }
}

fn harness(mailer: &Arc<RecordingMailer>) -> (Harness, MemoryOrders) {
    let orders = MemoryOrders::default();
    let store =
        MemoryStore::builder().writer::<OrderRow, _>(orders.clone()).writer::<Notification, _>(orders.clone()).build();
    let process = OrderProcess::new(Arc::new(ScriptedGateway::new([])), mailer.clone());
    let harness = Harness::builder().store(store).with(move |builder| process.clone().register(builder)).start();
    (harness, orders)
}

#[test]
fn given_a_completed_order_when_heard_twice_then_one_mail_and_one_row_with_everything() {
    let mailer = Arc::new(RecordingMailer::default());
    let (mut harness, orders) = harness(&mailer);
    let mut event = Envelope::new(id(40), &completed());
    event.conversation_id = Some(id(41));
    harness.publish_envelope(event.clone());
    harness.publish_envelope(event);

    let mails = mailer.mails.lock().unwrap();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].1, id(40), "the key is the event's message id");
    assert_eq!((mails[0].0.user_id.as_str(), mails[0].0.order_id, mails[0].0.total), ("ann", id(7), money("99.80")));
    let row = Notification {
        id: notification_id(id(40)),
        order_id: id(7),
        user_id: "ann".to_owned(),
        kind: NotificationKind::Completed,
        result: "paid 99.80; mail sent".to_owned(),
        message_id: id(40),
        conversation_id: id(41),
        attempts: 1,
        created_at: harness.clock().now(),
    };
    assert_eq!(harness.block_on(orders.notifications(id(7))).unwrap(), [row]);
}

#[test]
fn given_the_same_news_under_another_message_id_when_heard_then_the_first_row_stays_alone() {
    let mailer = Arc::new(RecordingMailer::default());
    let (mut harness, orders) = harness(&mailer);
    harness.publish_envelope(Envelope::new(id(40), &completed()));
    harness.publish_envelope(Envelope::new(id(50), &completed()));
    let rows = harness.block_on(orders.notifications(id(7))).unwrap();
    assert_eq!(rows.iter().map(|row| row.message_id).collect::<Vec<_>>(), [id(40)]);
}

#[test]
fn given_an_expired_order_when_heard_then_a_row_and_no_mail() {
    let mailer = Arc::new(RecordingMailer::default());
    let (mut harness, orders) = harness(&mailer);
    harness.publish_envelope(Envelope::new(id(40), &expired()));
    let rows = harness.block_on(orders.notifications(id(7))).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].kind, rows[0].user_id.as_str()), (NotificationKind::Expired, "ann"));
    assert_eq!(rows[0].result, "not paid; had not moved since 2026-01-01T11:50:00+00:00");
    assert!(mailer.mails.lock().unwrap().is_empty());
}

#[test]
fn given_a_mailer_that_fails_once_when_retried_then_one_row_says_that_it_took_two_attempts() {
    let mailer = Arc::new(RecordingMailer { failures: Mutex::new(1), ..RecordingMailer::default() });
    let (mut harness, orders) = harness(&mailer);
    harness.publish_envelope(Envelope::new(id(40), &completed()));
    assert_eq!(harness.block_on(orders.notifications(id(7))).unwrap(), [], "a row says that the mail was sent");
    harness.advance(Duration::from_secs(60));
    let rows = harness.block_on(orders.notifications(id(7))).unwrap();
    assert_eq!(rows.iter().map(|row| row.attempts).collect::<Vec<_>>(), [2]);
    let keys: Vec<_> = mailer.mails.lock().unwrap().iter().map(|(_, key)| *key).collect();
    assert_eq!(keys, [id(40), id(40)], "both attempts carry one key");
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_fake_mailer_logs_one_structured_line() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mail =
        Mail { user_id: "ann".to_owned(), order_id: id(7), total: money("99.80"), subject: "Complete".to_owned() };
    LogMailer.send(&mail, id(40)).await.unwrap();
    drop(guard);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    let field = |name: &str| line["fields"][name].as_str().map(str::to_owned);
    assert_eq!(field("message").as_deref(), Some("mail sent"));
    assert_eq!(field("user_id").as_deref(), Some("ann"));
    assert_eq!(field("order_id"), Some(id(7).to_string()));
    assert_eq!(field("total").as_deref(), Some("99.80"));
    assert_eq!(field("idempotency_key"), Some(id(40).to_string()));
}
