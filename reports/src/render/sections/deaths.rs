//! What a cluster made of nodes that died: how soon it knew, agreed, and had them back.

use super::{Sections, Tick, in_unit, section};
use crate::{
    figures::{Scale, count, significant},
    record::{Death, Subject},
    render::{
        RenderError,
        axis::{Axis, count_tick, latency_tick},
        dots,
        page::{Chart, Section, Table, Variant},
        sheet::Caption,
    },
    statistics::{DeathFigure, deaths, over_deaths},
};

impl Sections<'_> {
    pub(super) fn deaths(&self) -> Result<Option<Section>, RenderError> {
        if !self.run.subjects.iter().any(|subject| deaths(subject).next().is_some()) {
            return Ok(None);
        }
        let charts =
            DeathFigure::ALL.into_iter().map(|figure| self.death_chart(figure)).collect::<Result<_, _>>()?;
        Ok(section(
            "deaths",
            "When a node dies",
            "Each death is a kill of a node's process under load; it is started again after a while. Its removal \
             is seen when the first of the others lists it no more; they agree when all show the same assignment \
             without it; it is back when all, itself included, show the same with it. Views are compared every \
             20 ms. Dots are medians over all deaths, bars their 95 % intervals.",
            "two",
            charts,
        ))
    }

    fn death_chart(&self, figure: DeathFigure) -> Result<Chart, RenderError> {
        // Times are drawn in the unit of the axes of latencies.
        let (factor, tick): (f64, Tick) =
            if figure == DeathFigure::Moved { (1.0, count_tick) } else { (1e-6, latency_tick) };
        let scale = Scale { factor, word: "" };
        let rows: Vec<dots::Row> = self
            .run
            .subjects
            .iter()
            .filter(|subject| deaths(subject).next().is_some())
            .map(|subject| {
                let interval = over_deaths(self.run, subject, figure);
                let text = interval
                    .map_or_else(|| "did not happen".to_owned(), |interval| words(figure, interval.median));
                let interval = interval.map(|interval| in_unit(interval, scale));
                dots::Row { name: subject.name.clone(), ink: self.ink(subject), interval, text }
            })
            .collect();
        let id = format!("chart-deaths-{}", figure.key());
        let caption = caption(figure).to_owned();
        let description = "One dot per subject, the median of its deaths with its 95 % interval.";
        let svg = dots::draw(
            &Caption { id: &id, title: &caption, description },
            &rows,
            Axis::linear(0.0, dots::extent(&rows).fold(0.0, f64::max) * 1.12),
            tick,
        )?;
        let variants = vec![Variant { id, class: "any", svg }];
        let table = self.death_table(figure);
        Ok(Chart { caption, variants, table })
    }

    /// Every death with the figure of the chart; the last chart's table has what else was counted.
    fn death_table(&self, figure: DeathFigure) -> Table {
        let moved = figure == DeathFigure::Moved;
        let mut head = vec!["Subject", "Trial", "Node", "Part", "Killed at", caption(figure)];
        if moved {
            head.extend(["Hooks delivered", "Hooks missed"]);
        }
        let row = |subject: &Subject, trial: u32, death: &Death| {
            let mut row = vec![
                subject.name.clone(),
                (trial + 1).to_string(),
                death.node.clone(),
                if death.was_leader { "leader" } else { "follower" }.to_owned(),
                format!("{} s", significant(death.at_s, 3)),
                figure.of(death).map_or_else(|| "–".to_owned(), |value| words(figure, value)),
            ];
            if moved {
                row[5].push_str(&format!(" of {}", count(u64::from(death.partitions))));
                row.extend([count(death.hooks_delivered), count(death.hooks_missed)]);
            }
            row
        };
        let rows = self.run.subjects.iter().flat_map(|subject| {
            let row = &row;
            deaths(subject).map(move |(trial, death)| row(subject, trial, death))
        });
        Table {
            caption: format!("{}, death by death", caption(figure)),
            head: head.into_iter().map(str::to_owned).collect(),
            rows: rows.collect(),
        }
    }
}

fn caption(figure: DeathFigure) -> &'static str {
    match figure {
        DeathFigure::Detected => "Until its death was known",
        DeathFigure::Agreed => "Until the others agreed",
        DeathFigure::Returned => "From its restart until all agreed",
        DeathFigure::Moved => "Partitions moved",
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of partitions")]
fn words(figure: DeathFigure, value: f64) -> String {
    if figure == DeathFigure::Moved {
        count(value.round() as u64)
    } else {
        format!("{} s", significant(value, 3))
    }
}
