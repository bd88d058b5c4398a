//! No acknowledged custom data is lost: each key has the value of its last acknowledged write, or of a later
//! one whose outcome the client was not told.

use std::collections::BTreeMap;

use crate::world::World;

pub(crate) fn check(world: &World) {
    let mut possible = BTreeMap::<&str, (bool, Vec<&str>)>::new();
    for write in &world.writes {
        let (must_exist, values) = possible.entry(&write.key).or_default();
        if write.acknowledged {
            *must_exist = true;
            values.clear();
        }
        values.push(&write.value);
    }
    for (key, (must_exist, values)) in possible {
        let found = world.oracle.custom_data().get(key).map(|value| value.as_ref());
        let right = match found {
            Some(found) => values.iter().any(|value| value.as_bytes() == found),
            None => !must_exist,
        };
        assert!(right, "{key} is {found:?}, possible are {values:?}");
    }
}
