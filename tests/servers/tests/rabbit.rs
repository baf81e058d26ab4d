use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use test_servers::{Rabbit, RabbitOptions, until};

const LIMIT: Duration = Duration::from_secs(60);

fn address(url: &str) -> String {
    let (_, address) = url.rsplit_once('@').unwrap();
    address.split_once('/').unwrap().0.to_owned()
}

#[test]
fn each_virtual_host_is_fresh() {
    let rabbit = Rabbit::shared();
    let (one, other) = (rabbit.vhost(), rabbit.vhost());
    let name = |url: &str| url.rsplit_once('/').unwrap().1.to_owned();
    assert_ne!(name(&one), name(&other));
    let hosts = rabbit.ctl(&["list_permissions", "--no-table-headers", "--vhost", &name(&one)]);
    assert_eq!(hosts.split_ascii_whitespace().collect::<Vec<_>>(), ["tester", ".*", ".*", ".*"]);
}

#[test]
fn what_is_durable_outlives_a_stop_and_a_kill() {
    let rabbit = Rabbit::start();
    let ends: [fn(&Rabbit); 2] = [Rabbit::stop, Rabbit::kill9];
    for end in ends {
        let host = rabbit.vhost();
        end(&rabbit);
        assert!(TcpStream::connect(address(rabbit.url())).is_err(), "it listens");
        rabbit.start_again();
        let name = host.rsplit_once('/').unwrap().1;
        assert_eq!(rabbit.eval(&format!("rabbit_vhost:exists(<<\"{name}\">>).")), "true");
    }
}

#[test]
fn a_halted_server_answers_when_it_runs_on() {
    let rabbit = Rabbit::start_with(&RabbitOptions { tls: true, ..RabbitOptions::default() });
    rabbit.pause();
    let mut client = TcpStream::connect(address(rabbit.url())).unwrap();
    client.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    client.set_nonblocking(true).unwrap();
    let mut first = [0];
    assert!(client.read(&mut first).is_err(), "a halted server answers");
    rabbit.resume();
    let count = until(LIMIT, "the handshake", || client.read(&mut first).ok());
    assert_eq!((count, first), (1, [1]));

    // A TLS listener answers what is no TLS with an alert, which is record type 21.
    let mut client = TcpStream::connect(address(&rabbit.amqps_url())).unwrap();
    client.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    client.read_exact(&mut first).unwrap();
    assert_eq!(first, [21]);
    for ca in [rabbit.ca_path(), rabbit.other_ca_path()] {
        assert!(std::fs::read_to_string(ca).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    }
    rabbit.pause();
    rabbit.stop();
}

#[test]
#[should_panic(expected = "the shared server is not to be touched")]
fn the_shared_server_is_not_to_be_stopped() {
    Rabbit::shared().stop();
}
