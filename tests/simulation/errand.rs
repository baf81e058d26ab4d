//! A small saga with timers that are replaced, cancelled and fire, an activity, and a consumer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use saga_core::testkit::sim::SimHost;
use saga_core::{
    Activity, ActivityHandler, Consumer, Correlation, Ctx, Effects, Failure, HandlerContext, Message, Output, Rule,
    Saga, events, ignore, reject, states,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! messages {
    ($($name:ident)+) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name { pub errand: Uuid }
        impl Message for $name { const NAME: &'static str = concat!("Errands:", stringify!($name)); }
    )+};
}
messages! { Asked Fetch Fetched FetchFailed Nudge Deadline Done WhereIs Here }

impl Activity for Fetch {
    const ENDPOINT: &'static str = "errand-runner";
    type Outcome = Fetched;
    type Failed = FetchFailed;
    fn failed(&self, _: &Failure) -> FetchFailed {
        FetchFailed { errand: self.errand }
    }
}

states! { pub enum ErrandState { New, Waiting, Back, Over } }
events! { pub enum ErrandEvent { Asked, Fetched, FetchFailed, Nudge, Deadline } }

/// How long after it was asked for last somebody is nudged.
const NUDGE: Duration = Duration::from_secs(8);
/// How long after it was asked for first it is over.
const DEADLINE: Duration = Duration::from_secs(45);
/// How often somebody is nudged who does not come back.
const NUDGES: u32 = 3;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Errand {
    asked: u32,
    nudges: u32,
}

impl Saga for Errand {
    const NAME: &'static str = "errand";
    const ENDPOINT: &'static str = "errand-saga";
    type State = ErrandState;
    type Event = ErrandEvent;
    type Row = ();

    fn correlate(event: ErrandEvent) -> Correlation {
        match event {
            ErrandEvent::Asked(on) => on.by(|it| it.errand),
            ErrandEvent::Fetched(on) => on.by(|it| it.errand),
            ErrandEvent::FetchFailed(on) => on.by(|it| it.errand),
            ErrandEvent::Nudge(on) => on.by(|it| it.errand),
            ErrandEvent::Deadline(on) => on.by(|it| it.errand),
        }
    }

    fn table(state: ErrandState, event: ErrandEvent) -> Rule<Self> {
        use ErrandEvent::{Asked, Deadline, FetchFailed, Fetched, Nudge};
        use ErrandState::{Back, New, Over, Waiting};
        match (state, event) {
            (New, Asked(on)) => on.to(Waiting, set_out),
            (New, Fetched(_) | FetchFailed(_) | Nudge(_) | Deadline(_)) => reject("nobody asked"),

            (Waiting | Back, Asked(on)) => on.stay(ask_again),
            (Waiting, Fetched(on)) => on.to(Back, come_back),
            (Waiting, FetchFailed(on)) => on.to(Back, come_back_without),
            (Waiting, Nudge(on)) => on.stay(nudge),
            (Back, Nudge(on)) => on.stay(nudge_nobody),
            (Back, Fetched(_) | FetchFailed(_)) => ignore(),
            (Waiting | Back, Deadline(on)) => on.to(Over, end),

            (Over, Asked(_) | Fetched(_) | FetchFailed(_) | Nudge(_) | Deadline(_)) => ignore(),
        }
    }
}

fn set_out(it: &mut Errand, event: &Asked, _: &Ctx<'_>) -> Effects<Errand> {
    let errand = event.errand;
    it.asked += 1;
    Effects::none().call(Fetch { errand }).schedule(Nudge { errand }, NUDGE).schedule(Deadline { errand }, DEADLINE)
}
fn ask_again(it: &mut Errand, event: &Asked, _: &Ctx<'_>) -> Effects<Errand> {
    it.asked += 1;
    Effects::none().schedule(Nudge { errand: event.errand }, NUDGE)
}
fn come_back(_: &mut Errand, _: &Fetched, _: &Ctx<'_>) -> Effects<Errand> {
    Effects::none()
}
fn come_back_without(_: &mut Errand, _: &FetchFailed, _: &Ctx<'_>) -> Effects<Errand> {
    Effects::none().unschedule::<Nudge>()
}
fn nudge(it: &mut Errand, event: &Nudge, _: &Ctx<'_>) -> Effects<Errand> {
    it.nudges += 1;
    let again = it.nudges < NUDGES;
    if again { Effects::none().schedule(Nudge { errand: event.errand }, NUDGE) } else { Effects::none() }
}
fn nudge_nobody(it: &mut Errand, _: &Nudge, _: &Ctx<'_>) -> Effects<Errand> {
    it.nudges += 1;
    Effects::none()
}
fn end(_: &mut Errand, event: &Deadline, _: &Ctx<'_>) -> Effects<Errand> {
    Effects::none().unschedule::<Nudge>().publish(Done { errand: event.errand })
}

/// Runs errands: takes its time, and comes back without sometimes.
pub struct Runner(pub SimHost, pub Mutex<saga_core::testkit::sim::Random>);

#[async_trait]
impl ActivityHandler<Fetch> for Runner {
    async fn execute(&self, command: &Fetch, context: &HandlerContext) -> Result<Fetched, Failure> {
        let (time, fails) = {
            let mut random = self.1.lock().unwrap();
            (random.millis(0..=12_000), random.happens(200))
        };
        context.sleep(time).await;
        self.0.gate().await;
        if fails { Err(Failure::retry("it was closed")) } else { Ok(Fetched { errand: command.errand }) }
    }
}

/// Hears that errands are over; under which keys it does.
#[derive(Clone, Default)]
pub struct Listener(pub Arc<Mutex<Vec<(Uuid, Uuid)>>>);

#[async_trait]
impl Consumer<Done> for Listener {
    type Row = ();
    async fn consume(&self, event: &Done, context: &HandlerContext) -> Result<Output<()>, Failure> {
        self.0.lock().unwrap().push((event.errand, context.idempotency_key()));
        Ok(Output::none())
    }
}

/// The endpoint that says where an errand is.
pub const DESK: &str = "errand-desk";

/// Says where an errand is.
pub struct Desk;

#[async_trait]
impl Consumer<WhereIs> for Desk {
    type Row = ();
    async fn consume(&self, event: &WhereIs, _: &HandlerContext) -> Result<Output<()>, Failure> {
        Ok(Output::none().respond(&Here { errand: event.errand }))
    }
}
