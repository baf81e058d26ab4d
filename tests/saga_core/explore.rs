//! The explorer finds what was planted for it, by the shortest way, and nothing where nothing is.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use saga_core::testkit::{End, Explore, ExploreError};
use saga_core::{
    Activity, Correlation, Ctx, Effects, Envelope, Failure, Message, RetryPolicy, Rule, Saga, defer, events, ignore,
    reject, states,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! messages {
    ($($name:ident),+) => { $(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        struct $name { id: Uuid }
        impl Message for $name { const NAME: &'static str = concat!("Shows:", stringify!($name)); }
    )+ };
}
messages!(Buy, Charge, Charged, NotCharged, TooLate, AnnCame, BobCame, Started);

impl Activity for Charge {
    const ENDPOINT: &'static str = "cashier";
    type Outcome = Charged;
    type Failed = NotCharged;
    fn failed(&self, _: &Failure) -> NotCharged {
        NotCharged { id: self.id }
    }
}

const ID: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

states! { enum TicketState { New, Charging, Sold, Lost } }
events! { enum TicketEvent { Buy, Charged, NotCharged, TooLate } }

/// Sells a ticket; the careless one charges again whenever it is asked again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Ticket<const CAREFUL: bool> {
    charges: u32,
    end: String,
}

impl<const CAREFUL: bool> Saga for Ticket<CAREFUL> {
    const NAME: &'static str = "ticket";
    const ENDPOINT: &'static str = "ticket-saga";
    type State = TicketState;
    type Event = TicketEvent;
    type Row = String;

    fn correlate(event: TicketEvent) -> Correlation {
        match event {
            TicketEvent::Buy(on) => on.by(|it| it.id),
            TicketEvent::Charged(on) => on.by(|it| it.id),
            TicketEvent::NotCharged(on) => on.by_envelope(),
            TicketEvent::TooLate(on) => on.by_envelope(),
        }
    }

    fn table(state: TicketState, event: TicketEvent) -> Rule<Self> {
        use TicketEvent::{Buy, Charged, NotCharged, TooLate};
        use TicketState::{Charging, Lost, New, Sold};
        match (state, event) {
            (New, Buy(on)) => on.to(Charging, buy),
            (New, Charged(_) | NotCharged(_) | TooLate(_)) => reject("no such ticket"),
            (Charging, Buy(_)) if CAREFUL => ignore(),
            (Charging, Buy(on)) => on.stay(buy),
            (Charging, Charged(on)) => on.to(Sold, sell),
            (Charging, NotCharged(on)) => on.to(Lost, lose),
            (Charging, TooLate(on)) => on.to(Lost, expire),
            (Sold | Lost, Buy(_) | Charged(_) | NotCharged(_) | TooLate(_)) => ignore(),
        }
    }
}

impl<const CAREFUL: bool> Ticket<CAREFUL> {
    fn ends(&mut self, how: &str) -> String {
        self.end = how.to_owned();
        self.end.clone()
    }
}

fn buy<const CAREFUL: bool>(ticket: &mut Ticket<CAREFUL>, event: &Buy, _: &Ctx<'_>) -> Effects<Ticket<CAREFUL>> {
    ticket.charges += 1;
    Effects::none().call(Charge { id: event.id }).schedule(TooLate { id: event.id }, Duration::from_secs(60))
}
fn sell<const CAREFUL: bool>(ticket: &mut Ticket<CAREFUL>, _: &Charged, _: &Ctx<'_>) -> Effects<Ticket<CAREFUL>> {
    Effects::none().unschedule::<TooLate>().write(ticket.ends("sold"))
}
fn lose<const CAREFUL: bool>(ticket: &mut Ticket<CAREFUL>, _: &NotCharged, _: &Ctx<'_>) -> Effects<Ticket<CAREFUL>> {
    Effects::none().unschedule::<TooLate>().write(ticket.ends("lost"))
}
fn expire<const CAREFUL: bool>(ticket: &mut Ticket<CAREFUL>, _: &TooLate, _: &Ctx<'_>) -> Effects<Ticket<CAREFUL>> {
    Effects::none().write(ticket.ends("expired"))
}

fn tickets<const CAREFUL: bool>() -> Explore<Ticket<CAREFUL>> {
    Explore::new()
        .message(&Buy { id: ID })
        .activity::<Charge>(|it| vec![Ok(Charged { id: it.id }), Err(Failure::permanent("no money"))])
}

fn charged_once<S: Saga>(end: &End<'_, S>) -> Result<(), String> {
    match end.count::<Charge>() {
        1 => Ok(()),
        n => Err(format!("the card was charged {n} times")),
    }
}

#[test]
fn given_a_saga_that_books_twice_when_a_copy_comes_under_a_new_id_then_the_shortest_way_is_printed() {
    let error = tickets::<false>().copies().run(charged_once).unwrap_err();
    insta::assert_snapshot!("books_twice", error);
}

#[test]
fn given_a_careful_saga_when_copies_come_then_nothing_is_found() {
    let explored = tickets::<true>().copies().run(charged_once).unwrap();
    insta::assert_debug_snapshot!("nothing_found", explored);
}

#[test]
fn given_the_inbox_is_taken_out_when_the_acknowledgement_is_lost_then_the_duplicate_is_found() {
    assert!(tickets::<false>().run(charged_once).is_ok(), "the inbox knows the redelivered message");
    let error = tickets::<false>().without_inbox().run(charged_once).unwrap_err();
    insta::assert_snapshot!("without_inbox", error);
}

#[test]
fn given_a_timer_when_everything_is_tried_then_it_fires_before_and_after_and_a_late_copy_changes_nothing() {
    let ends = RefCell::new(BTreeSet::new());
    let explored = tickets::<true>().run(|end| {
        ends.borrow_mut().insert(end.rows.join(", "));
        if end.rows.len() == 1 { Ok(()) } else { Err(format!("{:?}", end.rows)) }
    });
    assert!(explored.is_ok(), "{explored:?}");
    assert_eq!(ends.into_inner().into_iter().collect::<Vec<_>>(), ["expired", "lost", "sold"]);
}

#[test]
fn given_two_instances_when_everything_is_tried_then_they_do_not_meet() {
    let ends = RefCell::new(BTreeSet::new());
    let explored = tickets::<true>().message(&Buy { id: OTHER }).run(|end| {
        ends.borrow_mut().insert(end.instances.iter().map(|it| it.data.end.clone()).collect::<Vec<_>>());
        let charges: Vec<_> = end.instances.iter().map(|it| (it.id, it.data.charges)).collect();
        if charges == [(ID, 1), (OTHER, 1)] { Ok(()) } else { Err(format!("{charges:?}")) }
    });
    assert!(explored.is_ok(), "{explored:?}");
    assert_eq!(ends.into_inner().len(), 9, "sold, lost or expired, twice");
}

#[test]
fn given_an_activity_of_which_nothing_is_known_when_it_is_called_then_it_is_named() {
    let error = Explore::<Ticket<true>>::new().message(&Buy { id: ID }).run(|_| Ok(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the saga calls Shows:Charge, and nobody said what it may come to; say so with `Explore::activity`"
    );
}

#[test]
fn given_an_activity_that_never_answers_when_everything_is_tried_then_the_timer_ends_it() {
    let explore = Explore::<Ticket<true>>::new().message(&Buy { id: ID }).activity::<Charge>(|_| Vec::new());
    let explored = explore.run(|end| match end.rows {
        [row] if row == "expired" => Ok(()),
        rows => Err(format!("{rows:?}")),
    });
    assert_eq!(explored.unwrap().ends, 1);
}

#[test]
fn given_a_bound_that_is_too_small_when_it_is_reached_then_it_is_an_error() {
    let error = tickets::<true>().copies().bound(5).run(|_| Ok(())).unwrap_err();
    assert!(matches!(error, ExploreError::Bound { bound: 5, .. }));
    assert!(error.to_string().starts_with("there are more than 5 states, so nothing is proved"), "{error}");
}

#[test]
fn given_a_message_that_the_saga_does_not_hear_when_it_comes_then_it_is_a_dead_letter() {
    let explore = Explore::<Ticket<true>>::new().envelope(Envelope::new(ID, &Started { id: ID }));
    let explored = explore.run(|end| {
        let letters: Vec<_> = end.dead_letters.iter().map(|it| &*it.reason).collect();
        if letters == ["undecodable"] && end.instances.is_empty() { Ok(()) } else { Err(format!("{letters:?}")) }
    });
    assert_eq!(explored.unwrap().ends, 1);
}

states! { enum ShowState { New, Ann, Bob, Running } }
events! { enum ShowEvent { AnnCame, BobCame, Started } }

/// Begins when both have come; the forgetful one waits for ever when Bob is the first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Show<const FORGETS: bool> {
    started: bool,
}

impl<const FORGETS: bool> Saga for Show<FORGETS> {
    const NAME: &'static str = "show";
    const ENDPOINT: &'static str = "show-saga";
    type State = ShowState;
    type Event = ShowEvent;
    type Row = ();

    fn correlate(event: ShowEvent) -> Correlation {
        match event {
            ShowEvent::AnnCame(on) => on.by(|it| it.id),
            ShowEvent::BobCame(on) => on.by(|it| it.id),
            ShowEvent::Started(on) => on.by(|it| it.id),
        }
    }

    fn table(state: ShowState, event: ShowEvent) -> Rule<Self> {
        use ShowEvent::{AnnCame, BobCame, Started};
        use ShowState::{Ann, Bob, New, Running};
        match (state, event) {
            (New, AnnCame(on)) => on.to(Ann, wait),
            (New, BobCame(on)) => on.to(Bob, wait),
            (Ann, BobCame(on)) => on.to(Running, start),
            (Bob, AnnCame(on)) if FORGETS => on.stay(wait),
            (Bob, AnnCame(on)) => on.to(Running, start),
            (New | Ann | Bob, Started(_)) => defer("nobody is here"),
            (Running, Started(on)) => on.stay(note),
            (Ann | Running, AnnCame(_)) | (Bob | Running, BobCame(_)) => ignore(),
        }
    }
}

fn wait<E, const FORGETS: bool>(_: &mut Show<FORGETS>, _: &E, _: &Ctx<'_>) -> Effects<Show<FORGETS>> {
    Effects::none()
}
fn start<E, const FORGETS: bool>(_: &mut Show<FORGETS>, _: &E, ctx: &Ctx<'_>) -> Effects<Show<FORGETS>> {
    Effects::none().publish(Started { id: ctx.correlation_id })
}
fn note<const FORGETS: bool>(show: &mut Show<FORGETS>, _: &Started, _: &Ctx<'_>) -> Effects<Show<FORGETS>> {
    show.started = true;
    Effects::none()
}

fn guests<const FORGETS: bool>() -> Explore<Show<FORGETS>> {
    Explore::new().message(&AnnCame { id: ID }).message(&BobCame { id: ID })
}

fn begins<const FORGETS: bool>(end: &End<'_, Show<FORGETS>>) -> Result<(), String> {
    let show = end.instance(ID).ok_or("there is no show")?;
    if show.data.started { Ok(()) } else { Err(format!("both have come, and the show is {:?}", show.state)) }
}

#[test]
fn given_a_join_that_forgets_one_order_when_everything_is_tried_then_that_order_is_printed() {
    let error = guests::<true>().run(begins).unwrap_err();
    insta::assert_snapshot!("forgets_one_order", error);
}

#[test]
fn given_a_join_that_knows_both_orders_when_everything_is_tried_then_what_it_publishes_comes_back_to_it() {
    let explored = guests::<false>().copies().run(begins).unwrap();
    assert_eq!(explored.ends, 1, "{explored:?}");
}

#[test]
fn given_a_message_that_comes_too_early_when_everything_is_tried_then_it_is_tried_to_the_limit_and_no_further() {
    let attempts = RefCell::new(BTreeSet::new());
    let retry = RetryPolicy { limit: 2, ..RetryPolicy::default() };
    let explore = Explore::<Show<false>>::new().message(&AnnCame { id: ID }).message(&Started { id: ID }).retry(retry);
    let explored = explore.run(|end| {
        attempts.borrow_mut().extend(end.dead_letters.iter().map(|it| (it.reason.to_string(), it.attempts)));
        Ok(())
    });
    assert!(explored.is_ok(), "{explored:?}");
    assert_eq!(attempts.into_inner().into_iter().collect::<Vec<_>>(), [("deferred".to_owned(), 3)]);
}
