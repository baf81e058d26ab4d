//! What goes wrong now and then, one after the other, for as long as the safety phase lasts.

use std::sync::Arc;
use std::time::Duration;

use crate::probe::Point;
use crate::testkit::sim::cluster::{Cluster, Running};
use crate::testkit::sim::fault::Fault;
use crate::testkit::sim::options::{Disaster, LEASE};
use crate::testkit::sim::random::Random;

/// How long the broker hears nothing from a host before it closes the connection.
const BROKER_PATIENCE: Duration = Duration::from_secs(5);

/// Lets things go wrong until the time is over.
pub(super) async fn strike(cluster: Arc<Cluster>) {
    let options = &cluster.world.options;
    let mut random = Random::new(options.seed, "disasters");
    let pace = options.pace.as_millis() as u64;
    loop {
        tokio::time::sleep(random.millis(1..=2 * pace)).await;
        if cluster.world.calm() {
            return;
        }
        let up = cluster.up();
        let disaster = *random.pick(&options.disasters);
        match disaster {
            Disaster::DatabaseDown => database_down(&cluster, random.millis(200..=9_000)),
            Disaster::BrokerCrash => broker_crash(&cluster, random.millis(200..=9_000)),
            Disaster::Blocked => blocked(&cluster, random.millis(500..=15_000)),
            _ if up.is_empty() => {}
            _ => befall(&cluster, random.pick(&up).clone(), disaster, &mut random),
        }
    }
}

/// Something happens to one host.
fn befall(cluster: &Arc<Cluster>, host: Running, disaster: Disaster, random: &mut Random) {
    match disaster {
        Disaster::Crash => host.life.kill(Fault::Crash),
        Disaster::CrashAtPoint => {
            let point = *random.pick(&Point::ALL);
            let nth = random.within(1..=8) as usize;
            cluster.world.note(&host.life.name, "doomed", None, || format!("at {} {nth}", point.name()));
            host.life.crash_at(point, nth);
        }
        Disaster::Freeze => freeze(cluster, host, LEASE.mul_f64(0.5) + random.millis(0..=15_000), random),
        Disaster::Restart => {
            host.stop();
        }
        Disaster::ClockJump => clock_jump(cluster, &host, random),
        Disaster::Partition => partition(cluster, host, random.millis(200..=15_000)),
        Disaster::ConnectionLost => {
            if host.link.cut(random.millis(0..=6_000), random.millis(0..=6_000)) {
                cluster.world.count(Fault::ConnectionLost);
            }
        }
        Disaster::DatabaseDown | Disaster::BrokerCrash | Disaster::Blocked => {}
    }
}

fn freeze(cluster: &Arc<Cluster>, host: Running, time: Duration, random: &mut Random) {
    if !host.life.freeze() {
        return;
    }
    let cluster = cluster.clone();
    cluster.world.note(&host.life.name, "frozen", None, || format!("for {time:?}"));
    if time > BROKER_PATIENCE {
        let (link, after) = (host.link.clone(), random.millis(0..=1_000));
        tokio::spawn(async move {
            tokio::time::sleep(BROKER_PATIENCE).await;
            link.cut(after, Duration::ZERO);
        });
    }
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        if host.life.thaw() {
            cluster.world.note(&host.life.name, "thawed", None, String::new);
            if time > LEASE {
                cluster.world.count(Fault::Freeze);
            }
        }
    });
}

fn clock_jump(cluster: &Arc<Cluster>, host: &Running, random: &mut Random) {
    let hour = 3_600_000_000;
    let by = random.within(1..=2 * hour) as i64 - hour as i64;
    let (cluster, index, time) = (cluster.clone(), host.life.machine.index, random.millis(1_000..=40_000));
    cluster.world.count(Fault::ClockJump);
    cluster.set_clock(index, by);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        cluster.set_clock(index, 0);
    });
}

fn partition(cluster: &Arc<Cluster>, host: Running, time: Duration) {
    cluster.world.count(Fault::Partition);
    cluster.world.note(&host.life.name, "database cut off", None, || format!("for {time:?}"));
    host.life.set_cut_off(true);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        host.life.set_cut_off(false);
    });
}

fn database_down(cluster: &Arc<Cluster>, time: Duration) {
    let cluster = cluster.clone();
    cluster.world.count(Fault::DatabaseDown);
    cluster.world.note("db", "down", None, || format!("for {time:?}"));
    cluster.database.set_down(true);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        cluster.database.set_down(false);
        cluster.world.note("db", "up", None, String::new);
    });
}

fn broker_crash(cluster: &Arc<Cluster>, time: Duration) {
    let cluster = cluster.clone();
    cluster.world.count(Fault::BrokerCrash);
    cluster.world.note("broker", "crashed", None, || format!("for {time:?}"));
    cluster.broker.crash();
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        cluster.broker.start();
        cluster.world.note("broker", "up", None, String::new);
    });
}

fn blocked(cluster: &Arc<Cluster>, time: Duration) {
    let cluster = cluster.clone();
    cluster.world.note("broker", "blocked", None, || format!("for {time:?}"));
    cluster.broker.block(true);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        cluster.broker.block(false);
        cluster.world.note("broker", "unblocked", None, String::new);
    });
}
