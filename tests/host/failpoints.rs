//! How a failpoint is read, and what becomes of an order whose host was killed at one: at each point, on each layout. What
//! happens under load is in `kill.rs`.

mod layout;
mod place;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};

use host::failpoints::KillAt;
use saga_core::Point;

use crate::support::{PATIENCE, Served};
use layout::{LAYOUTS, Layout};
use place::{Place, Posted};

/// The signal that nobody can catch.
const SIGKILL: i32 = 9;
/// After so many orders, each completed before the next one, a host has come to every point.
const ORDERS: u64 = 100;

#[test]
fn given_a_failpoint_when_read_then_it_is_a_point_and_a_count() {
    for good in ["P4:17", "H1", "E1:1"] {
        assert!(KillAt::parse(good).is_ok(), "{good}");
    }
    for bad in ["", "P9:1", "P4:0", "P4:x", "P4:1:2"] {
        let error = KillAt::parse(bad).unwrap_err().to_string();
        assert!(error.contains("expected POINT:TIMES"), "{error}");
    }
}

/// One host is killed at the point, and what it has left behind is finished: by another host, or by itself when it is
/// started again.
async fn a_kill_is_survived(layout: &Layout, point: Point, times: u64) {
    let failpoint = format!("{}:{times}", point.name());
    let place = Place::on(layout).await;
    let other = layout.two_hosts.then(|| Served::start(&mut place.program(point)));
    // Alone, it hands over what it can; beside another one, everything goes over the broker.
    let local = (!layout.two_hosts).to_string();
    let killed = Served::start(place.program(point).env("SAGA_FAILPOINT", &failpoint).env("SAGA__BUS__LOCAL", local));
    let ended = orders_until_it_ends(&place, killed).await;
    assert_eq!(ended.signal(), Some(SIGKILL), "{failpoint} on {layout:?}");

    let survivor = other.unwrap_or_else(|| Served::start(&mut place.program(point)));
    for key in place.unanswered() {
        let status = match place.post(&survivor.rest, key).await {
            Posted::Accepted(status) => status,
            Posted::Unanswered => panic!("{failpoint} on {layout:?}: the survivor does not answer"),
        };
        match point {
            Point::Submitted => assert_eq!(status, 200, "{failpoint}: it was stored, and is not stored again"),
            Point::Received | Point::InboxWritten | Point::InstanceWritten if times == 1 => {
                assert_eq!(status, 201, "{failpoint}: nothing was stored");
            }
            _ => {}
        }
    }
    assert_eq!(place.post(&survivor.rest, u64::MAX).await, Posted::Accepted(201), "it takes orders as ever");
    place.until_at_rest().await;
    survivor.signal("-TERM");
    assert_eq!(survivor.exit_code(), Some(0));
    place.assert_as_without_a_crash(point, times, layout.two_hosts).await;
}

/// Orders again and again, each when the one before is completed, until the host is killed.
async fn orders_until_it_ends(place: &Place, host: Served) -> ExitStatus {
    for key in 1..=ORDERS {
        if place.post(&host.rest, key).await == Posted::Unanswered || !place.is_completed(&host.rest, key).await {
            return tokio::task::spawn_blocking(|| host.ended()).await.unwrap();
        }
    }
    panic!("it lived through {ORDERS} orders");
}

/// Each point of the layout, some of them at the same time.
fn at_every_point(layout: &Layout) {
    let cells: Vec<_> = Point::ALL.iter().flat_map(|point| layout.times.iter().map(|times| (*point, *times))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((point, times)) = cells.get(next.fetch_add(1, Ordering::SeqCst)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let survived = tokio::time::timeout(4 * PATIENCE, a_kill_is_survived(layout, *point, *times));
                survived.await.unwrap_or_else(|_| panic!("{}:{times} on {layout:?} does not end", point.name()));
            });
        }
    };
    std::thread::scope(|scope| (0..layout.at_once).for_each(|_| drop(scope.spawn(work))));
    assert!(next.into_inner() >= cells.len());
}

#[test]
fn given_a_kill_at_each_point_on_sqlite_when_started_again_then_the_end_is_as_without() {
    at_every_point(&LAYOUTS[0]);
}

#[test]
fn given_a_kill_at_each_point_on_postgres_and_rabbitmq_when_started_again_then_the_end_is_as_without() {
    at_every_point(&LAYOUTS[1]);
}

#[test]
fn given_a_kill_at_each_point_of_one_of_two_hosts_when_the_other_goes_on_then_the_end_is_as_without() {
    at_every_point(&LAYOUTS[2]);
}
