use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kv::command::{Alarm, Compact};

fn apply(store: &mut Store, command: &Command) -> Answer {
    Answer::decode(store.apply(command.encode_bytes())).unwrap()
}

fn compact(store: &mut Store, revision: i64) -> Answer {
    let action = Some(Action::Compact(Compact { revision }));
    apply(store, &Command { request_id: Bytes::new(), action })
}

#[test]
fn revisions_count_changes_and_nothing_else() {
    let mut store = Store::default();
    assert_eq!(store.revision(), 1);
    assert_eq!(apply(&mut store, &Command::put("a", "1")).revision, 2);
    assert_eq!(apply(&mut store, &Command::put("a", "1")).revision, 3);
    assert_eq!(apply(&mut store, &Command::delete("b")).revision, 3);
    let kv = store.get(&"a".into()).unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    assert_eq!(apply(&mut store, &Command::delete("a")).outcomes[0].deleted, 1);
    assert_eq!(apply(&mut store, &Command::put("a", "2")).revision, 5);
    let kv = store.get(&"a".into()).unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
}

#[test]
fn a_failed_compare_changes_nothing() {
    let mut store = Store::default();
    apply(&mut store, &Command::put("a", "1"));
    let Some(Action::Txn(mut txn)) = Command::put("a", "2").action else { unreachable!() };
    let key = Bytes::from("a");
    txn.compares = vec![Compare { key, target: Target::Mod.into(), number: 9, ..Compare::default() }];
    let answer = apply(&mut store, &Command::txn(txn));
    assert_eq!((answer.succeeded, answer.revision), (false, 2));
    assert_eq!(store.get(&"a".into()).unwrap().value, "1");
}

#[test]
fn a_command_with_a_known_id_is_answered_and_not_applied() {
    let mut store = Store::default();
    let put = Command::put("a", "1").with_request_id("x");
    let first = apply(&mut store, &put);
    apply(&mut store, &Command::put("a", "2"));
    assert_eq!(apply(&mut store, &put), first);
    assert_eq!(store.get(&"a".into()).unwrap().value, "2");
}

#[test]
fn the_alarm_stops_puts_and_lets_deletes_through() {
    let mut store = Store::default();
    apply(&mut store, &Command::put("a", "1"));
    let alarm =
        |no_space| Command { request_id: Bytes::new(), action: Some(Action::Alarm(Alarm { no_space })) };
    apply(&mut store, &alarm(true));
    let put = Command::put("b", "1").with_request_id("y");
    assert_eq!(apply(&mut store, &put).refusal(), Refusal::NoSpace);
    assert_eq!(apply(&mut store, &Command::delete("a")).outcomes[0].deleted, 1);
    apply(&mut store, &alarm(false));
    assert_eq!(apply(&mut store, &put).refusal(), Refusal::None);
}

#[test]
fn compaction_keeps_what_the_revision_shows() {
    let mut store = Store::default();
    for value in ["1", "2", "3"] {
        apply(&mut store, &Command::put("a", value));
    }
    apply(&mut store, &Command::delete("a"));
    compact(&mut store, 3);
    let at = |store: &Store, revision| store.range(&"a".into(), &Bytes::new(), revision, 0);
    assert_eq!(at(&store, 3).unwrap()[0].value, "2");
    assert_eq!(at(&store, 2), Err(RevisionError::Compacted(3)));
    assert_eq!(at(&store, 6), Err(RevisionError::Future(5)));
    compact(&mut store, 5);
    assert_eq!((store.keys.len(), store.bytes()), (0, 0));
}

#[test]
fn prefixes_end_where_they_should() {
    assert_eq!(prefix_end(b"a/"), "a0");
    assert_eq!(prefix_end(b"a\xff"), "b");
    assert_eq!(prefix_end(b"\xff\xff"), &b"\0"[..]);
    assert_eq!(prefix_end(b""), &b"\0"[..]);
}

proptest! {
    /// At every revision that can be read, the store shows what a map replayed up to there holds.
    #[test]
    fn history_is_what_happened(
        steps in proptest::collection::vec((0u8..6, any::<Option<u8>>()), 1..60),
        compact_at in 1i64..30,
    ) {
        let mut store = Store::default();
        let mut model = BTreeMap::new();
        let mut past = vec![BTreeMap::new(), BTreeMap::new()];
        for (key, value) in steps {
            let key = Bytes::from(vec![key]);
            let command = match value {
                Some(value) => Command::put(key.clone(), vec![value]),
                None => Command::delete(key.clone()),
            };
            let changed = match value {
                Some(value) => { model.insert(key, Bytes::from(vec![value])); true }
                None => model.remove(&key).is_some(),
            };
            if changed {
                past.push(model.clone());
            }
            let answer = apply(&mut store, &command);
            prop_assert_eq!(answer.revision, i64::try_from(past.len()).unwrap() - 1);
        }
        let compacted = compact(&mut store, compact_at).refusal() == Refusal::None;
        for (revision, map) in past.iter().enumerate().skip(1) {
            let revision = i64::try_from(revision).unwrap();
            let found = store.range(&Bytes::from_static(&[0]), &Bytes::from_static(&[0]), revision, 0);
            if compacted && revision < compact_at {
                prop_assert!(found.is_err());
                continue;
            }
            let found: BTreeMap<_, _> = found.unwrap().into_iter().map(|kv| (kv.key, kv.value)).collect();
            prop_assert_eq!(&found, map);
        }
    }
}
