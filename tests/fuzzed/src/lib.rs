//! What a fuzzer may throw anything at, and what must hold whatever it is.
//!
//! Each function is the body of a target in `tests/fuzz/fuzz_targets`, and of a test over the target's corpus in
//! `tests/fuzz/corpus`, which runs with every other test. It panics when what must hold does not.

#![allow(clippy::unwrap_used, reason = "a test: what must hold is asserted")]

mod config;
mod envelope;
mod flow;
mod rest;
mod rows;

pub use config::config;
pub use envelope::{stored, wire};
pub use flow::flow;
pub use rest::rest;
pub use rows::rows;

/// A target: what it is called, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] =
    [("config", config), ("flow", flow), ("rest", rest), ("rows", rows), ("stored", stored), ("wire", wire)];

/// The deepest nesting that JSON readers of ours follow; deeper is an error.
const DEPTH: usize = 128;

/// How deep brackets are nested in a text that is JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
