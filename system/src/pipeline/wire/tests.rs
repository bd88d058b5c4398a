use proptest::prelude::*;

use super::*;

fn labels<'a>(pairs: &[(&'a str, &'a str)]) -> Metadata<'a> {
    pairs.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect()
}

#[test]
fn the_example_of_the_interface_is_read() {
    let body = br#"{"source":"meter-7","data":"kwh=12.4","metadata":{"site":"north"}}"#;
    let request = IngestRequest::parse(body).unwrap();
    assert_eq!(request.source, "meter-7");
    assert_eq!(request.data, "kwh=12.4");
    assert_eq!(request.metadata, labels(&[("site", "north")]));
}

#[test]
fn lenient_bodies_are_accepted() {
    for body in [
        "{}",
        "null",
        "  null trailing",
        r#"{"source":null,"data":null,"metadata":null}"#,
        r#"{"payload":"ignored","nested":{"a":[1,{"b":2}]}}"#,
        "{}}}}",
        "{}\n{\"source\":1}",
    ] {
        assert_eq!(IngestRequest::parse(body.as_bytes()).unwrap(), IngestRequest::default(), "{body}");
    }
    let mixed = IngestRequest::parse(br#"{"SOURCE":"a","Data":"b","MetaData":{"K":"v"}} x"#).unwrap();
    assert_eq!((&*mixed.source, &*mixed.data), ("a", "b"));
    assert_eq!(mixed.metadata, labels(&[("K", "v")]));
}

#[test]
fn scalar_labels_keep_their_json_text() {
    let body = br#"{"metadata":{"n":1.0,"e":1e5,"big":12345678901234567890123,"t":true,"f":false,"z":null,"s":"a\nb"}}"#;
    let request = IngestRequest::parse(body).unwrap();
    let wanted = [
        ("big", "12345678901234567890123"),
        ("e", "1e5"),
        ("f", "false"),
        ("n", "1.0"),
        ("s", "a\nb"),
        ("t", "true"),
        ("z", ""),
    ];
    assert_eq!(request.metadata, labels(&wanted));
}

#[test]
fn wrong_bodies_are_refused() {
    for body in [
        &b""[..],
        b" ",
        b"{",
        b"[]",
        b"\"text\"",
        b"1",
        b"{\"source\":1}",
        b"{\"data\":{}}",
        b"{\"metadata\":[]}",
        b"{\"metadata\":{\"a\":[]}}",
        b"{\"metadata\":{\"a\":{}}}",
        b"{\"source\":\"\xff\xfe\"}",
        b"{\"metadata\":{\"a\":\"\xc3\"}}",
        b"{'source':'a'}",
    ] {
        assert!(IngestRequest::parse(body).is_err(), "{}", String::from_utf8_lossy(body));
    }
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(IngestRequest::parse(deep.as_bytes()).is_err());
}

#[test]
fn a_data_message_is_written_as_the_interface_shows_it() {
    let message = DataMessage {
        id: "a1".into(),
        timestamp: 1_735_689_600,
        source: "meter-7".into(),
        payload: b"kwh=12.4".to_vec(),
        metadata: BTreeMap::from([("site".into(), "north".into())]),
    };
    let mut text = Vec::new();
    message.write(&mut text);
    let wanted = r#"{"id":"a1","timestamp":1735689600,"source":"meter-7","payload":"a3doPTEyLjQ=","metadata":{"site":"north"}}"#;
    assert_eq!(String::from_utf8(text).unwrap(), wanted);
    let mut empty = Vec::new();
    DataMessage::default().write(&mut empty);
    assert_eq!(empty, b"{}");
}

#[test]
fn wrong_data_messages_are_refused() {
    for body in [
        r#"{"payload":"not base64!"}"#,
        r#"{"payload":"YQ"}"#,
        r#"{"timestamp":"1735689600"}"#,
        r#"{"timestamp":1.5}"#,
        r#"{"metadata":{"a":1}}"#,
        r#"{"id":7}"#,
        "[]",
        "",
    ] {
        assert!(DataMessage::parse(body.as_bytes()).is_err(), "{body}");
    }
    assert_eq!(DataMessage::parse(br#"{"payload":"YQ\r\n=="}"#).unwrap().payload, b"a");
    assert_eq!(DataMessage::parse(b"null").unwrap(), DataMessage::default());
}

proptest! {
    // Every message reads back as it was written, whatever its texts hold.
    #[test]
    fn messages_read_back(
        id in ".*",
        timestamp: i64,
        source in ".*",
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        metadata in proptest::collection::btree_map(".*", ".*", 0..5),
    ) {
        let message = DataMessage { id, timestamp, source, payload, metadata };
        let mut text = Vec::new();
        message.write(&mut text);
        prop_assert_eq!(DataMessage::parse(&text).unwrap(), message);
    }

    // No body makes a parser panic.
    #[test]
    fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = IngestRequest::parse(&body);
        let _ = DataMessage::parse(&body);
    }
}
