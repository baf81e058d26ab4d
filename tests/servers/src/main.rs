//! `cargo run -p test-servers` starts a private PostgreSQL and RabbitMQ, prints their URLs as variables that tests
//! understand, and keeps them until its input ends: tests that are run again and again need not start them each time.
//! With the argument `fresh` it prints a database and a virtual host of the servers that those variables name.

use std::io::{self, BufRead};
use std::thread;

use test_servers::{Postgres, Rabbit, RabbitOptions};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("fresh") {
        println!("{}\n{}", Postgres::shared().database(), Rabbit::shared().vhost());
        return;
    }
    let (postgres, rabbit) = thread::scope(|scope| {
        let postgres = scope.spawn(Postgres::start);
        let rabbit = scope.spawn(|| Rabbit::start_with(&RabbitOptions { management: true, tls: false }));
        match (postgres.join(), rabbit.join()) {
            (Ok(postgres), Ok(rabbit)) => (postgres, rabbit),
            // The panic was shown by the thread.
            _ => std::process::exit(1),
        }
    });
    println!("TEST_DATABASE_URL={}", postgres.url());
    println!("TEST_AMQP_URL={}", rabbit.url());
    println!("TEST_AMQP_MANAGEMENT_URL={}", rabbit.management_url());
    io::stdin().lock().lines().map_while(Result::ok).for_each(drop);
}
