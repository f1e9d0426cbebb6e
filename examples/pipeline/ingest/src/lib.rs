//! The first of the pipeline: takes readings as the node delivers them, and has each scored by another agent.
//!
//! Who scores is said in fleet.yaml. When nobody can, the answer says why, and the next reading is taken all the same.

wit_bindgen::generate!({ path: "wit", world: "ingest", generate_all });

use example::pipeline::score::{Reading, score};
use exports::syuthd::agent_mesh::sensor_handler::{Guest, SensorData};
use wasi::logging::logging::{Level, log};

struct Ingest;

impl Guest for Ingest {
    fn handle_data(data: SensorData) -> String {
        let SensorData { source, value, .. } = data;
        match score(&Reading { source: source.clone(), value }) {
            Ok(score) => {
                let text = format!("{source} scored {score:.3}");
                log(Level::Debug, "ingest", &text);
                text
            }
            Err(reason) => {
                let text = format!("{source} was not scored: {reason}");
                log(Level::Warn, "ingest", &text);
                text
            }
        }
    }
}

export!(Ingest);
