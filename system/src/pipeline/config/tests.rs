use super::*;

#[test]
fn every_variable_of_the_interface_is_honoured() {
    let env = Env::of(&[
        ("API_PORT", "1001"),
        ("INGEST_PORT", "1002"),
        ("PROCESSOR_PORT", "1003"),
        ("PROCESSOR_WORKERS", "7"),
        ("PROCESSOR_URL", "http://p:1"),
        ("INGEST_URL", "http://i:2"),
        ("QUEUE_SIZE", "50"),
        ("QUEUE_TYPE", "composite"),
        ("NATS_URL", "nats://n:3"),
        ("KAFKA_BROKERS", "a:1,b:2"),
        ("KAFKA_TOPIC", "t"),
        ("KAFKA_CONSUMER_GROUP", "g"),
        ("COMPOSITE_PROVIDERS", "memory, nats"),
        ("COMPOSITE_STRATEGY", "best-effort"),
    ]);
    let settings = Settings::load(None, &env).unwrap();
    assert_eq!(settings.gateway.server.port, 1001);
    assert_eq!(settings.ingest.server.port, 1002);
    assert_eq!(settings.processor.server.port, 1003);
    assert_eq!(settings.processor.workers, 7);
    assert_eq!(settings.gateway.processor.url, "http://p:1");
    assert_eq!(settings.ingest.processor.url, "http://p:1");
    assert_eq!(settings.grpc.processor.url, "http://p:1");
    assert_eq!(settings.gateway.ingest.url, "http://i:2");
    assert_eq!(settings.processor.queue_size, 50);
    assert_eq!(settings.processor.queue_type, "composite");
    assert_eq!(settings.processor.nats_url, "nats://n:3");
    assert_eq!(settings.processor.kafka_brokers, "a:1,b:2");
    assert_eq!(settings.processor.kafka_topic, "t");
    assert_eq!(settings.processor.kafka_consumer_group, "g");
    assert_eq!(settings.processor.composite_providers, "memory, nats");
    assert_eq!(settings.processor.composite_strategy, "best-effort");
}

#[test]
fn empty_and_non_integer_variables_leave_the_defaults() {
    let env = Env::of(&[
        ("API_PORT", ""),
        ("INGEST_PORT", "eighty"),
        ("PROCESSOR_WORKERS", "4.5"),
        ("INGEST_URL", ""),
    ]);
    let settings = Settings::load(None, &env).unwrap();
    assert_eq!(settings.gateway.server.port, 8080);
    assert_eq!(settings.ingest.server.port, 8081);
    assert_eq!(settings.processor.workers, 4);
    assert_eq!(settings.gateway.ingest.url, "http://localhost:8081");
}

#[test]
fn no_workers_and_negative_workers_are_refused() {
    for workers in ["0", "-1"] {
        let error = Settings::load(None, &Env::of(&[("PROCESSOR_WORKERS", workers)])).unwrap_err();
        assert_eq!(error.to_string(), format!("PROCESSOR_WORKERS is {workers}: a number from 1 to 1024"));
    }
}

#[test]
fn the_environment_overrides_the_file_and_unknown_keys_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipeline.toml");
    std::fs::write(&path, "[gateway]\nrate_limit_total_per_s = 5.0\n[gateway.server]\nport = 1\n").unwrap();
    let settings = Settings::load(Some(&path), &Env::of(&[("API_PORT", "2")])).unwrap();
    assert_eq!(settings.gateway.server.port, 2);
    assert!((settings.gateway.rate_limit_total_per_s - 5.0).abs() < f64::EPSILON);

    std::fs::write(&path, "[gateway]\nprot = 1\n").unwrap();
    let error = Settings::load(Some(&path), &Env::default()).unwrap_err().to_string();
    assert!(error.contains("prot") && error.contains("line 2"), "{error}");
}

#[test]
fn deadlines_grow_from_the_inside_out() {
    let settings = Settings::default();
    assert!(settings.processor.publish_timeout() < settings.ingest.processor.timeout());
    assert!(settings.ingest.processor.timeout() < settings.gateway.ingest.timeout());
    assert!(settings.processor.publish_timeout() < settings.gateway.processor.timeout());
    assert!(settings.processor.publish_timeout() < settings.grpc.processor.timeout());
}
