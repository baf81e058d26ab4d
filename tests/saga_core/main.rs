//! Tests of saga-core.
