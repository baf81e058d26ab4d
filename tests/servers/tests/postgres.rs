use std::net::TcpStream;
use std::time::Duration;

use test_servers::{Postgres, Proxy, until};

const LIMIT: Duration = Duration::from_secs(60);

fn address(postgres: &Postgres) -> String {
    let (_, address) = postgres.url().rsplit_once('@').unwrap();
    address.split_once('/').unwrap().0.to_owned()
}

#[test]
fn each_database_is_fresh() {
    let postgres = Postgres::shared();
    let (one, other) = (postgres.database(), postgres.database());
    postgres.query(&one, "CREATE TABLE here (id int)");
    assert_eq!(postgres.query(&one, "SELECT count(*) FROM here"), "0");
    assert_eq!(postgres.query(&other, "SELECT to_regclass('here') IS NULL"), "t");
}

#[test]
fn what_was_committed_outlives_each_kind_of_end() {
    let postgres = Postgres::start();
    let database = postgres.database();
    postgres.query(&database, "CREATE TABLE ends (name text)");
    let ends = [Postgres::stop_fast, Postgres::stop_immediate, Postgres::kill9];
    for (name, end) in ["fast", "immediate", "kill"].into_iter().zip(ends) {
        postgres.query(&database, &format!("INSERT INTO ends VALUES ('{name}')"));
        end(&postgres);
        assert!(TcpStream::connect(address(&postgres)).is_err(), "it listens after {name}");
        postgres.start_again();
    }
    assert_eq!(postgres.query(&database, "SELECT string_agg(name, ' ') FROM ends"), "fast immediate kill");
    assert!(postgres.log().contains("automatic recovery in progress"), "the kill was none");
    assert_eq!(postgres.query(&database, "SHOW fsync"), "on");
}

#[test]
fn a_halted_server_answers_when_it_runs_on() {
    let postgres = Postgres::start();
    let database = postgres.database();
    postgres.pause();
    std::thread::scope(|scope| {
        let query = scope.spawn(|| postgres.query(&database, "SELECT 'answered'"));
        // The kernel takes the connection, the server does not.
        until(LIMIT, "the backlog", || TcpStream::connect(address(&postgres)).ok());
        assert!(!query.is_finished());
        postgres.resume();
        assert_eq!(query.join().unwrap(), "answered");
    });
    postgres.pause();
    postgres.stop_fast();
}

#[test]
#[should_panic(expected = "the shared server is not to be touched")]
fn the_shared_server_is_not_to_be_stopped() {
    Postgres::shared().stop_fast();
}

#[test]
#[should_panic(expected = "password authentication failed")]
fn the_password_matters() {
    let postgres = Postgres::shared();
    let (start, rest) = postgres.url().rsplit_once('@').unwrap();
    postgres.query(&format!("{start}x@{rest}"), "SELECT 1");
}

#[test]
fn it_is_reached_through_a_proxy() {
    let postgres = Postgres::shared();
    let proxy = Proxy::to(postgres.url());
    assert_eq!(postgres.query(&proxy.url(&postgres.database()), "SELECT 1"), "1");
    assert_eq!(proxy.accepted(), 1);
}
