//! `queuebench shard`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tokio::sync::mpsc;

use super::{Usage, print, runtime, stop_on_signal};
use crate::event::Order;
use crate::exit::Exit;
use crate::plan;
use crate::shard::{self, ShardSpec};

/// One shard of one trial.
#[derive(Debug, Args)]
pub(super) struct Shard {
    /// What to run, as JSON
    spec: PathBuf,
    /// Which part of the plan, from 0
    #[arg(long, default_value_t = 0)]
    index: u16,
    /// How many parts there are
    #[arg(long, default_value_t = 1)]
    of: u16,
    /// Where the record, the histograms and the ledger go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    with_parent: bool,
    /// Wait for orders on standard input, one JSON object a line, before each phase and at the end
    #[arg(long, hide = true)]
    conducted: bool,
}

impl Shard {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        if self.with_parent {
            let term = rustix::process::Signal::TERM;
            rustix::process::set_parent_process_death_signal(Some(term))
                .context("cannot follow the parent")?;
        }
        if self.of == 0 || self.index >= self.of {
            return Err(Usage(format!("--index {} is not below --of {}", self.index, self.of)).into());
        }
        let text = std::fs::read_to_string(&self.spec)
            .with_context(|| format!("cannot read {}", self.spec.display()))?;
        let spec: ShardSpec = serde_json::from_str(&text)
            .map_err(|e| Usage(format!("{} is no shard specification: {e}", self.spec.display())))?;
        // Signals need a runtime that lives as long as the trial.
        let runtime = runtime()?;
        let stop = runtime.block_on(async { stop_on_signal() });
        let orders = self.conducted.then(orders);
        shard::run(spec, plan::Shard { index: self.index, of: self.of }, &self.out, orders, &stop)?;
        Ok(if stop.is_cancelled() && !self.with_parent { Exit::Interrupted } else { Exit::Done })
    }
}

/// Orders from standard input; the channel closes with it. The thread that reads ends with the input, at the
/// latest with the process.
fn orders() -> mpsc::Receiver<Order> {
    let (sender, orders) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { continue };
            if sender.blocking_send(order).is_err() {
                return;
            }
        }
    });
    orders
}

/// Joins the shards of a trial.
#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Folders that the shards left, all of them
    #[arg(required = true, num_args = 1.., value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Where the joined record and histograms go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Merge {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let (result, histograms) = crate::merge::merge(&self.folders)?;
        shard::write(&self.out, &result, &histograms)?;
        let delivery = &result.record.trial.delivery;
        print(&format!(
            "{} acknowledged, {} received, {} lost, {} duplicated, {} unknown",
            delivery.acknowledged, delivery.received, delivery.lost, delivery.duplicated, delivery.unknown
        ));
        Ok(if delivery.violations.is_empty() { Exit::Done } else { Exit::Violated })
    }
}
