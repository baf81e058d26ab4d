//! Two versions of one saga on one database: what the newer has written is parked by the older, and not misread; and the
//! newer goes on with it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use saga_core::{
    Bus, Client, DeadLetterPage, DeadLetterRow, EmbeddedBus, Envelope, JournalOutcome, Machine, Message, PostgresStore,
    RetryPolicy, Runtime, Saga, SqliteStore, Store,
};
use serde::{Deserialize, Serialize};
use test_servers::Postgres;
use uuid::Uuid;

/// What takes so long never happens.
pub const PATIENCE: Duration = Duration::from_secs(60);

macro_rules! messages {
    ($($name:ident)+) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name { pub parcel: Uuid }
        impl Message for $name { const NAME: &'static str = concat!("Parcels:", stringify!($name)); }
    )+};
}
messages! { Sent SentAbroad Inspected Arrived }

/// The parcel's saga as it was.
pub mod older {
    use super::{Arrived, Deserialize, Saga, Sent, Serialize};
    use ParcelEvent::*;
    use ParcelState::*;
    use saga_core::{Correlation, Effects, Rule, events, ignore, reject, states};

    states! { pub enum ParcelState { New, Travelling, Home } }
    events! { pub enum ParcelEvent { Sent, Arrived } }

    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    pub struct Parcel;

    impl Saga for Parcel {
        const NAME: &'static str = "parcel";
        const ENDPOINT: &'static str = "parcel-saga";
        type State = ParcelState;
        type Event = ParcelEvent;
        type Row = ();

        fn correlate(event: ParcelEvent) -> Correlation {
            match event {
                Sent(on) => on.by(|it| it.parcel),
                Arrived(on) => on.by(|it| it.parcel),
            }
        }

        fn table(state: ParcelState, event: ParcelEvent) -> Rule<Self> {
            match (state, event) {
                (New, Sent(on)) => on.to(Travelling, |_, _, _| Effects::none()),
                (New, Arrived(_)) => reject("it was never sent"),
                (Travelling, Arrived(on)) => on.to(Home, |_, _, _| Effects::none()),
                (Travelling | Home, Sent(_)) | (Home, Arrived(_)) => ignore(),
            }
        }
    }
}

/// The parcel's saga as it is now: with one more state, and two more messages.
pub mod newer {
    use super::{Arrived, Deserialize, Inspected, Saga, Sent, SentAbroad, Serialize};
    use ParcelEvent::*;
    use ParcelState::*;
    use saga_core::{Correlation, Effects, Rule, defer, events, ignore, reject, states};

    states! { pub enum ParcelState { New, Travelling, Home, Customs } }
    events! { pub enum ParcelEvent { Sent, SentAbroad, Inspected, Arrived } }

    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    pub struct Parcel;

    impl Saga for Parcel {
        const NAME: &'static str = "parcel";
        const ENDPOINT: &'static str = "parcel-saga";
        type State = ParcelState;
        type Event = ParcelEvent;
        type Row = ();

        fn correlate(event: ParcelEvent) -> Correlation {
            match event {
                Sent(on) => on.by(|it| it.parcel),
                SentAbroad(on) => on.by(|it| it.parcel),
                Inspected(on) => on.by(|it| it.parcel),
                Arrived(on) => on.by(|it| it.parcel),
            }
        }

        fn table(state: ParcelState, event: ParcelEvent) -> Rule<Self> {
            match (state, event) {
                (New, Sent(on)) => on.to(Travelling, |_, _, _| Effects::none()),
                (New, SentAbroad(on)) => on.to(Customs, |_, _, _| Effects::none()),
                (New, Inspected(_) | Arrived(_)) => reject("it was never sent"),
                (Customs, Inspected(on)) => on.to(Travelling, |_, _, _| Effects::none()),
                (Customs, Arrived(_)) => defer("it is not inspected"),
                (Travelling, Arrived(on)) => on.to(Home, |_, _, _| Effects::none()),
                (Customs | Travelling | Home, Sent(_) | SentAbroad(_)) => ignore(),
                (Travelling | Home, Inspected(_)) | (Home, Arrived(_)) => ignore(),
            }
        }
    }
}

/// Runs a version of the saga while `work` is done.
pub async fn run<S: Saga, F: Future<Output = ()>>(
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    work: impl FnOnce(Client) -> F,
) {
    let retry = RetryPolicy { limit: 3, initial: Duration::from_millis(2), max: Duration::from_millis(8) };
    let runtime = Runtime::builder(store, bus).retry(retry).saga::<S>().build().unwrap();
    let client = runtime.client();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run(async { drop(stopped.await) }));
    work(client).await;
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, running).await.expect("it does not end").unwrap().unwrap();
}

/// The message of that name for a parcel, under an id of its own.
pub fn envelope<M: Message>(message: &M, parcel: Uuid) -> Envelope {
    Envelope::new(saga_core::derive_id(parcel, M::NAME), message).correlated(parcel)
}

/// Waits until a condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let held = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap_or_else(|_| panic!("{what}: never"));
}

pub async fn state(store: &dyn Store, parcel: Uuid) -> Option<String> {
    store.instance("parcel", parcel).await.unwrap().map(|it| it.state)
}

pub async fn dead_letters(store: &dyn Store) -> Vec<DeadLetterRow> {
    store.dead_letters(&DeadLetterPage { before: None, limit: 1_000 }).await.unwrap()
}

