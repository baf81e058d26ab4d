//! Pictures of a table, drawn without running anything.

use std::fmt::Write;

use crate::alphabet::Finite;
use crate::machine::Machine;
use crate::saga::Saga;
use crate::table::Kind;

impl<S: Saga> Machine<S> {
    /// The machine as a Mermaid state diagram: one arrow for each row that moves or stays, final states marked.
    pub fn mermaid(&self) -> String {
        let mut out = String::from("stateDiagram-v2\n");
        let _ = writeln!(out, "    [*] --> {}", S::State::ALL[0].name());
        for (from, to, label) in self.arrows() {
            let _ = writeln!(out, "    {} --> {}: {label}", from.name(), to.name());
        }
        for state in self.dead_ends() {
            let _ = writeln!(out, "    {} --> [*]", state.name());
        }
        out
    }

    /// The machine as a DOT digraph (Graphviz).
    pub fn dot(&self) -> String {
        let mut out = format!("digraph \"{}\" {{\n    rankdir=LR;\n    node [shape=box, style=rounded];\n", S::NAME);
        for state in self.dead_ends() {
            let _ = writeln!(out, "    \"{}\" [peripheries=2];", state.name());
        }
        for (from, to, label) in self.arrows() {
            let _ = writeln!(out, "    \"{}\" -> \"{}\" [label=\"{label}\"];", from.name(), to.name());
        }
        out.push_str("}\n");
        out
    }

    /// The whole table in Markdown: a row for each state, a column for each event, every pair said.
    pub fn table(&self) -> String {
        let mut rows = vec![vec![String::new()], vec!["---".to_owned()]];
        for column in self.columns() {
            rows[0].push(column.name.to_owned());
            rows[1].push("---".to_owned());
        }
        for &state in S::State::ALL {
            let cells = (0..self.columns().len()).map(|column| self.cell(state, column));
            rows.push(std::iter::once(format!("**{}**", state.name())).chain(cells).collect());
        }
        rows.iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
    }

    /// States that no row leads to, the first excepted.
    pub fn unreachable(&self) -> Vec<S::State> {
        let mut reached = vec![S::State::ALL[0]];
        let mut next = 0;
        while let Some(&from) = reached.get(next) {
            next += 1;
            for to in self.targets(from) {
                if !reached.contains(&to) {
                    reached.push(to);
                }
            }
        }
        S::State::ALL.iter().copied().filter(|state| !reached.contains(state)).collect()
    }

    /// States that no row leads out of: where a process ends, or is stuck.
    pub fn dead_ends(&self) -> Vec<S::State> {
        let leaves = |state: S::State| self.targets(state).any(|to| to != state);
        S::State::ALL.iter().copied().filter(|&state| !leaves(state)).collect()
    }

    fn targets(&self, from: S::State) -> impl Iterator<Item = S::State> + '_ {
        (0..self.columns().len())
            .flat_map(move |column| match self.rule(from, column) {
                Kind::Go { targets, .. } => targets.as_slice(),
                _ => &[],
            })
            .copied()
    }

    fn arrows(&self) -> Vec<(S::State, S::State, String)> {
        let mut arrows = Vec::new();
        for &from in S::State::ALL {
            for (index, column) in self.columns().iter().enumerate() {
                let Kind::Go { targets, stays, handler, .. } = self.rule(from, index) else { continue };
                let label = format!("{} / {handler}", unqualified(column.name));
                arrows.extend(targets.iter().map(|&to| (from, to, label.clone())));
                if *stays {
                    arrows.push((from, from, label));
                }
            }
        }
        arrows
    }

    fn cell(&self, state: S::State, column: usize) -> String {
        match self.rule(state, column) {
            Kind::Ignore => "ignore".to_owned(),
            Kind::Defer(why) => format!("defer: {}", escaped(why)),
            Kind::Reject(why) => format!("reject: {}", escaped(why)),
            Kind::Go { stays: true, handler, .. } => format!("stay, {handler}"),
            Kind::Go { targets, handler, .. } => {
                let targets: Vec<_> = targets.iter().map(|to| to.name()).collect();
                format!("→ {}, {handler}", targets.join(" or "))
            }
        }
    }
}

/// A reason as a cell of a Markdown table may hold it.
fn escaped(why: &str) -> String {
    why.replace('|', "\\|").replace('\n', " ")
}

/// A message's name without its namespace: a colon would end the label of a Mermaid arrow.
fn unqualified(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}
