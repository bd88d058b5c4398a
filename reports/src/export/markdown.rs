//! A summary in Markdown: the answer, the table, what limits it, what was not measured.

use std::fmt::Write as _;

use crate::{answer::answer, record::Run, summary_table::SummaryTable};

pub(super) fn summary(run: &Run) -> String {
    let said = answer(run);
    let mut out = String::new();
    let compared =
        if run.compared.is_empty() { String::new() } else { format!("compare {} · ", run.compared) };
    let _ = writeln!(out, "# {}\n", escape(&said.headline));
    if !said.details.is_empty() {
        let _ = writeln!(out, "{}\n", escape(&said.details.join(" ")));
    }
    let _ = writeln!(
        out,
        "{compared}{} · {} cores · seed {} · {}{}\n",
        escape(run.profile_name()),
        run.environment.cores,
        run.seed,
        escape(&run.started_at),
        if run.partial { " · **interrupted**" } else { "" }
    );
    let table = SummaryTable::of(run);
    let head: Vec<String> = table.head.iter().map(|cell| escape(cell)).collect();
    let _ = writeln!(out, "| {} |", head.join(" | "));
    let rule: Vec<&str> =
        table.right_aligned.iter().map(|right| if *right { "--:" } else { ":--" }).collect();
    let _ = writeln!(out, "| {} |", rule.join(" | "));
    for row in &table.rows {
        let cells: Vec<String> = row
            .iter()
            .map(|(text, below)| match below.as_str() {
                "" => escape(text),
                below => format!("{}<br><sub>{}</sub>", escape(text), escape(below)),
            })
            .collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    if !run.gates.is_empty() {
        out.push_str("\n## Gates\n\n");
        for result in &run.gates {
            let _ = writeln!(out, "- {}", escape(&result.to_string()));
        }
    }
    if !run.warnings.is_empty() {
        out.push_str("\n## What limits this\n\n");
        for warning in &run.warnings {
            let _ = writeln!(out, "- `{}`: {}", warning.code.replace('`', ""), escape(&warning.text));
        }
    }
    if !run.skipped.is_empty() {
        out.push_str("\n## Not measured\n\n");
        for skipped in &run.skipped {
            let _ = writeln!(out, "- {}: {}", escape(&skipped.subject), escape(&skipped.reason));
        }
    }
    // A fence longer than any run of backticks in the command cannot be ended by it.
    let longest = run.command.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = writeln!(out, "\n## Run it again\n\n{fence}\n{}\n{fence}", run.command);
    out
}

/// Names from a record must neither break the table nor become markup.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
        out
    })
}
