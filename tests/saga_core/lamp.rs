//! A small saga that uses every word of the table: a lamp that is lit by a push of a button, turned on by an
//! electrician (an activity), warned of by a timer, and watched by a consumer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use saga_core::testkit::{Harness, HarnessBuilder};
use saga_core::{
    Activity, ActivityHandler, Consumer, Correlation, Ctx, Effects, Failure, HandlerContext, HandlerOptions, Message,
    Output, RetryPolicy, Rule, Saga, defer, events, ignore, outcomes, reject, states,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! messages {
    ($($name:ident = $wire:literal;)+) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name { pub lamp: Uuid }
        impl Message for $name { const NAME: &'static str = $wire; }
        impl $name {
            pub fn of(lamp: Uuid) -> Self { Self { lamp } }
        }
    )+};
}
messages! {
    Pushed = "Lamps:Pushed";
    Wire = "Lamps:Wire";
    Wired = "Lamps:Wired";
    NoPower = "Lamps:NoPower";
    WiringFailed = "Lamps:WiringFailed";
    TooLong = "Lamps:TooLong";
    Broke = "Lamps:Broke";
    Lit = "Lamps:Lit";
    Exploded = "Lamps:Exploded";
}

outcomes! { pub enum Wiring { Wired, NoPower } }

impl Activity for Wire {
    const ENDPOINT: &'static str = "electrician";
    type Outcome = Wiring;
    type Failed = WiringFailed;
    fn failed(&self, _: &Failure) -> WiringFailed {
        WiringFailed::of(self.lamp)
    }
}

states! { pub enum LampState { Dark, Waiting, Shining, Broken } }
events! { pub enum LampEvent { Pushed, Wired, NoPower, WiringFailed, TooLong, Broke, Exploded } }

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lamp {
    pub pushes: u32,
    pub warnings: u32,
}

/// How long a lamp may shine before it warns.
pub const WARNING: Duration = Duration::from_secs(600);

impl Saga for Lamp {
    const NAME: &'static str = "lamp";
    const ENDPOINT: &'static str = "lamp-saga";
    type State = LampState;
    type Event = LampEvent;
    type Row = ();

    fn correlate(event: LampEvent) -> Correlation {
        match event {
            LampEvent::Pushed(on) => on.by(|it| it.lamp),
            LampEvent::Wired(on) => on.by(|it| it.lamp),
            LampEvent::NoPower(on) => on.by(|it| it.lamp),
            LampEvent::WiringFailed(on) => on.by_envelope(),
            LampEvent::TooLong(on) => on.by(|it| it.lamp),
            LampEvent::Broke(on) => on.by(|it| it.lamp),
            LampEvent::Exploded(on) => on.by(|it| it.lamp),
        }
    }

    fn table(state: LampState, event: LampEvent) -> Rule<Self> {
        use LampEvent::{Broke, Exploded, NoPower, Pushed, TooLong, Wired, WiringFailed};
        use LampState::{Broken, Dark, Shining, Waiting};
        match (state, event) {
            (Dark, Pushed(on)) => on.to(Waiting, call_the_electrician),
            (Dark, Broke(_)) => defer("it does not shine yet"),
            (Dark, Wired(_) | NoPower(_) | WiringFailed(_) | TooLong(_)) => reject("nobody pushed the button"),

            (Waiting, Wired(on)) => on.to(Shining, light),
            (Waiting, NoPower(_)) => ignore(),
            (Waiting, WiringFailed(on)) => on.to(Broken, give_up),
            (Waiting, Pushed(on)) => on.stay(push_again),
            (Waiting, Broke(_)) => defer("it does not shine yet"),
            (Waiting, TooLong(_)) => reject("it does not shine"),

            (Shining, Pushed(on)) => on.stay(push_again),
            (Shining, TooLong(on)) => on.stay(warn),
            (Shining, Broke(on)) => on.to(Broken, go_dark),
            (Shining, Wired(_) | NoPower(_) | WiringFailed(_)) => ignore(),

            (Broken, Pushed(_) | Wired(_) | NoPower(_) | WiringFailed(_) | TooLong(_) | Broke(_)) => ignore(),
            (Dark | Waiting | Shining | Broken, Exploded(on)) => on.stay(explode),
        }
    }
}

