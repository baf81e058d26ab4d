//! The corpus of each fuzz target, run through the target's body: what was found once is not found again.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test binary")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use test_fuzzed::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs the corpus of one target, and what its seeds become when they are cut short or one of their bytes is another.
fn run(name: &str) {
    let (_, body) = TARGETS.iter().find(|(it, _)| *it == name).unwrap();
    let files = files(&fuzz().join("corpus").join(name));
    assert!(files.len() >= 4, "{name} has a corpus of {} files", files.len());
    for file in &files {
        println!("{}", file.display());
        let data = fs::read(file).unwrap();
        body(&data);
        for at in (0..data.len().min(2_048)).step_by(97) {
            body(&data[..at]);
            let mut changed = data.clone();
            changed[at] ^= 1 << (at % 8);
            body(&changed);
        }
    }
}

/// Expands to a test for each target.
macro_rules! targets {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })+

        #[test]
        fn each_target_has_a_test_a_program_and_a_corpus() {
            let tested = BTreeSet::from([$(stringify!($name).to_owned()),+]);
            let known: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
            let named = |folder: &str| -> BTreeSet<String> {
                let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
                files(&fuzz().join(folder)).iter().map(stem).collect()
            };
            assert_eq!(tested, known);
            assert_eq!(named("fuzz_targets"), known);
            assert_eq!(named("corpus"), known);
        }
    };
}

targets! { config flow rest rows stored wire }
