//! An agent that counts its calls in the store and dies at random, in every way a guest has: for endurance tests.
//!
//! About one call in twelve ends it. The count lives in the bucket `restless`, so it goes on after a restart; it is written
//! before the agent may die, so it never goes back.

wit_bindgen::generate!({
    path: "wit",
    world: "restless-world",
    generate_all,
});

use exports::syuthd::agent_mesh::sensor_handler::{Guest, SensorData};
use std::hint::black_box;
use wasi::keyvalue::{atomics, store};
use wasi::logging::logging::{Level, log};
use wasi::random::random;

/// Of so many calls one ends in a loop until its deadline: rarely, since it costs processor time.
const LOOPS: u64 = 1024;
/// Of so many calls five end it, each in another way.
const DEATHS: u64 = 64;

struct Restless;

impl Guest for Restless {
    fn handle_data(data: SensorData) -> String {
        let bucket = store::open("restless").expect("a bucket");
        let count = atomics::increment(&bucket, &format!("count/{}", data.source), 1).expect("a count");
        let chance = random::get_random_u64();
        if chance % LOOPS == 0 {
            loop {
                std::hint::spin_loop();
            }
        }
        match chance / LOOPS % DEATHS {
            0 => panic!("the agent gave up at {count}"),
            1 => reach_outside(),
            2 => drop(black_box(descend(black_box(0)))),
            3 => drop(hoard()),
            4 => std::process::abort(),
            _ => log(Level::Debug, "restless-agent", "alive"),
        }
        count.to_string()
    }
}

/// Reads where the guest has no memory.
fn reach_outside() {
    let outside = black_box(0xffff_fff0_usize) as *const u32;
    // SAFETY: there is no memory at that address, so the engine stops the guest here.
    black_box(unsafe { outside.read_volatile() });
}

/// Recurses until the stack is used up.
#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    black_box(descend(black_box(depth + 1)) + 1)
}

/// Takes memory until there is no more.
fn hoard() -> usize {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 1 << 20]));
        if held.len() == usize::MAX {
            return held.len();
        }
    }
}

export!(Restless);
