//! How a failpoint is read; what happens at one is in `kill.rs`.

use host::failpoints::KillAt;

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
