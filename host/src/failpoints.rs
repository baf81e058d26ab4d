//! Kills the own process at a named point, makes payments fail and writes down those that were decided: for crash tests,
//! never in a build that serves.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use async_trait::async_trait;
use order_saga::{Decision, PaymentGateway, ProcessPayment, RefundPayment};
use saga_core::{Failure, Point, Probe};
use uuid::Uuid;

/// The variable that says where: `P4:17` is the seventeenth time that P4 is reached.
pub const VARIABLE: &str = "SAGA_FAILPOINT";

/// Kills the process with SIGKILL when a point was reached so many times.
#[derive(Debug)]
pub struct KillAt {
    point: Point,
    times: u64,
    seen: AtomicU64,
}

impl KillAt {
    /// Reads `P4:17`; `P4` alone is the first time.
    ///
    /// # Errors
    /// When it is nothing of the kind.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let known = Point::ALL.map(Point::name).join(", ");
        let expected = || format!("{VARIABLE} = {text:?}: expected POINT:TIMES, such as P4:17, with one of {known}");
        let point = Point::from_name(name).with_context(expected)?;
        let times = times.parse().ok().filter(|times| *times > 0).with_context(expected)?;
        Ok(Self { point, times, seen: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Probe for KillAt {
    async fn reached(&self, point: Point) {
        if point != self.point || self.seen.fetch_add(1, Ordering::Relaxed) + 1 != self.times {
            return;
        }
        // A signal from outside: nothing in this process gets to run, not even a destructor.
        let kill = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        tracing::error!(?kill, "the process could not be killed");
        std::process::abort();
    }
}

/// The variable that makes payments fail: `3` is one in three.
pub const FAILING_PAYMENTS: &str = "SAGA_FAILING_PAYMENTS";

/// A gateway that fails the first call for one payment in so many, in each process anew; a retry succeeds. So there
/// are retries, and timers, to crash at.
pub struct FailsFirst {
    inner: Arc<dyn PaymentGateway>,
    one_in: u128,
    failed: Mutex<HashSet<Uuid>>,
}

impl FailsFirst {
    /// Reads `3`.
    ///
    /// # Errors
    /// When it is nothing of the kind.
    pub fn parse(text: &str, inner: Arc<dyn PaymentGateway>) -> anyhow::Result<Self> {
        let one_in = text.parse().ok().filter(|one_in| *one_in > 0);
        let one_in = one_in.with_context(|| format!("{FAILING_PAYMENTS} = {text:?}: expected a number from 1"))?;
        Ok(Self { inner, one_in, failed: Mutex::default() })
    }
}

#[async_trait]
impl PaymentGateway for FailsFirst {
    async fn charge(&self, payment: &ProcessPayment, idempotency_key: Uuid) -> Result<Decision, Failure> {
        let chosen = idempotency_key.as_u128().is_multiple_of(self.one_in);
        if chosen && self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(idempotency_key) {
            return Err(Failure::retry("the gateway was made to fail"));
        }
        self.inner.charge(payment, idempotency_key).await
    }

    async fn refund(&self, refund: &RefundPayment, idempotency_key: Uuid) -> Result<(), Failure> {
        self.inner.refund(refund, idempotency_key).await
    }
}

/// The variable that names the file where decided payments are written down.
pub const CHARGES: &str = "SAGA_CHARGES";

/// A gateway that writes down each payment that it has decided, as the provider itself would know it: a line of the
/// idempotency key and the order. The file outlives the process, and several may write to it.
pub struct WritesDown {
    inner: Arc<dyn PaymentGateway>,
    charges: Mutex<File>,
}

impl WritesDown {
    /// Opens the file.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn to(path: &str, inner: Arc<dyn PaymentGateway>) -> anyhow::Result<Self> {
        let charges = File::options().create(true).append(true).open(path);
        let charges = charges.with_context(|| format!("{CHARGES} = {path:?}: expected a file that can be written"))?;
        Ok(Self { inner, charges: Mutex::new(charges) })
    }
}

#[async_trait]
impl PaymentGateway for WritesDown {
    async fn charge(&self, payment: &ProcessPayment, idempotency_key: Uuid) -> Result<Decision, Failure> {
        let decision = self.inner.charge(payment, idempotency_key).await?;
        let line = format!("{idempotency_key} {}\n", payment.order_id);
        let written = self.charges.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        written.map_err(|error| Failure::permanent(format!("the charge can not be written down: {error}")))?;
        Ok(decision)
    }

    async fn refund(&self, refund: &RefundPayment, idempotency_key: Uuid) -> Result<(), Failure> {
        self.inner.refund(refund, idempotency_key).await
    }
}
