//! The order service in this process, with a store that tells when a notification is committed.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use host::config::Config;
use host::serve::{Decorate, Parts, Service};
use order_saga::{Notification, ProcessPayment};
use saga_core::{Commit, Message};
use uuid::Uuid;

use crate::drive::{self, Latency};
use crate::entry::{self, Entry, WayIn};
use crate::place::Place;
use crate::watched::{Seen, Watched};

/// How many orders are submitted at the same time where nobody waits for their end.
const SUBMITTED: usize = 512;

/// Services that run, on one store and one bus.
pub(crate) struct Flow {
    place: Place,
    services: Vec<Service>,
    pub(crate) seen: Arc<Seen>,
}

impl Flow {
    /// Starts so many hosts; each answers when this returns.
    pub(crate) async fn start(place: Place, hosts: usize, payment: Duration) -> Self {
        Self::start_with(place, hosts, |config| config.payment.delay = payment).await
    }

    /// Starts so many hosts whose payments are approved at once, and with what else is to be set.
    pub(crate) async fn start_with(place: Place, hosts: usize, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { store: place.store.clone(), bus: place.bus.clone(), ..Config::default() };
        config.http.listen.set_port(0);
        // With its last place taken a service ends each connection with its answer, and that would be measured.
        config.http.connections = 2 * entry::REQUESTS;
        config.payment.delay = Duration::ZERO;
        config.payment.success_rate = 1.0;
        config.payment.concurrency = 1_000_000;
        config.expiration.after = Duration::from_secs(24 * 3_600);
        set(&mut config);
        let seen = Seen::new(notified, ProcessPayment::NAME);
        let watching = seen.clone();
        let decorate: Decorate =
            Arc::new(move |inner| Arc::new(Watched { inner, seen: watching.clone(), delay: Duration::ZERO }));
        let mut services = Vec::new();
        for _ in 0..hosts {
            let parts = Parts { decorate: Some(decorate.clone()), ..Parts::default() };
            services.push(Service::start(&config, parts).await.expect("a service"));
        }
        Self { place, services, seen }
    }

    /// Stops as it should be stopped; what is stored stays in its place.
    pub(crate) async fn stop(self) -> Place {
        for service in self.services {
            service.stop();
            service.ended().await.expect("a clean end");
        }
        self.place
    }

    /// Stops as a crash would; what is stored stays in its place.
    pub(crate) async fn abort(self) -> Place {
        for service in self.services {
            service.crash().await;
        }
        self.place
    }

    /// A way in, to every host in turn.
    pub(crate) async fn way(&self, entry: Entry) -> WayIn {
        entry::connected(self.services.iter().map(|it| &it.client)).await;
        WayIn::open(entry, &self.services, &self.place.bus).await
    }

    /// One order after the other, from its submission to its committed notification.
    pub(crate) async fn alone(&self, way: &WayIn, orders: usize) -> Latency {
        drive::alone(&self.seen, orders, |_| way.clone().submit()).await
    }

    /// Orders per second, from the first submission to the last committed notification, never more than `window` of
    /// them under way.
    pub(crate) async fn backlog(&self, way: &WayIn, orders: usize, window: usize) -> f64 {
        drive::backlog(&self.seen, orders, window, |_| way.clone().submit()).await
    }

    /// So many orders a second for some time.
    pub(crate) async fn arrivals(&self, way: &WayIn, rate: f64, time: Duration) -> Latency {
        drive::arrivals(&self.seen, rate, time, |_| way.clone().submit()).await
    }

    pub(crate) async fn submit_all(&self, orders: usize) {
        let way = self.way(Entry::Runtime).await;
        let submitting = stream::iter(0..orders).map(|_| way.clone().submit());
        submitting.buffer_unordered(SUBMITTED).for_each(async |_| ()).await;
    }

    /// Returns when so many payments were called for.
    pub(crate) async fn until_waiting(&self, orders: usize) {
        self.seen.until(|seen| seen.sent() >= orders).await;
    }
}

/// The orders whose notifications a commit writes.
pub(crate) fn notified(commit: &Commit) -> Vec<Uuid> {
    let notification = |row: &Arc<dyn saga_core::Row>| (&**row as &dyn Any).downcast_ref().map(order_of);
    commit.rows.iter().filter_map(notification).collect()
}

fn order_of(notification: &Notification) -> Uuid {
    notification.order_id
}
