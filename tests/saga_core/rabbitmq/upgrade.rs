//! Two versions of one saga side by side, on one database and one queue.

use std::sync::Arc;

use saga_core::{Message, PostgresStore, QueueType, Store};
use test_servers::{Postgres, Rabbit};
use uuid::Uuid;

use super::foreign::Foreign;
use super::house::quick;
use crate::upgrade::{
    Arrived, Inspected, Sent, SentAbroad, assert_sound, dead_letters, envelope, newer, older, run, state, until,
};

/// How many parcels travel; every second one goes abroad, as only the newer version knows.
const PARCELS: u128 = 60;
const SKIPPED: &str = "parcel-saga_skipped";

/// How many messages are in a queue; none where there is no such queue.
fn queued(url: &str, queue: &str) -> usize {
    let vhost = url.rsplit_once('/').unwrap().1;
    let count = format!(
        "case rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)) of
           {{ok, Q}} -> proplists:get_value(messages, rabbit_amqqueue:info(Q, [messages])); _ -> 0 end."
    );
    Rabbit::shared().eval(&count).parse().unwrap()
}

async fn host(url: &str) -> Arc<PostgresStore> {
    let store = PostgresStore::builder(url).open().await.unwrap();
    store.migrate(&PostgresStore::migrator()).await.unwrap();
    Arc::new(store)
}

/// Nothing is on its way any more: not in the store, and not in the queue.
async fn at_rest(store: &dyn Store, bus: &str) {
    let done = async || {
        let backlog = store.backlog().await.unwrap();
        backlog.outbox == 0 && backlog.timers == 0
    };
    until("it comes to rest", async || done().await && queued(bus, "parcel-saga") == 0 && done().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_two_versions_side_by_side_when_the_older_has_gone_then_the_newer_has_finished_everything() {
    let (url, bus_url) = (Postgres::shared().database(), Rabbit::shared().vhost());
    let (older_host, newer_host) = (host(&url).await, host(&url).await);
    // Classic queues say at once how many messages they have.
    let bus = || Arc::new(quick(&bus_url).queue_type(QueueType::Classic).build().unwrap());
    let parcels: Vec<Uuid> = (1..=PARCELS).map(Uuid::from_u128).collect();
    let abroad = |parcel: Uuid| parcel.as_u128().is_multiple_of(2);
    let s = &*newer_host;

    run::<newer::Parcel, _>(newer_host.clone(), bus(), async |client| {
        run::<older::Parcel, _>(older_host.clone(), bus(), async |old| {
            // Each version publishes what it knows; who handles it is the broker's choice.
            for &parcel in &parcels {
                match abroad(parcel) {
                    true => client.publish(envelope(&SentAbroad { parcel }, parcel)).await.unwrap(),
                    false => old.publish(envelope(&Sent { parcel }, parcel)).await.unwrap(),
                }
            }
            at_rest(s, &bus_url).await;
            for &parcel in &parcels {
                if abroad(parcel) {
                    client.publish(envelope(&Inspected { parcel }, parcel)).await.unwrap();
                }
                old.publish(envelope(&Arrived { parcel }, parcel)).await.unwrap();
            }
            at_rest(s, &bus_url).await;
        })
        .await;
        // The older one has gone. What it has put aside is counted, and nothing of it is lost.
        let (skipped, parked) = (queued(&bus_url, SKIPPED), dead_letters(s).await.len());
        println!("{skipped} messages were skipped by the older version, and {parked} are dead letters");
        assert!(skipped > 0, "the older version has met nothing that it does not know");
        let foreign = Foreign::at(&bus_url).await;
        for _ in 0..skipped {
            let (properties, body) = foreign.take(SKIPPED).await;
            foreign.publish("parcel-saga", "", properties, &body).await;
        }
        at_rest(s, &bus_url).await;
        // What has come too early for that is a dead letter by now, and redriven in its order.
        for name in [Inspected::NAME, Arrived::NAME] {
            for letter in dead_letters(s).await.iter().filter(|it| it.envelope.name() == name) {
                client.redrive(letter.id).await.unwrap();
            }
            at_rest(s, &bus_url).await;
        }
    })
    .await;

    assert_eq!((dead_letters(s).await.len(), queued(&bus_url, SKIPPED)), (0, 0));
    for &parcel in &parcels {
        assert_eq!(state(s, parcel).await.as_deref(), Some("Home"), "{parcel}");
        assert_sound(s, parcel).await;
        let steps = s.instance("parcel", parcel).await.unwrap().unwrap().version;
        assert_eq!(steps, if abroad(parcel) { 3 } else { 2 }, "{parcel}: each step once");
    }
}
