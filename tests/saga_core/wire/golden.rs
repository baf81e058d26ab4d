//! What we write, pinned: what a runtime gives to its bus, as the wire has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use saga_core::testkit::ManualClock;
use saga_core::wire::{Incoming, Outgoing, Read, read, skipped_headers, write};
use saga_core::{
    Activity, Bus, BusError, Confirm, Delivery, Endpoint, Envelope, HandlerOptions, MemoryStore, Message, OutboxId,
    OutboxRow, Receipt, Runtime, Saga, header,
};
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::{base, delivery, headers, host};
use crate::lamp::{Electrician, Exploded, Job, LAMP, Lamp, Lit, Pushed, TooLong, WARNING, Wire, Wired};

/// A bus that confirms and shows everything that is sent, and delivers what the test says.
struct Wiretap {
    endpoints: Mutex<HashMap<String, mpsc::UnboundedSender<Delivery>>>,
    confirms: Mutex<Option<mpsc::UnboundedSender<Confirm>>>,
    sent: mpsc::UnboundedSender<OutboxRow>,
    acknowledged: Notify,
}

#[async_trait]
impl Bus for Wiretap {
    async fn start(
        &self,
        endpoints: &[Endpoint],
        confirms: mpsc::UnboundedSender<Confirm>,
    ) -> Result<Vec<mpsc::UnboundedReceiver<Delivery>>, BusError> {
        *self.confirms.lock().unwrap() = Some(confirms);
        let channels = endpoints.iter().map(|endpoint| {
            let (sender, receiver) = mpsc::unbounded_channel();
            self.endpoints.lock().unwrap().insert(endpoint.name.to_string(), sender);
            receiver
        });
        Ok(channels.collect())
    }

    async fn send(&self, rows: Vec<(OutboxId, OutboxRow)>) {
        let confirms = self.confirms.lock().unwrap().clone().unwrap();
        for (id, row) in rows {
            self.sent.send(row).unwrap();
            confirms.send(Confirm { id, result: Ok(()) }).unwrap();
        }
    }

    fn acknowledge(&self, _: &[Receipt]) {
        self.acknowledged.notify_one();
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A house with one lamp, on that bus.
struct House {
    bus: Arc<Wiretap>,
    sent: mpsc::UnboundedReceiver<OutboxRow>,
    clock: Arc<ManualClock>,
}

impl House {
    fn deliver(&self, endpoint: &str, envelope: Envelope) {
        let (envelope, receipt) = (Arc::new(envelope), Receipt { epoch: 1, tag: 1 });
        let delivery = Delivery { envelope, receipt, redelivered: 0 };
        self.bus.endpoints.lock().unwrap()[endpoint].send(delivery).unwrap();
    }

    /// The next message of that type that is sent; others go unheard.
    async fn next(&mut self, name: &str) -> Envelope {
        loop {
            let row = tokio::time::timeout(Duration::from_secs(20), self.sent.recv()).await.unwrap().unwrap();
            if row.envelope.name() == name {
                return Envelope::clone(&row.envelope);
            }
        }
    }
}

async fn in_a_house(script: Vec<Job>, test: impl AsyncFnOnce(&mut House)) {
    let (sent, receiver) = mpsc::unbounded_channel();
    let bus = Arc::new(Wiretap {
        endpoints: Mutex::default(),
        confirms: Mutex::default(),
        sent,
        acknowledged: Notify::new(),
    });
    let electrician = Electrician { script: Arc::new(Mutex::new(script)), ..Electrician::default() };
    let clock = Arc::new(ManualClock::default());
    let runtime = Runtime::builder(Arc::new(MemoryStore::builder().build()), bus.clone()).clock(clock.clone());
    let runtime = runtime.saga::<Lamp>().activity::<Wire>(electrician, HandlerOptions::default()).build().unwrap();
    let mut house = House { bus, sent: receiver, clock };
    let bus = house.bus.clone();
    let done = Notify::new();
    let run = async { runtime.run(done.notified()).await.unwrap() };
    let test = async {
        // The endpoints are there once the runtime has begun to run.
        while bus.endpoints.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        test(&mut house).await;
        done.notify_one();
    };
    tokio::join!(run, test);
}

const ID: Uuid = Uuid::from_u128(0x7b0e_0000_5d2a_0242_9c11_08dd_31aa_0001);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap()
}

/// A push as it comes over the wire, from a foreign service.
fn pushed() -> Envelope {
    let body = json!({
        "messageId": ID, "conversationId": Uuid::from_u128(5), "messageType": [format!("urn:message:{}", Pushed::NAME)],
        "message": { "lamp": LAMP },
        "headers": { "tenant": "eu-1", "Saga-User": "ada", "flags": ["a"], "beta": true, "gamma": false, "MT-Activity-Id": TRACE },
    });
    let (body, base) = (body.to_string(), base());
    match read(&Incoming { handles: &[Pushed::NAME], ..delivery(body.as_bytes(), &base) }) {
        Read::Message(envelope) => envelope,
        other => panic!("{other:?}"),
    }
}

/// JSON with a line for each member, and else as it is.
fn laid_out(json: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) = (String::new(), 0, false, false);
    for letter in json.chars() {
        let opens = !in_text && matches!(letter, '{' | '[');
        let closes = !in_text && matches!(letter, '}' | ']');
        depth = if closes { depth - 1 } else { depth };
        if closes {
            out.push_str(&format!("\n{}", "  ".repeat(depth)));
        }
        out.push(letter);
        depth = if opens { depth + 1 } else { depth };
        if opens || (!in_text && letter == ',') {
            out.push_str(&format!("\n{}", "  ".repeat(depth)));
        }
        in_text ^= letter == '"' && !escaped;
        escaped = in_text && letter == '\\' && !escaped;
    }
    out
}

