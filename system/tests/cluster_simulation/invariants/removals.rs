//! Nobody is removed who was not in real trouble: down, paused, or cut off from more than one other, within
//! the time that detection takes.

use crate::world::World;

const WITHIN_MS: u64 = 8_000;

pub(crate) fn check(world: &World) {
    for removal in &world.removals {
        let recent = removal.troubled_at.is_some_and(|at| removal.at - at <= WITHIN_MS);
        assert!(recent, "{} was removed although it was well: {removal:?}", world.nodes[removal.node].id);
    }
}
