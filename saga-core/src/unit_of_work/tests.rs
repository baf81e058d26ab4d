//! What one message writes, seen through a saga that has one row of each kind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Live, Verdict, refuse, step};
use crate::commit::{Commit, FaultMark, JournalOutcome, TimerKind};
use crate::message::{Envelope, Message, derive_id};
use crate::retry::RetryPolicy;
use crate::table::{Correlation, Rule, defer, ignore, reject};
use crate::{Ctx, Effects, FailureKind, Machine, Saga};

macro_rules! messages {
    ($($name:ident),+) => { $(
        #[derive(Clone, Serialize, Deserialize)]
        struct $name { id: Uuid, seconds: u64 }
        impl Message for $name { const NAME: &'static str = concat!("Parcels:", stringify!($name)); }
    )+ };
}
messages!(Sent, Early, Refused, Late, Arrived, Broken);

crate::states! { enum ParcelState { New, Travelling, Arrived } }
crate::events! { enum ParcelEvent { Sent, Early, Refused, Late, Arrived, Broken } }

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Parcel {
    steps: u32,
    /// JSON has no keys that are tuples: an entry makes the data unwritable.
    unwritable: BTreeMap<(u8, u8), u8>,
}

impl Saga for Parcel {
    const NAME: &'static str = "parcel";
    const ENDPOINT: &'static str = "parcel-saga";
    type State = ParcelState;
    type Event = ParcelEvent;
    type Row = ();

    fn correlate(event: ParcelEvent) -> Correlation {
        use ParcelEvent as On;
        match event {
            On::Sent(on) => on.by(|it| it.id),
            On::Early(on) => on.by(|it| it.id),
            On::Refused(on) => on.by(|it| it.id),
            On::Late(on) => on.by(|it| it.id),
            On::Arrived(on) => on.by(|it| it.id),
            On::Broken(on) => on.by(|it| {
                assert!(it.seconds > 0, "nobody knows whose this is");
                it.id
            }),
        }
    }

    fn table(state: ParcelState, event: ParcelEvent) -> Rule<Self> {
        use ParcelEvent as On;
        use ParcelState::{Arrived, New, Travelling};
        match (state, event) {
            (New | Travelling, On::Sent(on)) => on.to(Travelling, send),
            (New | Travelling | Arrived, On::Early(_)) => defer("too early"),
            (New | Travelling | Arrived, On::Refused(_)) => reject("a mistake"),
            (New | Arrived, On::Late(_)) => ignore(),
            (Travelling, On::Late(on)) => on.stay(again),
            (New | Travelling, On::Arrived(on)) => on.to(Arrived, stop),
            (Arrived, On::Sent(_) | On::Arrived(_)) => ignore(),
            (New | Travelling | Arrived, On::Broken(on)) => on.stay(spoil),
        }
    }
}

fn send(parcel: &mut Parcel, sent: &Sent, _: &Ctx<'_>) -> Effects<Parcel> {
    parcel.steps += 1;
    Effects::none().schedule(Late { id: sent.id, seconds: 0 }, Duration::from_secs(sent.seconds))
}

fn again(_: &mut Parcel, late: &Late, _: &Ctx<'_>) -> Effects<Parcel> {
    Effects::none().schedule(Late { id: late.id, seconds: 1 }, Duration::from_secs(1))
}

fn stop(_: &mut Parcel, _: &Arrived, _: &Ctx<'_>) -> Effects<Parcel> {
    Effects::none()
}

fn spoil(parcel: &mut Parcel, broken: &Broken, _: &Ctx<'_>) -> Effects<Parcel> {
    parcel.unwritable.insert((0, 0), 0);
    Effects::none().publish(Sent { id: broken.id, seconds: 0 })
}

const ID: Uuid = Uuid::from_u128(7);

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn message<M: Message>(message: &M) -> Arc<Envelope> {
    Arc::new(Envelope::new(derive_id(ID, M::NAME), message))
}

/// One message against one instance; the commit is what it wrote.
fn handle(live: &mut Live<Parcel>, envelope: &Arc<Envelope>) -> (Verdict, Commit) {
    let machine = Machine::<Parcel>::new();
    let mut commit = Commit::new(now());
    let event = machine.read(envelope).unwrap();
    let verdict = step(&machine, live, &event, envelope, &RetryPolicy::default(), &mut commit);
    live.write(&mut commit);
    (verdict, commit)
}

/// A parcel that travels, with its timer's envelope.
fn travelling() -> (Live<Parcel>, Arc<Envelope>) {
    let mut live = Live::new(ID);
    let (_, commit) = handle(&mut live, &message(&Sent { id: ID, seconds: 60 }));
    (live, commit.timers[0].envelope.clone())
}

#[test]
fn given_data_that_json_can_not_hold_when_the_step_moved_then_the_message_alone_has_failed() {
    let (mut live, _) = travelling();
    let before = live.instance.clone();
    let (verdict, commit) = handle(&mut live, &message(&Broken { id: ID, seconds: 1 }));
    let Verdict::Again(failure) = verdict else { panic!("{verdict:?}") };
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert!(failure.message().contains("can not be written as JSON"), "{failure}");
    assert_eq!(live.instance, before);
    assert!(commit.outbox.is_empty(), "{:?}", commit.outbox);
}

#[test]
fn given_a_correlation_that_panics_when_the_message_is_read_then_it_is_a_failure() {
    let broken = message(&Broken { id: ID, seconds: 0 });
    let failure = Machine::<Parcel>::new().read(&broken).err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert_eq!(failure.message(), "the handler panicked: nobody knows whose this is");
}

#[test]
fn given_a_running_timer_when_it_fires_then_it_is_handled_and_runs_no_more() {
    let (mut live, timer) = travelling();
    let (verdict, commit) = handle(&mut live, &timer);
    assert_eq!(verdict, Verdict::Handled(JournalOutcome::Moved));
    let running = live.instance.timers.get(Late::NAME);
    assert_eq!(running, Some(&commit.timers[0].token), "the handler has started the next one");
    assert!(commit.cancelled.is_empty(), "a timer that fired is not cancelled: {:?}", commit.cancelled);
}

#[test]
fn given_a_replaced_timer_when_its_late_copy_comes_then_it_is_stale() {
    let (mut live, timer) = travelling();
    let (_, commit) = handle(&mut live, &Arc::new(Envelope::new(ID, &Sent { id: ID, seconds: 5 })));
    assert_eq!(commit.cancelled, [timer.message_id]);
    let before = live.instance.clone();
    let (verdict, commit) = handle(&mut live, &timer);
    assert_eq!(verdict, Verdict::Handled(JournalOutcome::Ignored));
    assert_eq!(commit.journal[0].error.as_deref(), Some("the timer had been cancelled or replaced"));
    assert_eq!(live.instance, before);
    assert_eq!(commit.inbox[0].message_id, timer.message_id);
}

#[test]
fn given_a_message_with_the_token_of_a_foreign_scheduler_when_it_comes_then_it_is_no_timer() {
    let (mut live, timer) = travelling();
    let mut foreign = Envelope::clone(&timer);
    foreign.headers.remove(crate::header::SAGA);
    foreign.headers.insert(crate::header::TIMER_TOKEN.into(), ID.to_string().into());
    let (verdict, _) = handle(&mut live, &Arc::new(foreign));
    assert_eq!(verdict, Verdict::Handled(JournalOutcome::Moved));
}

#[test]
fn given_a_timer_that_the_table_ignores_when_it_fires_then_it_is_written_that_it_runs_no_more() {
    let (mut live, timer) = travelling();
    handle(&mut live, &message(&Arrived { id: ID, seconds: 0 }));
    let (verdict, commit) = handle(&mut live, &timer);
    assert_eq!(verdict, Verdict::Handled(JournalOutcome::Ignored));
    assert_eq!(commit.instances[0].timers, "{}");
    assert_eq!(commit.journal[0].version, Some(commit.instances[0].version));
}

#[test]
fn given_a_redriven_message_when_it_is_handled_or_ignored_then_the_fault_is_cleared() {
    let (mut live, _) = travelling();
    let arrived = Arc::new(message(&Arrived { id: ID, seconds: 0 }).redriven());
    for outcome in [JournalOutcome::Moved, JournalOutcome::Ignored] {
        let (verdict, commit) = handle(&mut live, &arrived);
        assert_eq!(verdict, Verdict::Handled(outcome));
        assert_eq!(commit.marks.len(), 1);
        assert_eq!(commit.marks[0].fault, FaultMark::Clear);
    }
}

#[test]
fn given_a_timer_or_a_retry_beyond_all_time_when_it_is_put_off_then_it_is_due_at_the_last_moment() {
    let mut live = Live::new(ID);
    let (_, commit) = handle(&mut live, &message(&Sent { id: ID, seconds: u64::MAX }));
    assert_eq!(commit.timers[0].due.to_rfc3339(), "9999-12-31T23:59:59+00:00");

    let retry = RetryPolicy { initial: Duration::MAX, max: Duration::MAX, ..RetryPolicy::default() };
    let mut commit = Commit::new(now());
    refuse::<Parcel>(None, crate::Failure::retry("away"), &message(&Early { id: ID, seconds: 0 }), &retry, &mut commit);
    assert_eq!(commit.timers[0].due, super::LATEST);
}

#[test]
fn given_a_message_of_no_sender_when_the_saga_can_not_handle_it_then_the_dead_letter_names_the_saga() {
    let refused = message(&Refused { id: ID, seconds: 0 });
    let (_, rejected) = handle(&mut Live::new(ID), &refused);
    assert_eq!(rejected.dead_letters[0].saga.as_deref(), Some("parcel"));
    assert_eq!(rejected.journal[0].outcome, JournalOutcome::Rejected);

    let mut commit = Commit::new(now());
    let failure = crate::Failure::new(FailureKind::Undecodable, "no parcel");
    refuse::<Parcel>(None, failure, &refused, &RetryPolicy::default(), &mut commit);
    assert_eq!(commit.dead_letters[0].saga.as_deref(), Some("parcel"));
    assert!(commit.journal.is_empty() && commit.marks.is_empty(), "no instance can be told");
}

#[test]
fn given_a_deferred_message_when_it_comes_too_early_each_time_then_it_is_retried_to_the_limit() {
    let mut live = Live::new(ID);
    let mut early = message(&Early { id: ID, seconds: 0 });
    for attempt in 2..=4 {
        let (verdict, commit) = handle(&mut live, &early);
        assert!(matches!(verdict, Verdict::Again(_)), "{verdict:?}");
        assert!(commit.inbox.is_empty(), "it is not handled yet");
        assert_eq!((commit.timers[0].kind, commit.marks[0].retries), (TimerKind::Redelivery, 1));
        let again = &commit.timers[0].envelope;
        assert_eq!((again.message_id, again.attempt()), (early.message_id, attempt));
        early = again.clone();
    }
    let (verdict, commit) = handle(&mut live, &early);
    assert!(matches!(verdict, Verdict::Dead(_)), "{verdict:?}");
    assert_eq!((commit.dead_letters[0].attempts, commit.inbox.len()), (4, 1));
    assert_eq!(commit.marks[0].fault, FaultMark::Set("too early".to_owned()));
    assert_eq!(commit.outbox[0].envelope.name(), "MassTransit:Fault[[Parcels:Early]]");
}