fn shown(outgoing: &Outgoing) -> String {
    let body = laid_out(std::str::from_utf8(&outgoing.body).unwrap());
    let Outgoing { content_type, content_encoding, message_id, correlation_id, headers, .. } = outgoing;
    format!(
        "content_type: {content_type:?}\ncontent_encoding: {content_encoding:?}\nmessage_id: {message_id:?}\n\
         correlation_id: {correlation_id:?}\nheaders: {headers:#?}\n\n{body}"
    )
}

fn pin(name: &str, envelope: &Envelope) {
    insta::assert_snapshot!(name, shown(&write(envelope, &host(), &base()).unwrap()));
}

#[tokio::test]
async fn given_a_saga_and_an_activity_when_they_send_then_commands_answers_events_and_timers_are_as_committed() {
    in_a_house(vec![], async |house: &mut House| {
        house.deliver(Lamp::ENDPOINT, pushed());
        let command = house.next(Wire::NAME).await;
        pin("command", &command);
        house.deliver(Wire::ENDPOINT, command);
        let answer = house.next(Wired::NAME).await;
        pin("answer", &answer);
        house.deliver(Lamp::ENDPOINT, answer);
        pin("event", &house.next(Lit::NAME).await);
        house.clock.advance(WARNING);
        pin("timer", &house.next(TooLong::NAME).await);
    })
    .await;
}

#[tokio::test]
async fn given_a_foreign_request_when_it_is_handled_or_given_up_then_the_requester_is_answered() {
    let mut request = Envelope::new(ID, &Wire::of(LAMP)).begin_trace(TRACE).for_user("ada");
    request.request_id = Some(Uuid::from_u128(6));
    request.sent_time = Some(noon());
    request.source_address = Some("rabbitmq://mq/shop/web_bus_yyyo?temporary=true".to_owned());
    request.destination_address = Some("queue:electrician".to_owned());
    request.response_address.clone_from(&request.source_address);
    pin("request", &request);
    let mut doomed = request.clone();
    doomed.message_id = Uuid::from_u128(7);
    in_a_house(vec![Job::Fail, Job::Refuse], async |house: &mut House| {
        house.deliver(Wire::ENDPOINT, doomed);
        house.bus.acknowledged.notified().await;
        house.clock.advance(Duration::from_secs(3_600));
        let again = house.next(Wire::NAME).await;
        pin("redelivery", &again);
        house.deliver(Wire::ENDPOINT, again);
        let fault = house.next("MassTransit:Fault[[Lamps:Wire]]").await;
        pin("fault", &fault);
        house.deliver(Wire::ENDPOINT, request);
        let response = house.next(Wired::NAME).await;
        pin("response", &response);
    })
    .await;
}

#[tokio::test]
async fn given_what_nobody_can_decode_when_it_is_given_up_then_a_receive_fault_tells_of_it() {
    let base = base();
    let torn =
        Incoming { message_id: Some("7b0e0000-5d2a-0242-9c11-08dd31aa0001"), ..delivery(b"{\"torn\": tr", &base) };
    let Read::Undecodable(envelope) = read(&torn) else { panic!("it is torn") };
    in_a_house(vec![], async |house: &mut House| {
        house.deliver(Lamp::ENDPOINT, envelope);
        pin("receive_fault", &house.next("MassTransit:ReceiveFault").await);
        let exploded = Envelope::new(ID, &Exploded::of(LAMP));
        house.deliver(Lamp::ENDPOINT, exploded.with_attempt(4));
        pin("fault_of_a_panic", &house.next("MassTransit:Fault[[Lamps:Exploded]]").await);
    })
    .await;
}

#[test]
fn given_headers_of_every_kind_when_they_are_written_then_amqp_has_texts_and_numbers() {
    let mut envelope = Envelope::new(ID, &Lit::of(LAMP));
    envelope.headers = headers([
        ("text", "ü".into()),
        ("whole", (-7).into()),
        ("broken", 1.5.into()),
        ("yes", true.into()),
        ("no", false.into()),
        ("nothing", json!(null)),
        ("list", json!([1])),
        ("object", json!({})),
        ("x-delay", 5.into()),
        ("CC", "elsewhere".into()),
    ]);
    envelope.headers.insert("n".repeat(256).into(), 1.into());
    let written = write(&envelope, &host(), &base()).unwrap();
    let expected = [("broken", json!(1.5)), ("text", "ü".into()), ("whole", (-7).into()), ("yes", "True".into())];
    assert_eq!(written.headers, headers(expected));
    insta::assert_snapshot!("skipped", format!("{:#?}", skipped_headers(&host())));
    assert_eq!(header::ACTIVITY_ID, "MT-Activity-Id");
}
