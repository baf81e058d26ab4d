//! The order service.
fn main() {}
