//! Whether anything can go on for ever. What is promised to come about can be
//! checked at the ends of all ways only if each way has one.

use std::collections::HashSet;

use stateright::Model;

use crate::{promises::Protocol, world::World};

/// A state on the way that is looked at, and what may follow it.
struct Place {
    world: World,
    next: Vec<World>,
}

impl Place {
    fn new(world: World, protocol: &Protocol) -> Self {
        let next = protocol.next_states(&world);
        Self { world, next }
    }
}

/// A state that can follow itself, if there is one.
pub(crate) fn circle(protocol: &Protocol) -> Option<World> {
    let mut seen = HashSet::new();
    let mut on_the_way = HashSet::new();
    let mut way = Vec::new();
    for world in protocol.init_states() {
        seen.insert(world.clone());
        on_the_way.insert(world.clone());
        way.push(Place::new(world, protocol));
    }
    while let Some(place) = way.last_mut() {
        let Some(next) = place.next.pop() else {
            on_the_way.remove(&place.world);
            way.pop();
            continue;
        };
        let next = next.representative();
        if on_the_way.contains(&next) {
            return Some(next);
        }
        if seen.insert(next.clone()) {
            on_the_way.insert(next.clone());
            way.push(Place::new(next, protocol));
        }
    }
    None
}
