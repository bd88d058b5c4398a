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
    let widths = widths(table);
    let heads: Vec<Vec<String>> =
        table.head.iter().zip(&widths).map(|(head, width)| broken(head, *width)).collect();
    let height = heads.iter().map(Vec::len).max().unwrap_or(0);
    // Headings stand on the line above the figures.
    let heads = heads.into_iter().map(|lines| [vec![String::new(); height - lines.len()], lines].concat());
    push_lines(out, &heads.collect::<Vec<_>>(), &widths, &table.right_aligned);
    let rule: usize = widths.iter().sum::<usize>() + 2 * widths.len();
    let _ = writeln!(out, "  {}", "─".repeat(rule.saturating_sub(2)));
    for row in &table.rows {
        let cells: Vec<Vec<String>> = row
            .iter()
            .zip(&widths)
            .map(|((text, below), width)| {
                let mut lines = broken(text, *width);
                lines.extend(broken(below, *width).into_iter().filter(|line| !line.is_empty()));
                lines
            })
            .collect();
        push_lines(out, &cells, &widths, &table.right_aligned);
    }
}

/// As wide as the cells are, unless that is too wide for a terminal: then the widest columns break their lines.
fn widths(table: &SummaryTable) -> Vec<usize> {
    let cells = |column: usize| table.rows.iter().flat_map(move |row| [&row[column].0, &row[column].1]);
    let columns = 0..table.head.len();
    let least: Vec<usize> = columns
        .clone()
        .map(|column| {
            let texts = cells(column).chain([&table.head[column]]);
            longest(texts.flat_map(|text| pieces(text)).map(str::trim_end))
        })
        .collect();
    let mut widths: Vec<usize> = columns
        // Headings break in any case, so only their longest word matters.
        .map(|column| longest(cells(column).map(String::as_str)).max(least[column]))
        .collect();
    while widths.iter().sum::<usize>() + 2 * widths.len() > WIDTH {
        let widest = (0..widths.len()).filter(|&at| widths[at] > least[at]).max_by_key(|&at| widths[at]);
        let Some(at) = widest else { break };
        widths[at] -= 1;
    }
    widths
}

fn longest<'t>(texts: impl Iterator<Item = &'t str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

/// What a line may be broken into: words with the space behind them, and both halves of a range.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive([' ', '–'])
}

fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in pieces(text) {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + piece.trim_end().chars().count() > width {
            lines.push(piece.to_owned());
        } else {
            line.push_str(piece);
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

fn push_lines(out: &mut String, cells: &[Vec<String>], widths: &[usize], right_aligned: &[bool]) {
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let row: Vec<String> =
            cells.iter().map(|lines| lines.get(line).cloned().unwrap_or_default()).collect();
        push_row(out, &row, widths, right_aligned);
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
    // Further lines hang two columns deeper.
    let hanging = if indent.is_empty() { "" } else { "  " };
    for (index, line) in wrap(&clean, WIDTH - indent.len(), hanging.len()).iter().enumerate() {
        let hanging = if index > 0 { hanging } else { "" };
        let _ = writeln!(out, "{indent}{hanging}{line}");
    }
}

fn wrap(text: &str, width: usize, hanging: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let width = if lines.len() > 1 { width - hanging } else { width };
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
