//! An agent that says how it does: well, unless a reading told it otherwise.
//!
//! The source of a reading says how the agent is from then on: `sick` makes its `health` an error, `stuck` lets it never
//! return, and any other source makes it well again. The node's store keeps it in the bucket `sickly`, so a restart
//! alone mends nothing.

wit_bindgen::generate!({
    path: "wit",
    world: "sickly-world",
    generate_all,
});

use exports::fleet::agent::health;
use exports::syuthd::agent_mesh::sensor_handler::{self, SensorData};
use wasi::keyvalue::store::{Bucket, open};
use wasi::logging::logging::{Level, log};

const STATE: &str = "state";

struct Sickly;

impl sensor_handler::Guest for Sickly {
    fn handle_data(data: SensorData) -> String {
        bucket().set(STATE, data.source.as_bytes()).expect("room for the state");
        log(Level::Info, "sickly-agent", &format!("now {}", data.source));
        data.source
    }
}

impl health::Guest for Sickly {
    fn health() -> Result<(), String> {
        match bucket().get(STATE).expect("the state").as_deref() {
            Some(b"sick") => Err("a reading made it sick".into()),
            Some(b"stuck") => loop {
                std::hint::spin_loop();
            },
            _ => Ok(()),
        }
    }
}

fn bucket() -> Bucket {
    open("sickly").expect("a bucket")
}

export!(Sickly);
