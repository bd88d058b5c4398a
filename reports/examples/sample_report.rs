//! Writes the report of an invented run, to look at: `cargo run -p queuebench-reports --example sample_report DIR`.

use std::{env, path::Path};

use queuebench_reports::{
    folder::RunFolder,
    record::Fault,
    render::{html_pair, write_all},
    terminal,
};

#[path = "../tests/support/sample.rs"]
mod sample;

#[expect(clippy::print_stdout, reason = "an example talks to its reader")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = env::args().nth(1).ok_or("give the folder in which to write the run's folder")?;
    let (mut run, histograms) = sample::run();
    for trial in run.subjects.iter_mut().skip(1).flat_map(|subject| &mut subject.trials) {
        let target = "broker".to_owned();
        trial.faults.push(Fault { kind: "restart".to_owned(), target, start_s: 14.0, end_s: Some(15.5) });
    }
    let started_at: jiff::Timestamp = run.started_at.parse()?;
    let folder = RunFolder::create(Path::new(&root), &run.id)?;
    folder.write_record(&run)?;
    folder.write_histograms(&histograms, started_at)?;
    let folder = folder.finish()?;
    let begun = std::time::Instant::now();
    let report = write_all(&folder)?;
    println!(
        "drawn in {:.0} ms, {} bytes",
        begun.elapsed().as_secs_f64() * 1e3,
        std::fs::metadata(&report)?.len()
    );
    let mut later = run.clone();
    later.id.push_str("-later");
    for trial in later.subjects.iter_mut().flat_map(|subject| &mut subject.trials) {
        for phase in &mut trial.phases {
            phase.response_us.p95 *= 1.3;
        }
    }
    queuebench_reports::statistics::summarize(&mut later);
    folder.write("pair.html", html_pair((&run, &histograms), (&later, &histograms))?.as_bytes())?;
    print!("{}", terminal::summary(&run, Some(&report)));
    Ok(())
}
