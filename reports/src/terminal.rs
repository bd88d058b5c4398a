//! What is printed at the end of a run: the answer, an aligned table, what limits it, and where the report is.

use std::{fmt::Write as _, path::Path};

use crate::{answer::answer, record::Run, statistics::WarningCode, summary_table::SummaryTable};

/// Width at which sentences are wrapped.
const WIDTH: usize = 100;

/// The text, without colour, ending in a line break. `report` is printed as given, if given.
pub fn summary(run: &Run, report: Option<&Path>) -> String {
    let said = answer(run);
    let mut out = String::new();
    push_wrapped(&mut out, "", &said.headline);
    for detail in &said.details {
        push_wrapped(&mut out, "  ", detail);
    }
    out.push('\n');
    push_table(&mut out, &SummaryTable::of(run));
    for skipped in &run.skipped {
        push_wrapped(&mut out, "  ", &format!("– {} was skipped: {}", skipped.subject, skipped.reason));
    }
    if run.partial {
        out.push_str("\n△ interrupted: what was measured until then is kept\n");
    }
    if !run.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &run.warnings {
        let weighty = warning.code.parse::<WarningCode>().ok().is_none_or(WarningCode::limits_comparison);
        let sign = if weighty { "△" } else { "·" };
        push_wrapped(&mut out, "  ", &format!("{sign} {}: {}", warning.code, warning.text));
    }
    if let Some(report) = report {
        let _ = writeln!(out, "\nreport: {}", report.display());
    }
    out
}

fn push_table(out: &mut String, table: &SummaryTable) {
    if table.rows.is_empty() {
        return;
    }
    let widths: Vec<usize> = (0..table.head.len())
        .map(|column| {
            let cells = table.rows.iter().flat_map(|row| [&row[column].0, &row[column].1]);
            let cells = cells.map(|text| text.chars().count());
            // Headings break into lines, so only their longest word matters.
            let words = table.head[column].split(' ').map(|word| word.chars().count());
            cells.chain(words).max().unwrap_or(0)
        })
        .collect();
    let heads: Vec<Vec<String>> =
        table.head.iter().zip(&widths).map(|(head, width)| wrap(head, *width)).collect();
    let height = heads.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let cells: Vec<String> = heads
            .iter()
            .map(|lines| {
                // Headings stand on the line above the figures.
                (line + lines.len())
                    .checked_sub(height)
                    .map_or_else(String::new, |index| lines[index].clone())
            })
            .collect();
        push_row(out, &cells, &widths, &table.right_aligned);
    }
    let rule: usize = widths.iter().sum::<usize>() + 2 * widths.len();
    let _ = writeln!(out, "  {}", "─".repeat(rule.saturating_sub(2)));
    for row in &table.rows {
        for line in [|cell: &(String, String)| cell.0.clone(), |cell: &(String, String)| cell.1.clone()] {
            let cells: Vec<String> = row.iter().map(line).collect();
            push_row(out, &cells, &widths, &table.right_aligned);
        }
    }
}

fn push_row(out: &mut String, cells: &[String], widths: &[usize], right_aligned: &[bool]) {
    let mut line = String::new();
    for ((cell, width), right) in cells.iter().zip(widths).zip(right_aligned) {
        let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
        let _ = if *right { write!(line, "  {pad}{cell}") } else { write!(line, "  {cell}{pad}") };
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

fn push_wrapped(out: &mut String, indent: &str, text: &str) {
    // What a record says must not move the cursor of a terminal.
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for (index, line) in wrap(&clean, WIDTH - indent.len()).iter().enumerate() {
        let hanging = if index > 0 && !indent.is_empty() { "  " } else { "" };
        let _ = writeln!(out, "{indent}{hanging}{line}");
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
