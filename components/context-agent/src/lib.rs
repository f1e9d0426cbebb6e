//! An agent that knows what is normal for each source it hears from.
//!
//! For every reading it updates a summary of the source, asks a model on the node whether the reading is unusual, and
//! answers with a verdict. All it knows lives in the bucket `context`, so it goes on after a restart where it was:
//!
//! * `state/SOURCE`: what it needs for the next verdict (binary, see `state.rs`); written first, the truth.
//! * `summary/SOURCE`: the same for others to read, as JSON.
//!
//! A reading counts only if its `state` was written. When reading the store or the model fails, nothing is written; when
//! only writing the `summary` fails, the reading counts although the answer is an error, and the next one brings the
//! summary up to date.

mod model;
mod state;
mod verdict;

wit_bindgen::generate!({
    path: "../../wit/syuthd-agent-mesh",
    world: "agent-world",
    generate_all,
});

use exports::syuthd::agent_mesh::sensor_handler::{Guest, SensorData};
use state::State;
use verdict::{Verdict, refusal, summary};
use wasi::keyvalue::store::{self, Bucket};
use wasi::logging::logging::{Level, log};

const BUCKET: &str = "context";
/// Longest name of a source, in bytes; it becomes part of a key.
const MAX_SOURCE: usize = 64;
/// Largest absolute value: far above any sensor, far below where f32 differences lose meaning for the model.
const MAX_VALUE: f32 = 1e9;
const CONTEXT: &str = "context-agent";

struct ContextAgent;

impl Guest for ContextAgent {
    fn handle_data(data: SensorData) -> String {
        if let Err(reason) = validate(&data) {
            log(Level::Warn, CONTEXT, &format!("refused a reading: {reason}"));
            return refusal(&data.source, "invalid", reason);
        }
        match assess(&data) {
            Ok(verdict) => {
                let level = if verdict.is_anomaly() { Level::Warn } else { Level::Debug };
                let text = verdict.to_json();
                log(level, CONTEXT, &text);
                text
            }
            Err(reason) => {
                log(Level::Error, CONTEXT, &format!("no verdict on {}: {reason}", data.source));
                refusal(&data.source, "error", &reason)
            }
        }
    }
}

fn validate(data: &SensorData) -> Result<(), &'static str> {
    if data.source.is_empty() || data.source.len() > MAX_SOURCE {
        return Err("source must have 1 to 64 bytes");
    }
    if data.source.chars().any(char::is_control) {
        return Err("source must not contain control characters");
    }
    if !data.value.is_finite() || data.value.abs() > MAX_VALUE {
        return Err("value must be a finite number between -1e9 and 1e9");
    }
    Ok(())
}

fn assess(data: &SensorData) -> Result<Verdict<'_>, String> {
    let bucket = store::open(BUCKET).map_err(|error| format!("cannot open bucket {BUCKET}: {error}"))?;
    let mut state = load(&bucket, &data.source)?;
    let assessment = match state.window(data.value) {
        Some(window) => Some(model::assess(&window, state.usual_step())?),
        None => None,
    };
    state.record(data.value, data.timestamp, assessment);
    let verdict = Verdict::new(&data.source, assessment, &state);
    set(&bucket, &format!("state/{}", data.source), &state.to_bytes())?;
    set(&bucket, &format!("summary/{}", data.source), summary(&verdict, &state).as_bytes())?;
    Ok(verdict)
}

fn load(bucket: &Bucket, source: &str) -> Result<State, String> {
    let key = format!("state/{source}");
    let stored = bucket.get(&key).map_err(|error| format!("cannot read {key}: {error}"))?;
    let Some(bytes) = stored else {
        return Ok(State::default());
    };
    Ok(State::from_bytes(&bytes).unwrap_or_else(|| {
        log(Level::Warn, CONTEXT, &format!("{key} is not in this agent's format: starting over"));
        State::default()
    }))
}

fn set(bucket: &Bucket, key: &str, value: &[u8]) -> Result<(), String> {
    bucket.set(key, value).map_err(|error| format!("cannot write {key}: {error}"))
}

export!(ContextAgent);
