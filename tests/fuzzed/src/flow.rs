//! Files of recorded flows.

use order_saga::Order;
use saga_core::{Flow, Machine, replay};

/// A flow: an error, or a flow that is written as it was read and replayed without a panic.
pub fn flow(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let flow = match Flow::read(text) {
        Ok(flow) => flow,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = flow.clone().write().unwrap();
    assert_eq!(Flow::read(&written).unwrap(), flow, "{written}");
    let found = Machine::<Order>::new().check(None, &flow.steps);
    assert!(found.iter().all(|it| !it.to_string().is_empty()));
    if let Ok(replayed) = replay::<Order>(&flow) {
        assert_eq!(replayed.steps.len(), flow.steps.len());
        assert!(!replayed.to_string().is_empty());
    }
}
