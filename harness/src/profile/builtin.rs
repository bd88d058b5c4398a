//! The profiles that come with the program. Each is a file a user can print and change.

const ALL: [(&str, &str); 15] = [
    ("smoke", include_str!("../../profiles/smoke.toml")),
    ("standard", include_str!("../../profiles/standard.toml")),
    ("ramp", include_str!("../../profiles/ramp.toml")),
    ("spike", include_str!("../../profiles/spike.toml")),
    ("soak", include_str!("../../profiles/soak.toml")),
    ("backlog", include_str!("../../profiles/backlog.toml")),
    ("fanout", include_str!("../../profiles/fanout.toml")),
    ("pipeline", include_str!("../../profiles/pipeline.toml")),
    ("pipeline-scaling", include_str!("../../profiles/pipeline-scaling.toml")),
    ("pipeline-smoke", include_str!("../../profiles/pipeline-smoke.toml")),
    ("pipeline-soak", include_str!("../../profiles/pipeline-soak.toml")),
    ("kv-smoke", include_str!("../../profiles/kv-smoke.toml")),
    ("kv", include_str!("../../profiles/kv.toml")),
    ("cluster-smoke", include_str!("../../profiles/cluster-smoke.toml")),
    ("cluster", include_str!("../../profiles/cluster.toml")),
];

/// Names, in the order in which they are listed.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(|(name, _)| name)
}

/// The text of a built-in profile.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.into_iter().find(|(n, _)| *n == name).map(|(_, text)| text)
}
