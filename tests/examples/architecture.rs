//! What ARCHITECTURE.md names is there.

use saga_core::Point;

use super::{read, root};

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_invariant_is_held_by_a_test_that_exists() {
    let text = read("ARCHITECTURE.md");
    let section = text.split("\n## Invariants\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut held = 0;
    for (file, test) in quoted(section).filter_map(|it| it.split_once(".rs::")) {
        let file = format!("{file}.rs");
        assert!(read(&file).contains(&format!("fn {test}(")), "{file} has no {test}");
        held += 1;
    }
    let invariants = section.lines().filter(|line| line.chars().next().is_some_and(|it| it.is_ascii_digit())).count();
    assert!(invariants >= 16 && held >= invariants, "{held} tests hold {invariants} invariants");
}

#[test]
fn every_point_of_a_crash_is_analysed() {
    let text = read("ARCHITECTURE.md");
    for point in Point::ALL {
        assert!(text.contains(&format!("\n| {} ", point.name())), "{} is missing", point.name());
    }
}

#[test]
fn every_file_is_there_and_every_bound_has_its_value() {
    let text = read("ARCHITECTURE.md");
    let source = |file: &str| {
        let places = ["", "saga-core/src/"].map(|folder| format!("{folder}{file}"));
        places.into_iter().find(|path| root().join(path).is_file())
    };
    let bounds = text.split("\n## Bounds\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for line in bounds.lines().filter(|line| line.contains(".rs`)")) {
        let mut words = quoted(line.split('|').nth(1).unwrap()).collect::<Vec<_>>();
        let file = words.pop().unwrap();
        let file = source(file).unwrap_or_else(|| panic!("there is no {file}"));
        for name in words {
            let code = read(&file);
            assert!(code.contains(&format!("const {name}:")), "{file} has no {name}");
        }
    }
    for (name, value) in [("BATCH", "512"), ("WINDOW", "16_384"), ("SUBMISSIONS", "4_096")] {
        let defined = format!("const {name}: usize = {value};");
        let files =
            ["saga-core/src/runtime/core.rs", "saga-core/src/runtime/relay.rs", "saga-core/src/runtime/builder.rs"];
        assert!(files.iter().any(|file| read(file).contains(&defined)), "{name} is no longer {value}");
        assert!(bounds.contains(&value.replace('_', ",")), "{name} is told otherwise");
    }
}
