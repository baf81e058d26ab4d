//! Faults: who is told, and how they are read.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use saga_core::testkit::Harness;
use saga_core::wire::write;
use saga_core::{
    Body, Consumer, Correlation, Ctx, Effects, Envelope, Failure, Fault, HandlerContext, HandlerOptions, Message,
    Output, ReceiveFault, Rule, Saga, events, states,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{base, host};
use crate::lamp::{Electrician, Job, LAMP, Wire};

/// Keeps the faults that it hears of, then fails.
#[derive(Clone, Default)]
struct Complaints {
    typed: Arc<Mutex<Vec<Fault<Wire>>>>,
    all: Arc<Mutex<Vec<Fault>>>,
}

#[async_trait]
impl Consumer<Fault<Wire>> for Complaints {
    type Row = ();
    async fn consume(&self, fault: &Fault<Wire>, _: &HandlerContext) -> Result<Output<()>, Failure> {
        self.typed.lock().unwrap().push(fault.clone());
        Ok(Output::none())
    }
}

#[async_trait]
impl Consumer<Fault> for Complaints {
    type Row = ();
    async fn consume(&self, fault: &Fault, _: &HandlerContext) -> Result<Output<()>, Failure> {
        self.all.lock().unwrap().push(fault.clone());
        Err(Failure::permanent("nobody reads complaints"))
    }
}

/// A saga that hears of faults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Inquiry {
    why: Vec<String>,
}

states! { enum InquiryState { Quiet, Open } }
events! { enum InquiryEvent { WireFault(Fault<Wire>) } }

impl Saga for Inquiry {
    const NAME: &'static str = "inquiry";
    const ENDPOINT: &'static str = "inquiry-saga";
    type State = InquiryState;
    type Event = InquiryEvent;
    type Row = ();

    fn correlate(event: InquiryEvent) -> Correlation {
        match event {
            InquiryEvent::WireFault(on) => on.by(|fault| fault.message.lamp),
        }
    }

    fn table(state: InquiryState, event: InquiryEvent) -> Rule<Self> {
        match (state, event) {
            (InquiryState::Quiet | InquiryState::Open, InquiryEvent::WireFault(on)) => {
                on.to(InquiryState::Open, inquire)
            }
        }
    }
}

fn inquire(inquiry: &mut Inquiry, fault: &Fault<Wire>, _: &Ctx<'_>) -> Effects<Inquiry> {
    let exceptions = fault.exceptions.iter().flatten();
    inquiry.why.extend(exceptions.filter_map(|it| it.message.clone()));
    Effects::none()
}

#[test]
fn given_subscribers_to_faults_when_a_message_is_given_up_then_each_hears_of_it_and_there_is_no_fault_of_a_fault() {
    let electrician = Electrician { script: Arc::new(Mutex::new(vec![Job::Refuse])), ..Electrician::default() };
    let complaints = Complaints::default();
    let consumers = complaints.clone();
    let mut harness = Harness::builder()
        .saga::<Inquiry>()
        .with(move |runtime| {
            runtime
                .activity::<Wire>(electrician.clone(), HandlerOptions::default())
                .consumer::<Fault<Wire>>("complaints", consumers.clone(), HandlerOptions::default())
                .consumer::<Fault>("all-complaints", consumers.clone(), HandlerOptions::default())
        })
        .start();
    harness.send_envelope("electrician", Envelope::new(Uuid::from_u128(9), &Wire::of(LAMP)));

    let fault = complaints.typed.lock().unwrap().pop().unwrap();
    assert_eq!((fault.faulted_message_id, fault.message), (Some(Uuid::from_u128(9)), Wire::of(LAMP)));
    assert_eq!(fault.fault_message_types, Some(vec!["urn:message:Lamps:Wire".to_owned()]));
    assert_eq!(fault.timestamp, harness.dead_letters()[0].at);
    assert_eq!(harness.data::<Inquiry>(LAMP).why, ["no licence"]);
    let any = complaints.all.lock().unwrap().pop().unwrap();
    assert_eq!(any.message.read::<Wire>().unwrap(), Wire::of(LAMP));
    let dead: Vec<_> = harness.dead_letters().iter().map(|it| it.endpoint.to_string()).collect();
    assert_eq!(dead, ["electrician", "all-complaints"]);
    assert_eq!(complaints.all.lock().unwrap().len(), 0, "a fault of the fault would have come here");
}

#[test]
fn given_masstransits_fault_when_it_is_read_then_every_field_is_there_and_its_host_stays() {
    let json = r#"{"FaultId":"0F0D9F5C-2B0F-4A57-8B5E-7A3A8F1F2C11","FaultedMessageId":null,"Timestamp":"2026-03-01T09:15:02Z",
        "Exceptions":[{"ExceptionType":"Shop.PaymentDown","InnerException":{"ExceptionType":"System.IO.IOException",
        "InnerException":null,"StackTrace":"at Shop","Message":"reset","Source":"Shop","Data":{"try":3}},
        "StackTrace":null,"Message":"gateway 503","Source":"Shop","Data":null}],
        "Host":{"MachineName":"w2","ProcessName":"billing","ProcessId":9},
        "FaultMessageTypes":["urn:message:Lamps:Wire"],"Message":{"Lamp":"00000000-0000-0000-0000-00000000001A"}}"#;
    let body = Body::from_json(json.to_owned()).unwrap();
    let fault: Fault<Wire> = body.read_leniently().unwrap();
    let exception = &fault.exceptions.as_ref().unwrap()[0];
    assert_eq!(exception.exception_type.as_deref(), Some("Shop.PaymentDown"));
    assert_eq!(exception.inner_exception.as_ref().unwrap().message.as_deref(), Some("reset"));
    assert_eq!((fault.message, fault.host.clone().unwrap().process_id), (Wire::of(LAMP), Some(9)));

    let body = Body::from_json(json.replace("FaultId", "faultId").replace("Host", "host")).unwrap();
    let written = write(&Envelope::raw(Uuid::from_u128(1), Fault::<Wire>::NAME, body), &host(), &base()).unwrap();
    let text = String::from_utf8(written.body).unwrap();
    assert!(text.contains(r#""host":{"MachineName":"w2""#), "{text}");
}

#[test]
fn given_faults_when_they_are_named_then_their_names_are_masstransits() {
    assert_eq!(Fault::<Wire>::NAME, "MassTransit:Fault[[Lamps:Wire]]");
    assert_eq!(Fault::<Fault<Wire>>::NAME, "MassTransit:Fault[[MassTransit:Fault[[Lamps:Wire]]]]");
    assert_eq!((<Fault>::NAME, ReceiveFault::NAME), ("MassTransit:Fault", "MassTransit:ReceiveFault"));
}
