//! An agent that crashes on every reading: for showing that a trap restarts this agent and nothing else.

wit_bindgen::generate!({
    path: "../../wit/syuthd-agent-mesh",
    world: "agent-world",
    generate_all,
});

use exports::syuthd::agent_mesh::sensor_handler::{Guest, SensorData};
use wasi::logging::logging::{Level, log};

struct Crasher;

impl Guest for Crasher {
    fn handle_data(data: SensorData) -> String {
        log(Level::Warn, "crasher-agent", &format!("crashing on a reading of {}", data.source));
        core::arch::wasm32::unreachable()
    }
}

export!(Crasher);
