//! A join knows what has happened, in whatever order.

use proptest::prelude::*;
use saga_core::Join;

use crate::lamp::{Broke, Lit, Pushed};

fn note(join: &mut Join, event: u8) {
    match event {
        0 => join.note::<Pushed>(),
        1 => join.note::<Lit>(),
        _ => join.note::<Broke>(),
    }
}

proptest! {
    #[test]
    fn given_events_in_any_order_and_number_then_the_join_is_complete_when_all_have_come(
        events in proptest::collection::vec(0_u8..3, 0..12)
    ) {
        let mut join = Join::default();
        events.iter().for_each(|&event| note(&mut join, event));
        let all = (0..3).all(|event| events.contains(&event));
        prop_assert_eq!(join.all::<(Pushed, Lit, Broke)>(), all);
        prop_assert_eq!(join.has::<Lit>(), events.contains(&1));
        let stored = serde_json::to_string(&join).unwrap();
        prop_assert_eq!(serde_json::from_str::<Join>(&stored).unwrap(), join);
    }
}

#[test]
fn given_a_join_when_it_is_stored_then_it_is_a_list_of_message_names() {
    let mut join = Join::default();
    join.note::<Pushed>();
    join.note::<Broke>();
    join.note::<Pushed>();
    assert_eq!(serde_json::to_string(&join).unwrap(), r#"["Lamps:Broke","Lamps:Pushed"]"#);
}
