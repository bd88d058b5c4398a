//! The body of `/stats`: one object that holds the keys of every client there is.

use serde_json::{Map, Value, json};

use super::pool::PoolCounters;
use crate::queue::Statistics;

/// Unknown figures are absent, never -1.
pub(super) fn body(statistics: &Statistics, depth: Option<u64>, pool: &PoolCounters, workers: i64) -> String {
    let mut queue = figures(statistics, depth);
    if let Some(depth) = depth {
        queue.insert("size".into(), depth.into());
    }
    if let Some(capacity) = statistics.capacity {
        queue.insert("capacity".into(), capacity.into());
    }
    if !statistics.children.is_empty() {
        let children = statistics.children.iter();
        let children: Map<_, _> =
            children.map(|(name, child)| (name.clone(), Value::Object(figures(child, None)))).collect();
        queue.insert("composite_stats".into(), Value::Object(children));
    }
    let (processed, errors) = (pool.processed.get(), pool.errors.get());
    json!({
        "queue": queue,
        "pool": {
            "ProcessedCount": processed,
            "ErrorCount": errors,
            "TotalDuration": pool.duration_ns.get(),
            "processed": processed,
            "errors": errors,
            "workers": workers,
        },
    })
    .to_string()
}

fn figures(statistics: &Statistics, depth: Option<u64>) -> Map<String, Value> {
    let mut figures = Map::new();
    figures.insert("TotalEnqueued".into(), statistics.acknowledged.into());
    // A message that is delivered again was taken out once.
    let dequeued = statistics.delivered.saturating_sub(statistics.redelivered);
    figures.insert("TotalDequeued".into(), dequeued.into());
    if let Some(depth) = depth {
        figures.insert("CurrentSize".into(), depth.into());
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_key_is_there_and_unknown_figures_are_not() {
        let child = Statistics { acknowledged: 39, delivered: 41, redelivered: 2, ..Statistics::default() };
        let composite = Statistics {
            acknowledged: 39,
            delivered: 39,
            capacity: Some(1000),
            children: vec![("nats".into(), child)],
            ..Statistics::default()
        };
        let pool = PoolCounters::default();
        pool.processed.add(39);
        pool.duration_ns.add(41_250);
        let wanted = concat!(
            r#"{"queue":{"TotalEnqueued":39,"TotalDequeued":39,"CurrentSize":0,"size":0,"capacity":1000,"#,
            r#""composite_stats":{"nats":{"TotalEnqueued":39,"TotalDequeued":39}}},"#,
            r#""pool":{"ProcessedCount":39,"ErrorCount":0,"TotalDuration":41250,"processed":39,"errors":0,"workers":4}}"#,
        );
        assert_eq!(body(&composite, Some(0), &pool, 4), wanted);
        let unknown = body(&Statistics::default(), None, &pool, 4);
        assert!(!unknown.contains("CurrentSize") && !unknown.contains("capacity"), "{unknown}");
    }
}
