//! What must not compile, and how it says so.

#[test]
fn given_something_forgotten_when_the_saga_is_compiled_then_it_is_named() {
    trybuild::TestCases::new().compile_fail("tests/saga_core/compile_fail/*.rs");
}
