//! An agent that never returns: for showing that a call ends at its deadline.

wit_bindgen::generate!({
    path: "../../wit/syuthd-agent-mesh",
    world: "agent-world",
    generate_all,
});

use exports::syuthd::agent_mesh::sensor_handler::{Guest, SensorData};
use wasi::logging::logging::{Level, log};

struct Spinner;

impl Guest for Spinner {
    fn handle_data(data: SensorData) -> String {
        log(Level::Warn, "spinner-agent", &format!("spinning on a reading of {}", data.source));
        loop {
            core::hint::spin_loop();
        }
    }
}

export!(Spinner);
