//! A server that dies for good, and its standby, which takes its place.

use std::sync::Arc;

use test_servers::{Postgres, Proxy};

use super::faults::{until_handled, write_through};
use super::fixture::Database;

#[tokio::test(flavor = "multi_thread")]
async fn given_a_server_that_dies_when_its_standby_is_promoted_then_every_commit_that_was_acknowledged_is_there() {
    let primary = Postgres::start();
    let standby = primary.standby();
    // What clients know: an address that follows the server.
    let proxy = Proxy::to(primary.url());
    let database = Database::at(proxy.url(&primary.database()));
    let servers = Arc::new((primary, standby, proxy));
    write_through(&database, async |_| {
        until_handled(&database, 100).await;
        let servers = servers.clone();
        let failing_over = move || {
            let (primary, standby, proxy) = &*servers;
            primary.kill9();
            proxy.cut();
            standby.promote();
            proxy.redirect(standby.url());
        };
        tokio::task::spawn_blocking(failing_over).await.unwrap();
        until_handled(&database, 100).await;
    })
    .await;
}
