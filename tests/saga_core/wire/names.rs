//! Names of exchanges, and addresses.

use std::borrow::Cow;

use saga_core::Envelope;
use saga_core::wire::{Address, BusAddress, Destination, WireError, entity_name};
use uuid::Uuid;

#[test]
fn given_the_names_of_types_when_they_name_exchanges_then_they_are_masstransits() {
    for (name, exchange) in [
        ("Shop.Contracts:OrderPlaced", "Shop.Contracts:OrderPlaced"),
        ("urn:message:Shop.Contracts:OrderPlaced", "Shop.Contracts:OrderPlaced"),
        ("Shop:Outer+Inner", "Shop:Outer-Inner"),
        ("Shop:Outer+Inner+Inmost", "Shop:Outer-Inner-Inmost"),
        ("MassTransit:Fault[[Shop.Contracts:OrderPlaced]]", "MassTransit:Fault--Shop.Contracts:OrderPlaced--"),
        ("MassTransit:Fault[[Shop:Outer+Inner]]", "MassTransit:Fault--Shop:Outer-Inner--"),
        ("Shop:Pair[[A:X],[B:Y]]", "Shop:Pair--A:X::B:Y--"),
        ("Shop:Pair[[Shop:X],[B:Y]]", "Shop:Pair--X::B:Y--"),
        ("MassTransit:Fault[[Shop:Pair[[Shop:X],[B:Y]]]]", "MassTransit:Fault--Shop:Pair--X::B:Y----"),
        ("Shop:Outer[[A:X]]+Inner", "Shop:Outer--A:X---Inner"),
        ("Shop:Batch[[Shop:X[]]]", "Shop:Batch--X[]--"),
        ("x", "x"),
        ("Naïve:Grün", "Naïve:Grün"),
    ] {
        assert_eq!(entity_name(name).as_deref(), Ok(exchange), "{name}");
    }
}

#[test]
fn given_names_that_no_exchange_can_have_when_they_are_asked_for_then_it_is_said_why() {
    let why = |name: &str| match entity_name(name) {
        Err(WireError::Name { why, .. }) => why,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(why(""), "it is empty");
    assert_eq!(why("urn:message:"), "it is empty");
    assert_eq!(why("amq.Shop:X"), "names that begin with `amq.` are the broker's own");
    assert_eq!(why("Shop:\n"), "it has a control character");
    for odd in ["Shop:Pair[[A:X]", "Shop:Pair[A:X]", "Shop:Pair[[A:X],B:Y]]", "Shop:X]", "Shop:X[[A:B]]]", "["] {
        assert_eq!(why(odd), "its brackets do not match", "{odd}");
    }
    let long = format!("Shop:{}", "ü".repeat(126));
    assert_eq!(why(&long), "it is longer than 255 bytes");
    assert_eq!(why(&"[[".repeat(10_000)), "it is longer than 255 bytes");
    let message = entity_name(&long).unwrap_err().to_string();
    assert!(message.starts_with("`Shop:üü") && message.len() < 300, "{message}");
    assert!(entity_name(&format!("S:{}", "x".repeat(253))).is_ok());
}

#[test]
fn given_addresses_when_they_are_read_then_a_queue_or_an_exchange_is_named() {
    let queue = |name: &str| Address::Queue(name.to_owned());
    for (text, address) in [
        ("queue:order-saga", queue("order-saga")),
        ("QUEUE:order-saga?queue=other", queue("order-saga")),
        ("order-saga", queue("order-saga")),
        ("exchange:Orders:OrderPaid?type=topic", Address::Exchange("Orders:OrderPaid".to_owned())),
        ("rabbitmq://mq/order-saga", queue("order-saga")),
        ("rabbitmq://mq/shop/order-saga?temporary=true&bind=true", queue("order-saga")),
        ("rabbitmq://mq:5673/a%2Fb/Orders:OrderPaid", queue("Orders:OrderPaid")),
        ("rabbitmqs://mq/a/b/order-saga#x", queue("order-saga")),
        ("amqp://guest:secret@mq/shop/order%20saga%", queue("order saga%")),
        ("amqps://[::1]:5671/order-saga", queue("order-saga")),
    ] {
        assert_eq!(text.parse(), Ok(address.clone()), "{text}");
        assert_eq!(address.to_string().parse(), Ok(address), "{text}");
    }
}

#[test]
fn given_addresses_that_lead_nowhere_when_they_are_read_then_it_is_said_why() {
    for (text, why) in [
        ("topic:orders", "RabbitMQ has no topics"),
        ("sb://shop.servicebus.windows.net/orders", "it begins with none of"),
        ("http://mq/order-saga", "it begins with none of"),
        ("queue://mq/order-saga", "without a host"),
        ("queue:", "it names nothing"),
        ("queue:*", "it names nothing"),
        ("rabbitmq://mq", "it names nothing"),
        ("rabbitmq:mq/order-saga", "it names nothing"),
        ("rabbitmq://mq/shop/", "it names nothing"),
        ("rabbitmq://mq/amq.rabbitmq.reply-to", "direct reply-to is not spoken here"),
        ("queue:%FF", "its escapes are no UTF-8"),
        ("queue:a%00", "it has a control character"),
        ("", "it names nothing"),
    ] {
        let error = text.parse::<Address>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn given_a_broker_when_short_addresses_are_made_full_then_they_are_masstransits() {
    let full = |host, port, vhost, address| BusAddress::new(host, port, vhost).absolute(address).into_owned();
    for (address, expected) in [
        (full("mq", None, "/", "queue:order-saga"), "rabbitmq://mq/order-saga"),
        (full("mq", Some(5_672), "", "exchange:Orders:Paid"), "rabbitmq://mq/Orders:Paid"),
        (full("mq", Some(5_673), "a/b c", "queue:x?temporary=true"), "rabbitmq://mq:5673/a%2Fb%20c/x?temporary=true"),
        (full("mq", Some(5_671), "/", "queue:x"), "rabbitmqs://mq/x"),
        (full("::1", None, "/", "queue:x"), "rabbitmq://[::1]/x"),
        (full("mq", None, "/", "rabbitmq://else/x"), "rabbitmq://else/x"),
        (full("mq", None, "/", "odd"), "odd"),
    ] {
        assert_eq!(address, expected);
    }
}

#[test]
fn given_what_an_outbox_row_names_when_it_is_sent_then_there_is_an_exchange() {
    assert_eq!(Destination::of("order-saga"), Destination::Queue("order-saga"));
    assert_eq!(Destination::of("exchange:Orders:Paid"), Destination::Exchange("Orders:Paid"));
    assert_eq!(Destination::of("queue:exchange:odd"), Destination::Queue("exchange:odd"));
    assert_eq!(Destination::of("exchange:Orders:Paid").exchange().as_deref(), Ok("Orders:Paid"));
    assert!(Destination::of(&"x".repeat(256)).exchange().is_err());

    let answers_to = |address: &str| {
        let mut envelope = Envelope::raw(Uuid::nil(), "A:B", saga_core::Body::of(&()));
        envelope.response_address = Some(address.to_owned());
        envelope.response_endpoint().map(Cow::into_owned).unwrap()
    };
    assert_eq!(answers_to("queue:order-saga"), "order-saga");
    assert_eq!(answers_to("rabbitmq://else/shop/web_bus_1?temporary=true"), "web_bus_1");
    assert_eq!(answers_to("exchange:Orders:Paid"), "exchange:Orders:Paid");
    assert_eq!(answers_to("queue:exchange:odd"), "queue:exchange:odd");
    assert_eq!(answers_to("topic:orders"), "topic:orders", "for the bus to refuse");
}
