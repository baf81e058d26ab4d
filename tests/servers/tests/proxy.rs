use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use test_servers::{Proxy, Way, until};

const LIMIT: Duration = Duration::from_secs(30);

/// A server that sends back what it reads.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("echo://us:er@{}/path", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &client, &mut &client).map(drop));
        }
    });
    url
}

fn connect(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client
}

fn ask(client: &mut TcpStream, text: &str) -> String {
    client.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn nothing_comes(client: &mut TcpStream) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let kind = client.read(&mut [0]).unwrap_err().kind();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[test]
fn it_forwards_until_either_end_closes() {
    let server = echo();
    let proxy = Proxy::to(&server);
    assert_eq!(proxy.url(&server), format!("echo://us:er@{}/path", proxy.address()));
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "hello"), "hello");
    assert_eq!((proxy.open(), proxy.accepted()), (1, 1));
    client.write_all(b"last").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last");
    until(LIMIT, "the connection's end", || (proxy.open() == 0).then_some(()));
}

#[test]
fn cut_closes_what_is_open_and_serves_what_comes() {
    let proxy = Proxy::to(&echo());
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "one"), "one");
    proxy.cut();
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(ask(&mut connect(&proxy), "two"), "two");
}

#[test]
fn what_is_held_arrives_after_it() {
    for way in [Way::ToServer, Way::ToClient, Way::Both] {
        let proxy = Proxy::to(&echo());
        let mut client = connect(&proxy);
        assert_eq!(ask(&mut client, "before"), "before");
        proxy.half_open(way);
        client.write_all(b"during").unwrap();
        assert!(nothing_comes(&mut client), "{way:?}");
        proxy.resume();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"during");
    }
}

#[test]
fn what_is_held_can_be_cut() {
    let proxy = Proxy::to(&echo());
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "before"), "before");
    proxy.half_open(Way::Both);
    client.write_all(b"lost").unwrap();
    proxy.cut();
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(proxy.open(), 0);
}

#[test]
fn it_refuses_and_accepts_again() {
    let proxy = Proxy::to(&echo());
    let mut open = connect(&proxy);
    assert_eq!(ask(&mut open, "open"), "open");
    proxy.refuse(true);
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut open, "still"), "still");
    proxy.refuse(false);
    assert_eq!(ask(&mut connect(&proxy), "again"), "again");
}

#[test]
fn it_delays_each_direction_without_slowing_the_sender() {
    const DELAY: Duration = Duration::from_millis(40);
    let proxy = Proxy::to(&echo());
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "soon"), "soon");
    proxy.delay(DELAY);
    let start = Instant::now();
    assert_eq!(ask(&mut client, "late"), "late");
    assert!(start.elapsed() >= 2 * DELAY);
}
