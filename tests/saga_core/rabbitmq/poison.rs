//! A message that breaks every connection over which it is delivered.

use saga_core::QueueType;
use test_servers::Rabbit;

use super::foreign::Foreign;
use super::house::{House, endpoint, eventually, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_headers_that_are_no_text_when_delivered_then_that_message_is_put_aside_and_the_others_come_through() {
    let rabbit = Rabbit::start();
    let mut house = House::start(quick(rabbit.url()).queue_type(QueueType::Quorum), &[endpoint("inbox")]).await;
    house.send_numbers(0..20).await;
    house.all_confirmed(0..20).await;
    // What no client in Rust could send: a header that is not UTF-8.
    rabbit.eval(
        "Properties = {'P_basic', undefined, undefined, [{<<\"bad\">>, longstr, <<255, 254>>}], 2, undefined, undefined,
            undefined, undefined, undefined, undefined, undefined, undefined, undefined, undefined},
         {ok, Message} = rabbit_basic:message(rabbit_misc:r(<<\"/\">>, exchange, <<>>), <<\"inbox\">>,
            rabbit_basic:build_content(Properties, <<\"poison\">>)),
         rabbit_basic:publish(rabbit_basic:delivery(false, false, Message, undefined)).",
    );
    house.send_numbers(20..60).await;
    house.all_delivered(0..60).await;
    house.all_confirmed(20..60).await;
    let foreign = Foreign::at(rabbit.url()).await;
    let ready = "{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"inbox_error\">>)),
        proplists:get_value(messages_ready, rabbit_amqqueue:info(Q, [messages_ready])).";
    eventually("the message in inbox_error", || match rabbit.eval(ready).as_str() {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    house.healthy().await;
    house.send_numbers(60..100).await;
    house.all_delivered(60..100).await;
    assert_eq!(foreign.ready("inbox").await, 0);
}
