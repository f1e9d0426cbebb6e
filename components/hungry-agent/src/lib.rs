//! An agent that takes all the memory it can get and then crashes: for showing that a memory quota holds.

wit_bindgen::generate!({
    path: "../../wit/syuthd-agent-mesh",
    world: "agent-world",
    generate_all,
});

use exports::syuthd::agent_mesh::sensor_handler::{Guest, SensorData};
use wasi::logging::logging::{Level, log};

/// How much it asks for at a time, in bytes.
const BITE: usize = 1 << 20;

struct Hungry;

impl Guest for Hungry {
    fn handle_data(data: SensorData) -> String {
        log(Level::Warn, "hungry-agent", &format!("eating memory on a reading of {}", data.source));
        let mut eaten: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut bite = Vec::new();
            // Fails once the engine answers memory.grow with -1.
            if bite.try_reserve_exact(BITE).is_err() || eaten.try_reserve(1).is_err() {
                core::arch::wasm32::unreachable();
            }
            // Writing makes the pages count on the node too, not only in the guest.
            bite.resize(BITE, 1);
            eaten.push(core::hint::black_box(bite));
        }
    }
}

export!(Hungry);
