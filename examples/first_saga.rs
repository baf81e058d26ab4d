//! The smallest saga: a book that is lent, called back when it is late, and returned. `cargo run --example first_saga`
use saga_core::{
    Correlation, Ctx, Effects, Machine, Message, Rule, Saga, events, ignore, reject, states, testkit::given,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

macro_rules! messages { ($($name:ident),+) => { $(
    #[derive(Serialize, Deserialize)]
    struct $name { loan: Uuid }
    impl Message for $name { const NAME: &'static str = concat!("Library:", stringify!($name)); }
)+ } }
messages!(Lent, Overdue, Returned, CalledBack);
states! { enum LoanState { New, Out, Late, Back } }
events! { enum LoanEvent { Lent, Overdue, Returned } }

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Loan;
impl Saga for Loan {
    const NAME: &'static str = "loan";
    const ENDPOINT: &'static str = "loan-saga";
    type State = LoanState;
    type Event = LoanEvent;
    type Row = ();
    fn correlate(event: LoanEvent) -> Correlation {
        match event {
            LoanEvent::Lent(on) => on.by(|it| it.loan),
            LoanEvent::Overdue(on) => on.by(|it| it.loan),
            LoanEvent::Returned(on) => on.by(|it| it.loan),
        }
    }
    fn table(state: LoanState, event: LoanEvent) -> Rule<Self> {
        use {LoanEvent::*, LoanState::*};
        match (state, event) {
            (New, Lent(on)) => on.to(Out, lend),
            (New, Overdue(_) | Returned(_)) => reject("it was never lent"),
            (Out, Overdue(on)) => on.to(Late, call_back),
            (Out | Late, Returned(on)) => on.to(Back, take_back),
            (Out | Late | Back, Lent(_)) | (Late | Back, Overdue(_)) | (Back, Returned(_)) => ignore(),
        }
    }
}
fn lend(_: &mut Loan, lent: &Lent, _: &Ctx<'_>) -> Effects<Loan> {
    Effects::none().schedule(Overdue { loan: lent.loan }, Duration::from_hours(28 * 24))
}
fn call_back(_: &mut Loan, overdue: &Overdue, _: &Ctx<'_>) -> Effects<Loan> {
    Effects::none().publish(CalledBack { loan: overdue.loan })
}
fn take_back(_: &mut Loan, _: &Returned, _: &Ctx<'_>) -> Effects<Loan> {
    Effects::none().unschedule::<Overdue>()
}

fn main() {
    print!("{}", story());
}
pub(crate) fn story() -> String {
    let loan = Uuid::from_u128(7);
    let late = given::<Loan>().after(&Lent { loan }).when(&Overdue { loan }).into_step();
    let back = given::<Loan>().after(&Lent { loan }).when(&Returned { loan }).into_step();
    format!("late: {late:?}\nback: {back:?}\n{}", Machine::<Loan>::new().mermaid())
}
