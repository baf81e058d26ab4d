//! What can be said of a bus, and what can not.

use std::time::Duration;

use saga_core::{Bus, RabbitMqBuildError, RabbitMqBus};

const URL: &str = "amqp://ann:s3cr3t@localhost/shop";

#[test]
fn given_options_out_of_bounds_when_built_then_the_error_says_what_to_say_instead() {
    let bus = || RabbitMqBus::builder(URL);
    let second = Duration::from_secs(1);
    for (builder, why) in [
        (bus().heartbeat(second), "2 to 65535"),
        (bus().heartbeat(Duration::from_millis(2_500)), "whole seconds"),
        (bus().prefetch(0), "no limit"),
        (bus().reconnect_backoff(second, Duration::ZERO), "from short to long"),
        (bus().reconnect_backoff(Duration::ZERO, second), "from short to long"),
        (bus().ca_file("ca.pem"), "amqps"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(&error, RabbitMqBuildError::Option(text) if text.contains(why)), "{error}");
    }
    let no_file = RabbitMqBus::builder("amqps://localhost").ca_file("/no/such/ca.pem").build().unwrap_err();
    assert!(matches!(&no_file, RabbitMqBuildError::CaFile { file, .. } if file.ends_with("ca.pem")), "{no_file}");
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let empty = RabbitMqBus::builder("amqps://localhost").ca_file(empty).build().unwrap_err();
    assert!(empty.to_string().contains("no certificate"), "{empty}");
}

#[test]
fn given_a_bus_when_printed_then_the_password_is_not_there() {
    let builder = RabbitMqBus::builder(URL);
    assert!(format!("{builder:?}").contains("localhost"));
    assert!(!format!("{builder:?}").contains("s3cr3t"));
    let bus = builder.build().unwrap();
    assert!(!format!("{bus:?}").contains("s3cr3t"));
    let wrong = format!("{:?}", RabbitMqBus::builder("amqp://ann:s3cr3t@localhost?x=1"));
    assert!(!wrong.contains("s3cr3t"), "{wrong}");
    assert_eq!(bus.health(), Err("the bus is not started".to_owned()));
}
