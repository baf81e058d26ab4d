//! The pictures of a table.

use saga_core::{Correlation, Ctx, Effects, Machine, Message, Rule, Saga, defer, events, ignore, reject, states};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lamp::{Lamp, LampState};

#[test]
fn given_a_table_then_its_pictures_are_as_committed() {
    let machine = Machine::<Lamp>::new();
    insta::assert_snapshot!("lamp.mermaid", machine.mermaid());
    insta::assert_snapshot!("lamp.dot", machine.dot());
    insta::assert_snapshot!("lamp.table", machine.table());
}

#[test]
fn given_a_table_in_which_all_is_well_then_no_state_is_out_of_reach() {
    let machine = Machine::<Lamp>::new();
    assert!(machine.unreachable().is_empty());
    assert_eq!(machine.dead_ends(), [LampState::Broken]);
}

#[derive(Serialize, Deserialize)]
struct Told<const LOUD: bool> {
    id: Uuid,
}
impl<const LOUD: bool> Message for Told<LOUD> {
    const NAME: &'static str = if LOUD { "Rumours:Shouted" } else { "Rumours:Whispered" };
}

states! { enum RumourState { New, Known, Forgotten, Believed } }
events! { enum RumourEvent { Whispered(Told<false>), Shouted(Told<true>) } }

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Rumour;

impl Saga for Rumour {
    const NAME: &'static str = "rumour";
    const ENDPOINT: &'static str = "rumour-saga";
    type State = RumourState;
    type Event = RumourEvent;
    type Row = ();
    fn correlate(event: RumourEvent) -> Correlation {
        match event {
            RumourEvent::Whispered(on) => on.by(|it| it.id),
            RumourEvent::Shouted(on) => on.by(|it| it.id),
        }
    }
    fn table(state: RumourState, event: RumourEvent) -> Rule<Self> {
        use RumourEvent::{Shouted, Whispered};
        use RumourState::{Believed, Forgotten, Known, New};
        match (state, event) {
            (New, Whispered(on)) => on.to(Known, spread),
            (New, Shouted(on)) => on.to_one_of([New, Known], decide),
            (Known, Whispered(_)) => defer("not | yet"),
            (Known, Shouted(_)) => reject("too loud"),
            (Forgotten, Whispered(on)) => on.to(Believed, spread),
            (Forgotten, Shouted(on)) => on.stay(spread),
            (Believed, Whispered(_) | Shouted(_)) => ignore(),
        }
    }
}

fn spread<M: Message>(_: &mut Rumour, _: &M, _: &Ctx<'_>) -> Effects<Rumour> {
    Effects::none()
}
fn decide<M: Message>(_: &mut Rumour, _: &M, _: &Ctx<'_>) -> (RumourState, Effects<Rumour>) {
    (RumourState::Known, Effects::none())
}

#[test]
fn given_states_that_no_row_leads_to_or_out_of_then_they_are_named() {
    let machine = Machine::<Rumour>::new();
    assert_eq!(machine.unreachable(), [RumourState::Forgotten, RumourState::Believed]);
    assert_eq!(machine.dead_ends(), [RumourState::Known, RumourState::Believed]);
}

#[test]
fn given_generic_handlers_and_a_bar_in_a_reason_then_the_pictures_are_whole() {
    let machine = Machine::<Rumour>::new();
    assert!(machine.mermaid().contains("    New --> Known: Whispered / spread\n"), "{}", machine.mermaid());
    assert!(machine.mermaid().contains("    New --> New: Shouted / decide\n"), "{}", machine.mermaid());
    let table = machine.table();
    assert!(table.contains("| **Known** | defer: not \\| yet | reject: too loud |"), "{table}");
    assert!(table.contains("| **Forgotten** | → Believed, spread | stay, spread |"), "{table}");
}
