//! SIGKILL at each named point of the real program: nothing that was accepted is lost, nothing happens twice.

use host::failpoints::KillAt;
use serde_json::Value;

use crate::support::{Host, PATIENCE, Served, approved, program, quick, small};

/// At which time the point kills: in the middle of a few orders, after it was passed before.
const TIMES: u32 = 4;

#[test]
fn given_a_failpoint_when_read_then_it_is_a_point_and_a_count() {
    for good in ["P4:17", "H1", "E1:1"] {
        assert!(KillAt::parse(good).is_ok(), "{good}");
    }
    for bad in ["", "P9:1", "P4:0", "P4:x", "P4:1:2"] {
        let error = KillAt::parse(bad).unwrap_err().to_string();
        assert!(error.contains("expected POINT:TIMES"), "{error}");
    }
}

#[tokio::test]
async fn given_a_kill_at_each_point_when_started_again_then_every_accepted_order_ends_with_one_notification() {
    for point in ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "H1", "E1"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let mut command = program(&["serve"]);
        command
            .env("SAGA__STORE__URL", format!("sqlite://{}", path.display()))
            .env("SAGA__PAYMENT__DELAY", "0s")
            .env("SAGA__PAYMENT__SUCCESS_RATE", "1")
            .env("SAGA_FAILPOINT", format!("{point}:{TIMES}"));
        let served = Served::start(&mut command);
        let mut accepted = Vec::new();
        let submit = async {
            while let Ok(answer) = served.rest.post("/api/orders", &small().to_string(), &[]).await {
                assert_eq!(answer.status, 201, "{}", answer.text());
                accepted.push(answer.json::<Value>().unwrap()["id"].clone());
            }
        };
        tokio::time::timeout(PATIENCE, submit).await.unwrap_or_else(|_| panic!("{point} never came {TIMES} times"));
        assert_eq!(served.exit_code(), None, "{point}: it was killed");

        let mut config = quick();
        config.store = host::config::StoreUrl::Sqlite(path);
        let host = Host::start(&config, [approved()]).await;
        for id in &accepted {
            host.until_notified(id, "completed").await;
            let path = format!("/api/orders/{}/notifications", id.as_str().unwrap());
            let list: Value = host.rest.get(&path).await.unwrap().json().unwrap();
            assert_eq!(list["items"].as_array().unwrap().len(), 1, "{point}");
        }
        host.stopped().await.unwrap();
    }
}
