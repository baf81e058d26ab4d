//! Two hosts, one instance, and many messages for it at once.

use std::sync::Arc;

use futures_util::future::join_all;
use saga_core::{
    Client, EmbeddedBus, Envelope, HandlerOptions, JournalOutcome, Machine, PostgresStore, Runtime, Saga, Store,
    Submitted,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::fixture::{Database, eventually, patience};
use crate::lamp::{Electrician, LAMP, Lamp, Lit, Pushed, Watcher, Wire};

/// Messages for the one instance; each goes to both hosts.
const PUSHES: u128 = 500;

/// A host on that database, with a bus of its own.
async fn host(database: &Database, stop: &watch::Sender<bool>) -> (Client, tokio::task::JoinHandle<()>) {
    let store = PostgresStore::builder(&database.url).open().await.unwrap();
    let runtime = Runtime::builder(Arc::new(store), Arc::new(EmbeddedBus::new()))
        .saga::<Lamp>()
        .activity::<Wire>(Electrician::default(), HandlerOptions::default())
        .consumer::<Lit>("watcher", Watcher::default(), HandlerOptions::default())
        .build()
        .unwrap();
    let (client, mut stopped) = (runtime.client(), stop.subscribe());
    let shutdown = async move { drop(stopped.wait_for(|it| *it).await) };
    (client, tokio::spawn(async move { runtime.run(shutdown).await.unwrap() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn given_two_hosts_when_the_same_messages_for_one_instance_reach_both_at_once_then_each_has_one_effect() {
    let database = Database::new();
    let beside = database.host().await;
    let stop = watch::Sender::new(false);
    let (one, other) = (host(&database, &stop).await, host(&database, &stop).await);
    let push = async |client: &Client, n: u128| {
        let envelope = Envelope::new(Uuid::from_u128(n), &Pushed::of(LAMP));
        client.submit::<Lamp>(envelope).await.unwrap()
    };
    let pushed = join_all((1..=PUSHES).flat_map(|n| [push(&one.0, n), push(&other.0, n)]));
    let outcomes = tokio::time::timeout(patience(), pushed).await.expect("the hosts hold each other up");
    let moved = outcomes.iter().filter(|it| it.outcome() == Some(JournalOutcome::Moved)).count();
    let duplicates = outcomes.iter().filter(|it| **it == Submitted::Duplicate).count();
    assert_eq!((moved as u128, duplicates as u128), (PUSHES, PUSHES));

    eventually("the lamp to shine", async || {
        let lamp = beside.instance(Lamp::NAME, LAMP).await.unwrap().unwrap();
        (lamp.state == "Shining").then_some(())
    })
    .await;
    let lamp = beside.instance(Lamp::NAME, LAMP).await.unwrap().unwrap();
    let journal = beside.journal(Lamp::NAME, LAMP).await.unwrap();
    assert_eq!(u128::from(lamp.data.read::<Lamp>().unwrap().pushes), PUSHES);
    assert_eq!(u128::from(lamp.version), PUSHES + 1, "every push and the wiring, without a gap");
    assert_eq!(Machine::<Lamp>::new().check(Some(&lamp), &journal), []);
    assert_eq!(beside.backlog().await.unwrap().dead_letters, 0);
    stop.send_replace(true);
    for (_, running) in [one, other] {
        running.await.unwrap();
    }
}
