//! The check of what is stored: nothing is wrong with what the service writes, and each thing that is made wrong is found.

mod doctored;
mod live;

use host::check::{Options, check};
use host::config::Config;
use saga_core::{Clock, SystemClock};
use serde_json::Value;

use crate::support::program;

const OPTIONS: Options = Options { at_rest: false, limit: 100 };

/// What the check says, as programs read it.
async fn report(config: &Config, options: Options) -> Value {
    serde_json::to_value(check(config, options, SystemClock.now()).await.unwrap()).unwrap()
}

/// Runs the real program's `check`; its exit code, what it prints, and its errors.
fn checked(store: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = program(&["check"]).args(arguments).env("SAGA__STORE__URL", store).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn given_what_can_not_be_looked_at_when_checked_then_it_is_exit_code_2_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nothing/orders.db");
    for (store, said) in [
        ("memory:".to_owned(), "expected sqlite://PATH or postgres://"),
        (format!("sqlite://{}", missing.display()), "there is no file"),
        ("postgres://saga:SeCrEt@127.0.0.1:1/orders".to_owned(), "takes no connection"),
    ] {
        let (code, out, error) = checked(&store, &[]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{error}");
        assert!(error.starts_with("saga-host: store.url") && error.contains(said), "{error}");
        assert!(!error.contains("SeCrEt"), "{error}");
    }
    assert!(!missing.parent().unwrap().exists());

    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    let (code, _, error) = checked(&format!("sqlite://{}", empty.display()), &[]);
    assert_eq!(code, Some(2));
    assert!(error.contains("are all migrations applied?"), "{error}");
}
