//! Keeps `tests/FAILURES.md` complete: every failure has a row, every row has tests that exist and run, or says why not.

use std::collections::BTreeSet;
use std::path::Path;

const TABLE: &str = include_str!("FAILURES.md");
/// How many failures there are to be survived.
const FAILURES: usize = 66;
/// What a row says that has no test which makes it happen.
const EXCUSE: &str = "Cannot be made here";

struct Row<'a> {
    number: usize,
    /// What follows the number: the failure, what holds, the tests.
    columns: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let columns: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        Some(Self { number: columns.first()?.parse().ok()?, columns: columns[1..].to_vec() })
    }

    /// The tests of the row: file and name.
    fn tests(&self) -> Vec<(&'a str, &'a str)> {
        let quoted = self.columns[2].split('`').skip(1).step_by(2);
        quoted.map(|it| it.split_once("::").unwrap_or_else(|| panic!("{it} names no test"))).collect()
    }

    /// The rows whose tests count for this one, too.
    fn others(&self) -> Vec<usize> {
        let Some((_, said)) = self.columns[2].split_once("the tests of ") else { return Vec::new() };
        let said = said.split([',', ';']).next().unwrap_or_default();
        said.split(" and ").map(|it| it.trim().parse().expect("the number of a row")).collect()
    }
}

fn rows() -> Vec<Row<'static>> {
    TABLE.lines().filter_map(Row::of).collect()
}

/// Where the suites are whose parts are run for each adapter: functions that a macro makes tests of.
const SUITES: &str = "saga-core/src/testkit/conformance/";

/// Whether that file has a test, a row of a macro that makes tests, or a part of a suite, of that name, which is not left
/// out.
fn runs(file: &str, name: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
    let lines: Vec<_> = text.lines().collect();
    let is_row = |line: &str| line.trim_start().strip_prefix(name).is_some_and(|after| after.starts_with(" ="));
    let is_function = |line: &str| {
        let parts = line.split_once(name).filter(|(before, _)| before.ends_with("fn "));
        parts.is_some_and(|(_, after)| after.starts_with(['(', '<']))
    };
    let is_named = |line: &&str| is_row(line) || is_function(line);
    let at = lines.iter().position(is_named).ok_or_else(|| format!("{file} has no {name}"))?;
    let attributes = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with('#'));
    let has = |attribute: &str| attributes.clone().any(|line| line.trim_start().starts_with(attribute));
    if attributes.clone().any(|line| line.contains("ignore")) {
        Err(format!("{file}::{name} is left out"))
    } else if has("#[test]") || has("#[tokio::test") || is_row(lines[at]) || file.starts_with(SUITES) {
        Ok(())
    } else {
        Err(format!("{file}::{name} is no test"))
    }
}

#[test]
fn given_the_table_of_failures_when_read_then_each_is_there_once_and_in_order() {
    let numbers: Vec<_> = rows().iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=FAILURES).collect::<Vec<_>>());
    for row in rows() {
        assert_eq!(row.columns.len(), 3, "row {}: failure, what holds, tests", row.number);
    }
}

#[test]
fn given_the_table_of_failures_when_read_then_each_row_names_tests_that_run() {
    let rows = rows();
    let mut wrong = BTreeSet::new();
    for row in &rows {
        let tests = row.tests();
        wrong.extend(tests.iter().filter_map(|(file, name)| runs(file, name).err()));
        let others = row.others();
        for other in &others {
            if rows[*other - 1].tests().is_empty() {
                wrong.insert(format!("row {} leaves it to row {other}, which has no test", row.number));
            }
        }
        if tests.is_empty() && others.is_empty() {
            wrong.insert(format!("row {} has no test", row.number));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn given_a_row_that_cannot_be_made_when_read_then_it_says_what_stands_in_for_it() {
    let excused: Vec<_> = rows().into_iter().filter(|row| row.columns[1].contains(EXCUSE)).collect();
    assert_eq!(excused.iter().map(|row| row.number).collect::<Vec<_>>(), [46], "everything else is made to happen");
    assert!(excused.iter().all(|row| row.columns[1].contains("What stands in for it")));
}

#[test]
fn given_a_test_that_is_not_there_when_looked_for_then_it_is_missed() {
    let here = "tests/failures.rs";
    let name = "given_a_test_that_is_not_there_when_looked_for_then_it_is_missed";
    assert_eq!(runs(here, name), Ok(()));
    assert!(runs(here, "given_a_test_that").is_err(), "half a name is no name");
    assert!(runs("tests/nowhere.rs", name).is_err());
    assert_eq!(runs(here, "rows"), Err(format!("{here}::rows is no test")));
}
