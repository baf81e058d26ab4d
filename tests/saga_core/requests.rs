//! Requests: who asks gets the answer of a consumer, of a saga or of an activity, the `Fault`, or the end of its patience.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use saga_core::testkit::ManualClock;
use saga_core::{
    Activity, ActivityHandler, Client, Consumer, Correlation, Ctx, Effects, EmbeddedBus, Envelope, Failure,
    HandlerContext, HandlerOptions, LoadQuery, MemoryStore, Message, Output, Request, RequestError, Roles, Rule,
    Runtime, Saga, Store, events, states,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uuid::Uuid;

macro_rules! messages {
    ($($name:ident = $wire:literal;)+) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        struct $name { door: Uuid, text: String }
        impl Message for $name { const NAME: &'static str = $wire; }
        impl $name {
            fn of(text: &str) -> Self { Self { door: DOOR, text: text.to_owned() } }
        }
    )+};
}
messages! {
    Asked = "Doors:Asked";
    Answered = "Doors:Answered";
    Knocked = "Doors:Knocked";
    Opened = "Doors:Opened";
    Paint = "Doors:Paint";
    Painted = "Doors:Painted";
    PaintFailed = "Doors:PaintFailed";
}

const DOOR: Uuid = Uuid::from_u128(0xd00f);

/// Answers every question but one.
struct Porter;

#[async_trait]
impl Consumer<Asked> for Porter {
    type Row = ();
    async fn consume(&self, event: &Asked, _: &HandlerContext) -> Result<Output<()>, Failure> {
        match event.text.as_str() {
            "nothing" => Ok(Output::none()),
            "impossible" => Err(Failure::permanent("nobody knows that")),
            text => Ok(Output::none().respond(&Answered::of(&format!("yes, {text}"))).publish(&Opened::of("as well"))),
        }
    }
}

struct Painter;

impl Activity for Paint {
    const ENDPOINT: &'static str = "painter";
    type Outcome = Painted;
    type Failed = PaintFailed;
    fn failed(&self, failure: &Failure) -> PaintFailed {
        PaintFailed::of(failure.message())
    }
}

#[async_trait]
impl ActivityHandler<Paint> for Painter {
    async fn execute(&self, command: &Paint, _: &HandlerContext) -> Result<Painted, Failure> {
        match command.text.as_str() {
            "invisible" => Err(Failure::permanent("there is no such paint")),
            text => Ok(Painted::of(text)),
        }
    }
}

states! { enum DoorState { Closed, Open } }
events! { enum DoorEvent { Knocked } }

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Door;

impl Saga for Door {
    const NAME: &'static str = "door";
    const ENDPOINT: &'static str = "door-saga";
    type State = DoorState;
    type Event = DoorEvent;
    type Row = ();

    fn correlate(event: DoorEvent) -> Correlation {
        match event {
            DoorEvent::Knocked(on) => on.by(|it| it.door),
        }
    }

    fn table(state: DoorState, event: DoorEvent) -> Rule<Self> {
        match (state, event) {
            (DoorState::Closed, DoorEvent::Knocked(on)) => on.to(DoorState::Open, open),
            (DoorState::Open, DoorEvent::Knocked(on)) => on.stay(open),
        }
    }
}

fn open(_: &mut Door, event: &Knocked, _: &Ctx<'_>) -> Effects<Door> {
    Effects::none().respond(Opened::of(&event.text))
}

struct House {
    client: Client,
    clock: Arc<ManualClock>,
    store: MemoryStore,
    stop: Option<oneshot::Sender<()>>,
    running: tokio::task::JoinHandle<()>,
}

impl House {
    fn start() -> Self {
        let (store, clock) = (MemoryStore::builder().build(), Arc::new(ManualClock::default()));
        let runtime = Runtime::builder(Arc::new(store.clone()), Arc::new(EmbeddedBus::new()))
            .clock(clock.clone())
            .roles(Roles::ALL)
            .host(Uuid::from_u128(1))
            .saga::<Door>()
            .consumer::<Asked>("porter", Porter, HandlerOptions::default())
            .activity::<Paint>(Painter, HandlerOptions::default())
            .build()
            .unwrap();
        let client = runtime.client();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            runtime.run(async { drop(stopped.await) }).await.unwrap();
        });
        Self { client, clock, store, stop: Some(stop), running }
    }
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

