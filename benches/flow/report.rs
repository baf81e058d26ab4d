//! What was measured, as JSON for programs and as tables for people: both tell the same.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value};

/// Prints a report: its numbers line by line, and each list of objects as a table of its own.
pub(crate) fn print(report: &Value, json: bool) {
    if json {
        println!("{report:#}");
        return;
    }
    let (mut lines, mut lists) = (Vec::new(), Vec::new());
    flatten("", report, &mut lines, &mut lists);
    let mut table = new_table();
    for (name, value) in lines {
        table.add_row([name, value]);
    }
    align(&mut table);
    println!("{table}");
    for (name, rows) in lists {
        println!("\n{name}\n{}", listed(&rows));
    }
}

type Lines = Vec<(String, String)>;
type Lists = Vec<(String, Vec<Lines>)>;

/// Takes a value apart: an object's members under its name, a list of objects on its own.
fn flatten(path: &str, value: &Value, lines: &mut Lines, lists: &mut Lists) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, lines, lists);
            }
        }
        Value::Array(rows) if !rows.is_empty() && rows.iter().all(Value::is_object) => {
            let rows = rows.iter().map(|row| {
                let mut cells = Vec::new();
                flatten("", row, &mut cells, lists);
                cells
            });
            let rows = rows.collect();
            lists.push((path.to_owned(), rows));
        }
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(shown).collect();
            lines.push((path.to_owned(), values.join("  ")));
        }
        other => lines.push((path.to_owned(), shown(other))),
    }
}

fn listed(rows: &[Lines]) -> Table {
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut table = new_table();
    table.set_header(&columns);
    for row in rows {
        let cell = |column: &&str| row.iter().find(|(name, _)| name == column).map_or("", |(_, value)| value);
        table.add_row(columns.iter().map(cell));
    }
    let has_texts = rows.iter().flatten().any(|(_, value)| value.contains('\n'));
    if !has_texts {
        align(&mut table);
    }
    table
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table
}

/// Names to the left, what is told of them to the right.
fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// A number with as many digits as mean something.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64().unwrap_or_default() {
            large if large.abs() >= 100.0 => format!("{large:.0}"),
            middle if middle.abs() >= 10.0 => format!("{middle:.1}"),
            small => format!("{small:.2}"),
        },
        Value::String(text) => text.clone(),
        Value::Null => "not measured".to_owned(),
        other => other.to_string(),
    }
}

/// Adds the members of one object to another.
pub(crate) fn merge(report: &mut Value, more: Value) {
    if let (Value::Object(report), Value::Object(more)) = (report, more) {
        report.extend(more.into_iter().collect::<Map<_, _>>());
    }
}
