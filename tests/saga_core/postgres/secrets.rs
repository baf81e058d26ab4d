//! The password, and who may read along.

use std::io::Write;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use saga_core::{PostgresStore, Store, StoreError};
use test_servers::{Postgres, PostgresOptions};

use super::fixture::{Database, commit, inbox, is_handled, migrator};

const SECRET: &str = "swordfish";

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn refused(url: &str) -> String {
    match PostgresStore::builder(url).open().await.map(drop) {
        Err(StoreError::Unavailable(text)) => text,
        other => panic!("{url}: expected a store that is not available, got {other:?}"),
    }
}

#[tokio::test]
async fn given_a_url_that_can_not_be_used_when_it_is_opened_then_the_error_says_why_and_does_not_repeat_it() {
    for (url, why) in [
        ("sqlite://orders.db", "does not begin with postgres://"),
        ("", "does not begin with postgres://"),
        ("postgres://saga:swordfish@db:port/orders", "invalid port number"),
        ("postgres://saga:swordfish@db/orders?sslmode=bogus", "bogus"),
        ("postgres://saga:swordfish@db/orders?sslmod=require", "\"sslmod\", which nobody reads"),
        ("postgres://saga:what?swordfish@db/orders", "in a password, write %3F"),
    ] {
        let text = refused(url).await;
        assert!(text.contains(why) && text.contains("expected postgres://user@host"), "{url}: {text}");
        assert!(!text.contains(SECRET), "{text}");
    }
    let many = "postgresql://saga@db:5433/orders?sslmode=verify-full&sslrootcert=ca.pem&options[search_path]=mine";
    assert!(PostgresStore::builder(many).open().await.is_ok());
}

#[tokio::test]
async fn given_a_password_when_everything_is_logged_then_it_is_nowhere() {
    let database = Database::new();
    database.host().await.close().await;
    let (start, place) = database.url.rsplit_once('@').unwrap();
    let (user, right) = start.rsplit_once(':').unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let mut said = Vec::new();
    for password in [SECRET, right] {
        let store = super::fixture::builder(&format!("{user}:{password}@{place}")).open().await.unwrap();
        let done = store.commit(commit(|it| it.inbox = vec![inbox(1)])).await;
        assert_eq!(done.is_ok(), password == right, "{done:?}");
        said.extend(done.err());
        said.extend(store.ping().await.err());
        said.extend(store.migrate(&migrator()).await.err());
        said.extend(store.backlog().await.err());
        assert!(!format!("{:?}", store.reader()).contains(password));
        store.close().await;
    }
    drop(logging);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("saga_core") || log.contains("sqlx"), "nothing was logged");
    assert_eq!(said.len(), 4, "{said:?}");
    for text in said.iter().map(ToString::to_string).chain([log]) {
        assert!(!text.contains(SECRET) && !text.contains(right), "{text}");
    }
}

/// A server that encrypts, the PEM of the authority that vouches for it, and of another that does not.
fn encrypting() -> (Postgres, [String; 2]) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, others) = (authority("ours"), authority("others"));
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
    let server = Postgres::start_with(PostgresOptions { durable: false });
    // Written by the server itself into its folder: the key must be its own, and nobody else's to read.
    for (name, pem) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
        let lines = "SELECT string_to_table($$PEM$$, E'\\n')".replace("PEM", &pem);
        server.query(server.url(), &format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {name}'"));
    }
    server.query(server.url(), "ALTER SYSTEM SET ssl = on");
    server.query(server.url(), "SELECT pg_reload_conf()");
    (server, [ours.pem(), others.pem()])
}

#[tokio::test]
async fn given_a_server_that_encrypts_when_the_url_asks_for_it_then_nobody_reads_along() {
    let (server, [ours, others]) = encrypting();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let plain = server.database();
    let verified = |ca: &str| format!("{plain}?sslmode=verify-full&sslrootcert={ca}");
    let store = super::fixture::builder(&verified(&file("ours.pem", &ours))).open().await.unwrap();
    store.migrate(&migrator()).await.unwrap();
    store.commit(commit(|it| it.inbox = vec![inbox(1)])).await.unwrap();
    assert!(is_handled(&store, 1).await);
    let open = "SELECT count(*) FILTER (WHERE NOT ssl) || ' of ' || (count(*) > 1) FROM pg_stat_ssl
        JOIN pg_stat_activity USING (pid) WHERE application_name = 'saga'";
    assert_eq!(server.query(&plain, open), "0 of true");

    for (url, why) in [
        (verified(&file("others.pem", &others)), "certificate"),
        (format!("{}?sslmode=require", Postgres::shared().database()), "TLS"),
    ] {
        let store = super::fixture::builder(&url).open().await.unwrap();
        let met = store.ping().await;
        assert!(matches!(&met, Err(StoreError::Unavailable(text)) if text.contains(why)), "{met:?}");
    }
}