#[tokio::test]
async fn given_a_consumer_when_it_is_asked_then_its_answer_reaches_who_asked_alone() {
    let house = House::start();
    let ask = |n: u128, text: &str| house.client.request(Request::<Answered>::new(id(n), &Asked::of(text)));
    let (one, two) = tokio::join!(ask(10, "one"), ask(11, "two"));
    assert_eq!((one.unwrap().message.text, two.unwrap().message.text), ("yes, one".into(), "yes, two".into()));
    let three = ask(12, "three").await.unwrap().envelope;
    assert_eq!(three.conversation_id, Some(id(12)), "the answer belongs to the request's conversation");
    assert_eq!(three.initiator_id, three.request_id, "a request without a correlation id is named by its request id");
}

#[tokio::test]
async fn given_a_saga_when_it_is_asked_then_its_transition_answers_at_each_request() {
    let house = House::start();
    for (n, text) in [(20, "first"), (21, "second")] {
        let knock = Request::<Opened>::new(id(n), &Knocked::of(text)).to("door-saga").for_user("anna");
        let opened = house.client.request(knock).await.unwrap();
        assert_eq!(opened.message, Opened::of(text));
        assert_eq!((opened.envelope.correlation_id, opened.envelope.user()), (Some(DOOR), Some("anna")));
    }
    let journal = house.store.journal(Door::NAME, DOOR).await.unwrap();
    assert_eq!(journal.len(), 2);
    let effect = &journal[0].effects[0];
    assert_eq!((&*effect.kind, effect.name.as_deref()), ("respond", Some(Opened::NAME)));
}

#[tokio::test]
async fn given_an_activity_when_it_is_called_by_a_request_then_outcome_or_fault_comes_back() {
    let house = House::start();
    let paint =
        |n: u128, text: &str| house.client.request(Request::<Painted>::new(id(n), &Paint::of(text)).to("painter"));
    assert_eq!(paint(30, "red").await.unwrap().message, Painted::of("red"));
    match paint(31, "invisible").await {
        Err(RequestError::Fault(fault)) => assert_eq!(fault.reason(), "there is no such paint"),
        other => panic!("a fault was expected: {other:?}"),
    }
}

#[tokio::test]
async fn given_a_consumer_that_fails_for_good_when_it_is_asked_then_the_fault_reaches_who_asked() {
    let house = House::start();
    match house.client.request(Request::<Answered>::new(id(40), &Asked::of("impossible"))).await {
        Err(RequestError::Fault(fault)) => {
            assert_eq!((fault.reason(), fault.faulted_message_id), ("nobody knows that", Some(id(40))));
            assert_eq!(fault.fault_message_types.unwrap_or_default(), ["urn:message:Doors:Asked"]);
        }
        other => panic!("a fault was expected: {other:?}"),
    }
}

#[tokio::test]
async fn given_nobody_who_answers_when_the_patience_ends_then_it_says_so() {
    let house = House::start();
    let patience = Duration::from_secs(7);
    let request = Request::<Answered>::new(id(50), &Asked::of("nothing")).timeout(patience);
    let (client, clock) = (house.client.clone(), house.clock.clone());
    let asking = tokio::spawn(async move { client.request(request).await });
    let limit = clock_limit(&clock, patience);
    while clock.next_wake(limit).is_none() {
        tokio::task::yield_now().await;
    }
    house.clock.advance(patience);
    assert!(matches!(asking.await.unwrap(), Err(RequestError::Timeout(it)) if it == patience));
}

fn clock_limit(clock: &ManualClock, patience: Duration) -> chrono::DateTime<chrono::Utc> {
    saga_core::Clock::now(clock) + patience
}

#[tokio::test]
async fn given_an_answer_that_nobody_asked_for_when_it_comes_then_it_is_taken_and_breaks_nothing() {
    let house = House::start();
    let mut stray = Envelope::new(id(60), &Answered::of("stray"));
    stray.request_id = Some(id(61));
    house.client.send("saga-replies-00000000000000000000000000000001", stray).await.unwrap();
    let answer = house.client.request(Request::<Answered>::new(id(62), &Asked::of("still there"))).await;
    assert_eq!(answer.unwrap().message.text, "yes, still there");
    while house.store.backlog().await.unwrap().outbox > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.store.backlog().await.unwrap().dead_letters, 0);
}

#[tokio::test]
async fn given_a_runtime_that_stops_when_somebody_waits_for_an_answer_then_he_is_told() {
    let mut house = House::start();
    let client = house.client.clone();
    let asking =
        tokio::spawn(async move { client.request(Request::<Answered>::new(id(70), &Asked::of("nothing"))).await });
    let query = LoadQuery { endpoint: "porter", messages: &[id(70)], saga: "", instances: &[] };
    while house.store.load(&query).await.unwrap().handled.is_empty() {
        tokio::task::yield_now().await;
    }
    drop(house.stop.take());
    assert!(matches!(asking.await.unwrap(), Err(RequestError::Stopped)));
    house.running.await.unwrap();
}