/// The history is a legal path of the newer table, to what is stored.
pub async fn assert_sound(store: &dyn Store, parcel: Uuid) {
    let instance = store.instance("parcel", parcel).await.unwrap();
    let journal = store.journal("parcel", parcel).await.unwrap();
    assert_eq!(Machine::<newer::Parcel>::new().check(instance.as_ref(), &journal), [], "{journal:#?}");
}

const ABROAD: Uuid = Uuid::from_u128(1);
const LATER: Uuid = Uuid::from_u128(2);
const PLAIN: Uuid = Uuid::from_u128(3);

async fn an_older_version_parks_what_a_newer_one_goes_on_with(store: Arc<dyn Store>) {
    let s = &*store;
    let endpoint = newer::Parcel::ENDPOINT;
    let embedded = || Arc::new(EmbeddedBus::new());
    run::<newer::Parcel, _>(store.clone(), embedded(), async |client| {
        client.send(endpoint, envelope(&SentAbroad { parcel: ABROAD }, ABROAD)).await.unwrap();
        until("at the customs", async || state(s, ABROAD).await.as_deref() == Some("Customs")).await;
    })
    .await;
    let customs = s.instance("parcel", ABROAD).await.unwrap().unwrap();

    // Rolled back: a state and two messages that the older version does not know, beside what it does know.
    run::<older::Parcel, _>(store.clone(), embedded(), async |client| {
        client.send(endpoint, envelope(&Arrived { parcel: ABROAD }, ABROAD)).await.unwrap();
        client.send(endpoint, envelope(&Inspected { parcel: ABROAD }, ABROAD)).await.unwrap();
        client.send(endpoint, envelope(&SentAbroad { parcel: LATER }, LATER)).await.unwrap();
        client.send(endpoint, envelope(&Sent { parcel: PLAIN }, PLAIN)).await.unwrap();
        until("the plain one travels", async || state(s, PLAIN).await.as_deref() == Some("Travelling")).await;
        client.send(endpoint, envelope(&Arrived { parcel: PLAIN }, PLAIN)).await.unwrap();
        until("the plain one is home", async || state(s, PLAIN).await.as_deref() == Some("Home")).await;
        until("all is parked", async || {
            let backlog = s.backlog().await.unwrap();
            dead_letters(s).await.len() == 3 && backlog.outbox == 0 && backlog.timers == 0
        })
        .await;
    })
    .await;
    let parked = dead_letters(s).await;
    let reason = |name: &str| parked.iter().find(|it| it.envelope.name() == name).unwrap();
    let (arrived, inspected) = (reason(Arrived::NAME), reason(Inspected::NAME));
    assert!(arrived.error.contains("has a state that this version does not know: Customs"), "{arrived:?}");
    assert_eq!((arrived.attempts, &*arrived.reason), (4, "transient"), "another host might have known it");
    assert!(inspected.error.contains("has no column for Parcels:Inspected"), "{inspected:?}");
    assert_eq!((inspected.attempts, &*inspected.reason), (1, "undecodable"));
    // Not misread: nothing of the instance has changed but the mark of its fault.
    let now = s.instance("parcel", ABROAD).await.unwrap().unwrap();
    assert_eq!((&now.state, now.version, &now.data), (&customs.state, customs.version, &customs.data));
    assert!(now.fault.is_some(), "{now:?}");
    assert_eq!(state(s, LATER).await, None);
    let moved = |it: &saga_core::JournalRow| it.outcome == JournalOutcome::Moved;
    assert_eq!(s.journal("parcel", ABROAD).await.unwrap().iter().filter(|it| moved(it)).count(), 1);

    // A build that knows it goes on with what was parked.
    run::<newer::Parcel, _>(store.clone(), embedded(), async |client| {
        for name in [Inspected::NAME, Arrived::NAME, SentAbroad::NAME] {
            client.redrive(reason(name).id).await.unwrap();
            let backlog = async || s.backlog().await.unwrap();
            until("it is handled", async || backlog().await.outbox == 0 && backlog().await.timers == 0).await;
        }
    })
    .await;
    assert_eq!(state(s, ABROAD).await.as_deref(), Some("Home"));
    assert_eq!(state(s, LATER).await.as_deref(), Some("Customs"));
    assert_eq!(s.instance("parcel", ABROAD).await.unwrap().unwrap().fault, None, "it is mended");
    assert_eq!(dead_letters(s).await, []);
    for parcel in [ABROAD, LATER, PLAIN] {
        assert_sound(s, parcel).await;
    }
}

#[tokio::test]
async fn given_sqlite_when_rolled_back_and_upgraded_again_then_what_is_newer_is_parked_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let store = SqliteStore::builder(&url).open().await.unwrap();
    store.migrate(&SqliteStore::migrator()).await.unwrap();
    an_older_version_parks_what_a_newer_one_goes_on_with(Arc::new(store)).await;
}

#[tokio::test]
async fn given_postgres_when_rolled_back_and_upgraded_again_then_what_is_newer_is_parked_and_goes_on() {
    let store = PostgresStore::builder(&Postgres::shared().database()).open().await.unwrap();
    store.migrate(&PostgresStore::migrator()).await.unwrap();
    an_older_version_parks_what_a_newer_one_goes_on_with(Arc::new(store)).await;
}
