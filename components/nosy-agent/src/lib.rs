//! An agent that asks for more than a sensor handler needs: for showing that a node refuses it before it runs, unless
//! its grant names `wasi:config/store`.

wit_bindgen::generate!({
    path: "wit",
    world: "nosy-world",
    generate_all,
});

use exports::syuthd::agent_mesh::sensor_handler::{Guest, SensorData};
use wasi::config::store;
use wasi::logging::logging::{Level, log};

struct Nosy;

impl Guest for Nosy {
    fn handle_data(data: SensorData) -> String {
        let answer = match store::get_all() {
            Ok(settings) => format!("read {} settings", settings.len()),
            Err(error) => format!("could not read settings: {error}"),
        };
        log(Level::Info, "nosy-agent", &format!("{answer} on a reading of {}", data.source));
        answer
    }
}

export!(Nosy);
