//! The two alphabets know their members by place, name and message type.

use saga_core::{Accepts, Alphabet, Finite, Message};

use crate::lamp::{Broke, LampEvent, LampState, Pushed, Wired};

saga_core::events! {
    pub enum Renamed { First(Pushed), Second(Wired) }
}

#[test]
fn given_states_then_each_is_found_by_its_place_and_its_name() {
    for (place, &state) in LampState::ALL.iter().enumerate() {
        assert_eq!(state.index(), place);
        assert_eq!(LampState::from_name(state.name()), Some(state));
    }
    assert_eq!(LampState::ALL.map_names(), ["Dark", "Waiting", "Shining", "Broken"]);
    assert_eq!(LampState::from_name("dark"), None, "names are stored as they were declared");
}

#[test]
fn given_events_then_each_is_the_column_of_its_message_type() {
    for (place, &event) in LampEvent::ALL.iter().enumerate() {
        assert_eq!(event.index(), place);
        assert!(event.column().name.ends_with(event.name()), "{event:?}: {:?}", event.column());
    }
    assert_eq!(<LampEvent as Accepts<Pushed>>::INDEX, 0);
    assert_eq!(<LampEvent as Accepts<Broke>>::INDEX, 5);
}

#[test]
fn given_a_variant_of_another_name_then_it_carries_the_type_in_its_brackets() {
    assert_eq!(Renamed::ALL.map_names(), ["First", "Second"]);
    assert_eq!(Renamed::ALL.iter().map(|it| it.column().name).collect::<Vec<_>>(), [Pushed::NAME, Wired::NAME]);
    assert_eq!(<Renamed as Accepts<Wired>>::INDEX, 1);
}

trait Names {
    fn map_names(&self) -> Vec<&'static str>;
}
impl<T: Finite> Names for [T] {
    fn map_names(&self) -> Vec<&'static str> {
        self.iter().map(|it| it.name()).collect()
    }
}
