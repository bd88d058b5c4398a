//! Counters, gauges and histograms with fixed buckets, rendered as Prometheus text (format 0.0.4).
//!
//! A handle is an `Arc` of atomics: recording takes no lock and allocates nothing, and a histogram holds its
//! buckets and nothing else, so memory does not grow with the number of observations. Series are created on
//! first use and bounded by [`MAX_SERIES_PER_FAMILY`]; past that a shared overflow handle is returned, which is
//! counted but not shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

mod histogram;

pub use histogram::Histogram;

/// Label sets that one metric name may have before further ones share a hidden series.
pub const MAX_SERIES_PER_FAMILY: usize = 1_000;

/// Upper bounds in seconds: fine enough below 5 ms to read a p95 of a fast service, and from 5 ms on the
/// bounds that existing dashboards know.
pub const LATENCY_BUCKETS_S: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A number that only rises.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// The value from now on.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Changes the value by `delta`.
    pub fn add(&self, delta: f64) {
        let change = |bits| Some((f64::from_bits(bits) + delta).to_bits());
        // The closure always answers, so the update cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

type Labels = Vec<(&'static str, String)>;
type Computed = Box<dyn Fn() -> Option<f64> + Send + Sync>;

enum Series {
    Counter(BTreeMap<Labels, Counter>),
    Gauge(BTreeMap<Labels, Gauge>),
    Histogram(BTreeMap<Labels, Histogram>),
    /// Asked for at each scrape; `None` leaves the series out.
    Computed(&'static str, Vec<(Labels, Computed)>),
}

struct Family {
    help: &'static str,
    series: Series,
}

/// The metrics of one service.
#[derive(Default)]
pub struct Registry {
    families: Mutex<BTreeMap<&'static str, Family>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("families", &self.families.lock().len()).finish()
    }
}

impl Registry {
    /// The counter of this name and these labels, created at zero if it is new.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        let mut families = self.families.lock();
        let family =
            families.entry(name).or_insert_with(|| Family { help, series: Series::Counter(BTreeMap::new()) });
        match &mut family.series {
            Series::Counter(map) => get_or_create(map, labels, Counter::default),
            _ => mismatch(name),
        }
    }

    /// The gauge of this name and these labels, created at zero if it is new.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        let mut families = self.families.lock();
        let family =
            families.entry(name).or_insert_with(|| Family { help, series: Series::Gauge(BTreeMap::new()) });
        match &mut family.series {
            Series::Gauge(map) => get_or_create(map, labels, Gauge::default),
            _ => mismatch(name),
        }
    }

    /// The histogram of this name and these labels over [`LATENCY_BUCKETS_S`], created empty if it is new.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        let mut families = self.families.lock();
        let family = families
            .entry(name)
            .or_insert_with(|| Family { help, series: Series::Histogram(BTreeMap::new()) });
        match &mut family.series {
            Series::Histogram(map) => get_or_create(map, labels, || Histogram::new(LATENCY_BUCKETS_S)),
            _ => mismatch(name),
        }
    }

    /// A gauge that is computed at each scrape; absent while `value` answers `None`.
    pub fn gauge_fn(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.computed("gauge", name, help, labels, Box::new(value));
    }

    /// A counter that is kept elsewhere and read at each scrape.
    pub fn counter_fn(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.computed("counter", name, help, labels, Box::new(value));
    }

    fn computed(
        &self,
        kind: &'static str,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: Computed,
    ) {
        let mut families = self.families.lock();
        let family = families
            .entry(name)
            .or_insert_with(|| Family { help, series: Series::Computed(kind, Vec::new()) });
        match &mut family.series {
            Series::Computed(_, list) => list.push((owned(labels), value)),
            _ => mismatch(name),
        }
    }

    /// Everything as Prometheus text.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 * 1024);
        for (name, family) in &*self.families.lock() {
            let kind = match &family.series {
                Series::Counter(_) => "counter",
                Series::Gauge(_) => "gauge",
                Series::Histogram(_) => "histogram",
                Series::Computed(kind, _) => kind,
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            match &family.series {
                Series::Counter(map) => {
                    for (labels, counter) in map {
                        #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
                        line(&mut text, name, "", labels, None, counter.get() as f64);
                    }
                }
                Series::Gauge(map) => {
                    for (labels, gauge) in map {
                        line(&mut text, name, "", labels, None, gauge.get());
                    }
                }
                Series::Histogram(map) => {
                    for (labels, histogram) in map {
                        histogram
                            .render(|suffix, le, value| line(&mut text, name, suffix, labels, le, value));
                    }
                }
                Series::Computed(_, list) => {
                    for (labels, value) in list {
                        if let Some(value) = value() {
                            line(&mut text, name, "", labels, None, value);
                        }
                    }
                }
            }
        }
        text
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn get_or_create<T: Clone>(
    map: &mut BTreeMap<Labels, T>,
    labels: &[(&'static str, &str)],
    new: impl FnOnce() -> T,
) -> T {
    let labels = owned(labels);
    if !map.contains_key(&labels) && map.len() >= MAX_SERIES_PER_FAMILY {
        return new();
    }
    map.entry(labels).or_insert_with(new).clone()
}

/// Two kinds under one name is a mistake in the program, not in its input.
fn mismatch(name: &str) -> ! {
    panic!("metric `{name}` is used as two kinds")
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &Labels, le: Option<&str>, value: f64) {
    text.push_str(name);
    text.push_str(suffix);
    if !labels.is_empty() || le.is_some() {
        let mut separator = '{';
        for (name, value) in labels.iter().map(|(n, v)| (*n, v.as_str())).chain(le.map(|le| ("le", le))) {
            let _ = write!(text, "{separator}{name}=\"");
            for character in value.chars() {
                match character {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    other => text.push(other),
                }
            }
            text.push('"');
            separator = ',';
        }
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_holds_every_kind_with_escaped_labels() {
        let registry = Registry::default();
        registry.counter("c_total", "a counter", &[("path", "a\"b\\c\nd")]).add(3);
        registry.gauge("g", "a gauge", &[]).set(-1.5);
        registry
            .histogram("h_seconds", "a histogram", &[("status", "ok")])
            .observe(Duration::from_micros(300));
        registry.gauge_fn("absent", "never known", &[], || None);
        let text = registry.render();
        assert!(text.contains("# TYPE c_total counter\nc_total{path=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
        assert!(text.contains("\ng -1.5\n"), "{text}");
        assert!(text.contains("h_seconds_bucket{status=\"ok\",le=\"0.00025\"} 0\n"), "{text}");
        assert!(text.contains("h_seconds_bucket{status=\"ok\",le=\"0.0005\"} 1\n"), "{text}");
        assert!(text.contains("h_seconds_bucket{status=\"ok\",le=\"+Inf\"} 1\n"), "{text}");
        assert!(text.contains("h_seconds_count{status=\"ok\"} 1\n"), "{text}");
        assert!(!text.contains("\nabsent"), "{text}");
    }

    #[test]
    fn series_of_one_family_are_bounded() {
        let registry = Registry::default();
        for index in 0..MAX_SERIES_PER_FAMILY + 50 {
            registry.counter("many_total", "many", &[("i", &index.to_string())]).increment();
        }
        assert_eq!(registry.render().matches("many_total{").count(), MAX_SERIES_PER_FAMILY);
    }
}
