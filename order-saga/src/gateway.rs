//! The payment gateway: the port behind which the outcome of a payment stands, and its adapters.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use saga_core::Failure;
use uuid::Uuid;

use crate::messages::{ProcessPayment, RefundPayment};

/// Charges cards and gives money back. Adapters: [`RandomGateway`], [`ScriptedGateway`].
///
/// A call may be repeated, after a failure or a crash, with the same idempotency key: an adapter answers a repeated
/// key as it did before and moves no money twice.
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// Charges an order.
    ///
    /// # Errors
    /// [`Failure::retry`] when asking again may help, [`Failure::permanent`] when not. That a card was declined is no
    /// error but a decision.
    async fn charge(&self, payment: &ProcessPayment, idempotency_key: Uuid) -> Result<Decision, Failure>;

    /// Gives a charge back.
    ///
    /// # Errors
    /// As [`PaymentGateway::charge`].
    async fn refund(&self, refund: &RefundPayment, idempotency_key: Uuid) -> Result<(), Failure>;
}

/// What a gateway decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The card is charged.
    Approved {
        /// The gateway's own name for the charge.
        reference: String,
    },
    /// The card is not charged.
    Declined {
        /// Why, for people.
        reason: String,
    },
}

/// The share of payments that are approved, from 0 (none) to 1 (all).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuccessRate(f64);

impl SuccessRate {
    /// One in two.
    pub const HALF: Self = Self(0.5);

    /// A rate.
    ///
    /// # Errors
    /// When it is no number from 0 to 1.
    pub fn new(rate: f64) -> Result<Self, SuccessRateError> {
        if (0.0..=1.0).contains(&rate) { Ok(Self(rate)) } else { Err(SuccessRateError(rate)) }
    }
}

/// A success rate that is none.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is no success rate; a number from 0 to 1 is expected")]
pub struct SuccessRateError(pub f64);

/// Decides by chance, and refunds always.
///
/// The chance is derived, not drawn: a repeated call, after a crash too, is decided as before, which is what a real
/// gateway does with a repeated idempotency key.
#[derive(Debug, Clone, Copy)]
pub struct RandomGateway {
    rate: SuccessRate,
    seed: Option<u64>,
}

impl RandomGateway {
    /// A gateway whose chance comes from the order's id, which is random.
    pub fn new(rate: SuccessRate) -> Self {
        Self { rate, seed: None }
    }

    /// A gateway whose chance comes from `seed` and the idempotency key alone.
    pub fn seeded(rate: SuccessRate, seed: u64) -> Self {
        Self { rate, seed: Some(seed) }
    }
}

#[async_trait]
impl PaymentGateway for RandomGateway {
    async fn charge(&self, payment: &ProcessPayment, idempotency_key: Uuid) -> Result<Decision, Failure> {
        let source = match self.seed {
            Some(seed) => Uuid::new_v5(&idempotency_key, format!("seed/{seed}").as_bytes()),
            None => Uuid::new_v5(&idempotency_key, format!("order/{}", payment.order_id).as_bytes()),
        };
        Ok(if fraction(source) < self.rate.0 {
            Decision::Approved { reference: format!("charge-{idempotency_key}") }
        } else {
            Decision::Declined { reason: "declined by chance".to_owned() }
        })
    }

    async fn refund(&self, _: &RefundPayment, _: Uuid) -> Result<(), Failure> {
        Ok(())
    }
}

/// A number from 0 (inclusive) to 1 (exclusive), out of the first 48 bits of a UUIDv5: its version begins behind them.
fn fraction(id: Uuid) -> f64 {
    const BITS: u32 = 48;
    let bits = (id.as_u128() >> (u128::BITS - BITS)) as u64;
    bits as f64 / (1_u64 << BITS) as f64
}

/// Decides by a script, and counts: for tests and examples.
///
/// A decision is remembered by its idempotency key and given again without moving on in the script; a failure is not,
/// so a retry meets the next line. The last line repeats for ever. A gateway without a refund script refunds always.
pub struct ScriptedGateway(Mutex<Script>);

#[derive(Default)]
struct Script {
    charges: VecDeque<Result<Decision, Failure>>,
    refunds: VecDeque<Result<(), Failure>>,
    decided: HashMap<Uuid, Decision>,
    refunded: Vec<Uuid>,
    charge_calls: Vec<Uuid>,
    refund_calls: Vec<Uuid>,
}

impl ScriptedGateway {
    /// A gateway that answers charges with these lines, one after the other; an empty script declines always.
    pub fn new(charges: impl IntoIterator<Item = Result<Decision, Failure>>) -> Self {
        Self(Mutex::new(Script { charges: charges.into_iter().collect(), ..Script::default() }))
    }

    /// Answers refunds with these lines, one after the other.
    #[must_use]
    pub fn refunds(self, refunds: impl IntoIterator<Item = Result<(), Failure>>) -> Self {
        self.script().refunds = refunds.into_iter().collect();
        self
    }

    /// Goes on with another script for charges: the gateway was mended, or broke. What was decided stays decided.
    pub fn charges_from_now(&self, charges: impl IntoIterator<Item = Result<Decision, Failure>>) {
        self.script().charges = charges.into_iter().collect();
    }

    /// The idempotency keys of all calls to charge, failed ones too, in their order.
    pub fn charge_calls(&self) -> Vec<Uuid> {
        self.script().charge_calls.clone()
    }

    /// The idempotency keys of all calls to refund, failed ones too, in their order.
    pub fn refund_calls(&self) -> Vec<Uuid> {
        self.script().refund_calls.clone()
    }

    /// How many charges moved money: approvals, each idempotency key once.
    pub fn approved(&self) -> usize {
        self.script().decided.values().filter(|decision| matches!(decision, Decision::Approved { .. })).count()
    }

    /// How many refunds moved money, each idempotency key once.
    pub fn refunded(&self) -> usize {
        self.script().refunded.len()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PaymentGateway for ScriptedGateway {
    async fn charge(&self, _: &ProcessPayment, idempotency_key: Uuid) -> Result<Decision, Failure> {
        let mut script = self.script();
        script.charge_calls.push(idempotency_key);
        if let Some(decision) = script.decided.get(&idempotency_key) {
            return Ok(decision.clone());
        }
        let declined = || Ok(Decision::Declined { reason: "no line of the script approves it".to_owned() });
        let decision = next(&mut script.charges).unwrap_or_else(declined)?;
        script.decided.insert(idempotency_key, decision.clone());
        Ok(decision)
    }

    async fn refund(&self, _: &RefundPayment, idempotency_key: Uuid) -> Result<(), Failure> {
        let mut script = self.script();
        script.refund_calls.push(idempotency_key);
        if !script.refunded.contains(&idempotency_key) {
            next(&mut script.refunds).unwrap_or(Ok(()))?;
            script.refunded.push(idempotency_key);
        }
        Ok(())
    }
}

/// The next line of a script; the last one stays.
fn next<T: Clone>(script: &mut VecDeque<T>) -> Option<T> {
    if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
}
