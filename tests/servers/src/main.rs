//! Starts a private PostgreSQL and RabbitMQ, prints their URLs, and keeps them until its input ends.

use std::io::{self, BufRead};

use test_servers::{Postgres, Rabbit};

fn main() {
    let (postgres, rabbit) = std::thread::scope(|scope| {
        let postgres = scope.spawn(Postgres::start);
        let rabbit = scope.spawn(Rabbit::start);
        match (postgres.join(), rabbit.join()) {
            (Ok(postgres), Ok(rabbit)) => (postgres, rabbit),
            // The panic was shown by the thread.
            _ => std::process::exit(1),
        }
    });
    println!("TEST_DATABASE_URL={}\nTEST_AMQP_URL={}", postgres.url(), rabbit.url());
    io::stdin().lock().lines().map_while(Result::ok).for_each(drop);
}