fn call_the_electrician(lamp: &mut Lamp, event: &Pushed, _: &Ctx<'_>) -> Effects<Lamp> {
    lamp.pushes += 1;
    Effects::none().call(Wire::of(event.lamp))
}
fn push_again(lamp: &mut Lamp, event: &Pushed, _: &Ctx<'_>) -> Effects<Lamp> {
    lamp.pushes += 1;
    Effects::none().schedule(TooLong::of(event.lamp), WARNING)
}
fn light(_: &mut Lamp, event: &Wired, _: &Ctx<'_>) -> Effects<Lamp> {
    Effects::none().publish(Lit::of(event.lamp)).schedule(TooLong::of(event.lamp), WARNING)
}
fn warn(lamp: &mut Lamp, _: &TooLong, _: &Ctx<'_>) -> Effects<Lamp> {
    lamp.warnings += 1;
    Effects::none()
}
fn go_dark(_: &mut Lamp, _: &Broke, _: &Ctx<'_>) -> Effects<Lamp> {
    Effects::none().unschedule::<TooLong>()
}
fn give_up(_: &mut Lamp, _: &WiringFailed, _: &Ctx<'_>) -> Effects<Lamp> {
    Effects::none()
}
fn explode(lamp: &mut Lamp, _: &Exploded, _: &Ctx<'_>) -> Effects<Lamp> {
    lamp.pushes = 99;
    panic!("the bulb burst")
}

/// Does what its script says, attempt by attempt; after the script it wires.
#[derive(Clone, Default)]
pub struct Electrician {
    pub script: Arc<Mutex<Vec<Job>>>,
    pub keys: Arc<Mutex<Vec<Uuid>>>,
    pub takes: Duration,
}

pub enum Job {
    Fail,
    Refuse,
    Panic,
    Sleep(Duration),
}

#[async_trait]
impl ActivityHandler<Wire> for Electrician {
    async fn execute(&self, command: &Wire, context: &HandlerContext) -> Result<Wiring, Failure> {
        self.keys.lock().unwrap().push(context.idempotency_key());
        context.sleep(self.takes).await;
        let job = {
            let mut script = self.script.lock().unwrap();
            if script.is_empty() { None } else { Some(script.remove(0)) }
        };
        match job {
            None => Ok(Wired::of(command.lamp).into()),
            Some(Job::Fail) => Err(Failure::retry("no ladder")),
            Some(Job::Refuse) => Err(Failure::permanent("no licence")),
            Some(Job::Panic) => panic!("fell off the ladder"),
            Some(Job::Sleep(time)) => {
                context.sleep(time).await;
                Ok(Wired::of(command.lamp).into())
            }
        }
    }
}

/// Counts the lamps that were lit.
#[derive(Clone, Default)]
pub struct Watcher(pub Arc<AtomicU32>);

#[async_trait]
impl Consumer<Lit> for Watcher {
    type Row = ();
    async fn consume(&self, _: &Lit, _: &HandlerContext) -> Result<Output<()>, Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Output::none())
    }
}

pub const LAMP: Uuid = Uuid::from_u128(0x1a);

pub fn house(electrician: &Electrician, watcher: &Watcher) -> HarnessBuilder {
    let (electrician, watcher) = (electrician.clone(), watcher.clone());
    Harness::builder().saga::<Lamp>().with(move |runtime| {
        runtime
            .retry(RetryPolicy::default())
            .activity::<Wire>(electrician.clone(), HandlerOptions::default())
            .consumer::<Lit>("watcher", watcher.clone(), HandlerOptions::default())
    })
}
