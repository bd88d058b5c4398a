//! What must hold after every storm, a file each.

mod agreement;
mod custom_data;
mod event_order;
mod placement;
mod removals;

use super::world::World;

pub(crate) fn check(world: &World) {
    agreement::check(world);
    placement::check(world);
    custom_data::check(world);
    event_order::check(world);
    removals::check(world);
}
