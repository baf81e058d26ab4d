//! Several hosts on one PostgreSQL and one RabbitMQ, all of which are killed and restarted under load: what was accepted
//! ends as it should, once.

mod clients;
mod judge;
mod nodes;

use std::time::{Duration, Instant};

use test_servers::{Postgres, Rabbit};

use crate::kill::Chance;
use clients::Clients;
use judge::Judge;
use nodes::{Node, Nodes};

/// Hosts at the same time.
const HOSTS: usize = 3;
/// Orders that are submitted.
const ORDERS: u64 = 5_000;
/// Kills of hosts, one after another, spread over the orders.
const KILLS: u64 = 12;
/// How long everything may take to come to its end after the last fault.
const CONVERGENCE: Duration = Duration::from_secs(120);

/// One thing that is done to the cluster.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillHost(usize),
    RestartBroker,
    KillBroker,
    RestartDatabase,
    CrashDatabase,
}

/// When each fault comes, counted in accepted orders: kills of hosts in a row, and the servers between.
fn plan(chance: &mut Chance) -> Vec<(u64, Fault)> {
    let kills = (1..=KILLS).map(|n| (n * ORDERS / (KILLS + 1), Fault::KillHost(n as usize % HOSTS)));
    let servers = [Fault::RestartBroker, Fault::RestartDatabase, Fault::KillBroker, Fault::CrashDatabase];
    let quarter = ORDERS / 4;
    let between = servers.into_iter().zip(0..).map(|(fault, n)| (n * quarter + chance.up_to(quarter - 1), fault));
    let mut plan: Vec<_> = kills.chain(between).collect();
    plan.sort_by_key(|(at, _)| *at);
    plan
}

struct Cluster {
    postgres: Postgres,
    rabbit: Rabbit,
    nodes: Nodes,
}

impl Cluster {
    /// How many messages are left in the broker's queues.
    fn messages(&self, vhost: &str) -> u64 {
        let queues = self.rabbit.ctl(&["list_queues", "-q", "-p", vhost, "name", "messages"]);
        assert!(queues.contains("order-saga"), "{queues}");
        let counts = queues.lines().filter_map(|line| line.split_once('\t')?.1.trim().parse::<u64>().ok());
        counts.sum()
    }

    fn apply(&self, fault: Fault) {
        match fault {
            Fault::KillHost(host) => {
                self.nodes.kill(host);
                self.nodes.start(host);
            }
            Fault::RestartBroker => {
                self.rabbit.stop();
                self.rabbit.start_again();
            }
            Fault::KillBroker => {
                self.rabbit.kill9();
                self.rabbit.start_again();
            }
            Fault::RestartDatabase => {
                self.postgres.stop_fast();
                self.postgres.start_again();
            }
            Fault::CrashDatabase => {
                self.postgres.stop_immediate();
                self.postgres.start_again();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_three_hosts_when_hosts_broker_and_database_are_killed_under_load_then_each_order_ends_once() {
    let mut chance = Chance::of(3_333);
    let plan = plan(&mut chance);
    let (postgres, rabbit) = (Postgres::start(), Rabbit::start());
    let (store, bus) = (postgres.database(), rabbit.vhost());
    let nodes = Nodes::start_all((0..HOSTS).map(|n| Node::on(n, &store, &bus)));
    let cluster = Cluster { postgres, rabbit, nodes };
    let clients = Clients::new(&cluster.nodes, ORDERS);
    let started = Instant::now();
    let faults = async {
        for (at, fault) in plan {
            clients.until_accepted(at).await;
            let begun = started.elapsed();
            // Killing and starting block a thread.
            tokio::task::block_in_place(|| cluster.apply(fault));
            println!("{begun:>8.1?} after {at:>5} orders: {fault:?}, {:.1?}", started.elapsed() - begun);
        }
    };
    tokio::join!(clients.submit(), faults);
    println!("{:>8.1?} {ORDERS} orders accepted, {}", started.elapsed(), clients.report());

    let judge = Judge::of(&store).await;
    let last_fault = Instant::now();
    judge.until_at_rest(CONVERGENCE, || tokio::task::block_in_place(|| cluster.messages(nodes::vhost(&bus)))).await;
    println!("{:>8.1?} at rest, {:.1?} after the last fault", started.elapsed(), last_fault.elapsed());
    judge.assert_sound(&clients.accepted()).await;
}
