//! Profiles as users write them, and the refusals they read.

use super::*;

const GOOD: &str = r#"
name = "steady-10k"
trials = 3
[workload]
payload = "256B"
producers = 2
consumers = 2
partitions = 4
keys = { kind = "uniform", count = 1000 }
[[phase]]
name = "warmup"
model = "open"
rate = "2k/s"
duration = "2s"
measured = false
[[phase]]
name = "steady"
model = "open"
rate = { from = "1k/s", to = "10k/s" }
duration = "5s"
"#;

#[test]
fn the_documented_example_parses() {
    let profile = Profile::parse(GOOD, "test").unwrap();
    assert_eq!(profile.phases.len(), 2);
    assert!(!profile.phases[0].measured && profile.phases[1].measured);
    assert_eq!(
        profile.workload.payload,
        Payload::Random { size: crate::units::Size(256), random_ratio: 1.0 }
    );
}

#[test]
fn ids_of_messages_are_the_backends_choice_unless_given() {
    assert_eq!(Profile::parse(GOOD, "test").unwrap().workload.message_ids, None);
    let without = GOOD.replace("[workload]", "[workload]\nmessage_ids = \"none\"");
    assert_eq!(Profile::parse(&without, "test").unwrap().workload.message_ids, Some(MessageIds::None));
    let wrong = GOOD.replace("[workload]", "[workload]\nmessage_ids = \"some\"");
    let refusal = Profile::parse(&wrong, "test").unwrap_err().to_string();
    assert!(refusal.contains("`unique`") && refusal.contains("`none`"), "{refusal}");
}

#[test]
fn every_built_in_profile_parses_and_bears_its_name() {
    for name in builtin::names() {
        let profile = Profile::load(name).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(profile.name, name);
        assert!(profile.description.is_some(), "{name} says what it is for");
    }
}

#[test]
fn an_effective_profile_parses_to_itself() {
    for name in builtin::names() {
        let profile = Profile::load(name).unwrap();
        let text = toml::to_string(&profile).unwrap();
        assert_eq!(Profile::parse(&text, name).unwrap(), profile);
        let json = serde_json::to_value(&profile).unwrap();
        assert_eq!(serde_json::from_value::<Profile>(json).unwrap(), profile);
    }
}

#[test]
fn a_refusal_names_the_line_the_key_and_what_would_be_right() {
    let cases = [
        ("rate = \"2k/s\"", "rtae = \"2k/s\"", "line 13: unknown field `rtae`"),
        ("rate = \"2k/s\"", "rtae = \"2k/s\"", "did you mean `rate`?"),
        ("rate = \"2k/s\"", "rate = \"2k\"", "line 13: `2k` is not a rate"),
        ("rate = \"2k/s\"", "rate = { from = \"1/s\" }", "line 13: a rate is"),
        ("rate = \"2k/s\"\n", "", "line 12: `phase[0].model` is open, so the phase needs a rate"),
        ("payload = \"256B\"", "payload = \"16B\"", "line 5: `workload.payload` must be at least 48B"),
        ("payload = \"256B\"", "payload = 256", "line 5: invalid type: integer `256`, expected a size"),
        ("payload = \"256B\"", "payload = { kind = \"jsn\", size = \"1KiB\" }", "did you mean `json`?"),
        ("duration = \"5s\"", "duration = \"1ms\"", "`phase[1].duration` must be at least 10ms"),
        ("duration = \"5s\"", "duration = \"5\"", "its unit is missing"),
        ("name = \"steady\"", "name = \"warmup\"", "line 17: `phase[1].name` must be unique"),
        ("trials = 3", "trials = 0", "line 3: `trials` must be 1 to 1000"),
        (
            "producers = 2",
            "producers = 60\ntopics = 5",
            "line 7: `workload.topics` times producers must be at most 256",
        ),
        ("producers = 2", "producers = 0", "line 6: `workload.producers` must be 1 to 64"),
        ("name = \"steady-10k\"", "name = \"../up\"", "line 2: `name` must be"),
        ("model = \"open\"", "model = \"opne\"", "did you mean `open`?"),
        ("measured = false", "measured = false\nin_flight = 1", "must be at least the number of producers"),
        ("[workload]", "workload = 3\n[other]", "line 4"),
    ];
    for (from, to, wants) in cases {
        let error = Profile::parse(&GOOD.replacen(from, to, 1), "mine.toml").unwrap_err().to_string();
        assert!(error.starts_with("mine.toml, line ") && error.contains(wants), "wanted {wants:?}: {error}");
    }
}

#[test]
fn closed_and_open_phases_refuse_each_others_keys() {
    let closed = GOOD.replacen("model = \"open\"", "model = \"closed\"", 1);
    let error = Profile::parse(&closed, "p").unwrap_err().to_string();
    assert!(error.contains("goes with model = \"open\""), "{error}");
    let error = Profile::parse(&closed.replacen("rate = \"2k/s\"\n", "", 1), "p").unwrap_err().to_string();
    assert!(error.contains("needs in_flight"), "{error}");
}

#[test]
fn an_unknown_profile_names_the_known_ones() {
    let error = Profile::load("smok").unwrap_err().to_string();
    assert!(error.contains("smoke, standard"), "{error}");
}

#[test]
fn faults_are_read_and_impossible_ones_refused_with_their_line() {
    let with = |fault: &str| Profile::parse(&format!("{GOOD}[[fault]]\n{fault}\n"), "mine.toml");
    let profile = with("at = \"3s\"\nkind = \"kill\"\ntarget = \"nats\"\nduration = \"1s\"").unwrap();
    assert_eq!(profile.faults[0].kind, FaultKind::Kill);
    assert!(!profile.faults[0].hits(queuebench_testcontainers::Backend::Kafka));
    for (fault, wants) in [
        ("at = \"3s\"\nkind = \"kil\"", "line 23: unknown variant `kil`"),
        ("at = \"3s\"\nkind = \"kil\"", "did you mean `kill`?"),
        ("at = \"3s\"\nkind = \"restart\"\ntarget = \"natz\"", "did you mean `nats`?"),
        ("at = \"3s\"\nkind = \"kill\"", "line 23: `fault[0].kind` needs a duration"),
        ("at = \"3s\"\nkind = \"restart\"\nduration = \"1s\"", "line 24: `fault[0].duration` goes with"),
        (
            "at = \"6500ms\"\nkind = \"pause\"\nduration = \"1s\"",
            "line 22: `fault[0].at` and duration must end",
        ),
        (
            "at = \"1s\"\nkind = \"restart\"\n[[fault]]\nat = \"500ms\"\nkind = \"pause\"\nduration = \"1s\"",
            "line 25: `fault[1].at` must not fall into another fault",
        ),
        ("at = \"3s\"\nkind = \"restart\"\nwhen = \"1s\"", "unknown field `when`"),
    ] {
        let error = with(fault).unwrap_err().to_string();
        assert!(error.contains(wants), "wanted {wants:?}: {error}");
    }
}
