//! Counts the readings of each source, keeps the newest, and asks a model how far it is from the one before.

wit_bindgen::generate!({ path: "wit", world: "agent", generate_all });

use exports::fleet::sample::readings::{Failure, Guest, Reading, Verdict};
use wasi::keyvalue::store::{self, Bucket};
use wasi::keyvalue::{atomics, batch};
use wasi::logging::logging::{Level, log};
use wasi::nn::errors::Error;
use wasi::nn::graph::load_by_name;
use wasi::nn::tensor::{Tensor, TensorType};

const BUCKET: &str = "readings";
const MODEL: &str = "distance";

struct Agent;

impl Guest for Agent {
    fn take(reading: Reading) -> Result<Verdict, String> {
        let Reading { source, value } = reading;
        if source.is_empty() || source.len() > 64 {
            return Err("source must have 1 to 64 bytes".into());
        }
        if !value.is_finite() {
            return Err("value must be finite".into());
        }
        let bucket = store::open(BUCKET).map_err(|error| explain(&error))?;
        let before = last(&bucket, &source)?.unwrap_or(value);
        let score = distance(value, before)?;
        let count = atomics::increment(&bucket, &format!("count/{source}"), 1).map_err(|error| explain(&error))?;
        let pairs = [
            (format!("last/{source}"), value.to_le_bytes().to_vec()),
            (format!("score/{source}"), score.to_le_bytes().to_vec()),
        ];
        batch::set_many(&bucket, &pairs).map_err(|error| explain(&error))?;
        log(Level::Info, "agent", &format!("reading {count} of {source}"));
        Ok(Verdict { source, count, score })
    }

    fn fail(how: Failure) {
        match how {
            Failure::Trap => panic!("asked to fail"),
            Failure::Spin => loop {
                std::hint::spin_loop();
            },
            Failure::Memory => {
                let mut taken: Vec<Vec<u8>> = Vec::new();
                loop {
                    taken.push(std::hint::black_box(vec![1; 1 << 20]));
                }
            }
        }
    }
}

/// The newest reading of a source, if there is one.
fn last(bucket: &Bucket, source: &str) -> Result<Option<f32>, String> {
    let stored = bucket.get(&format!("last/{source}")).map_err(|error| explain(&error))?;
    Ok(stored.and_then(|bytes| bytes.try_into().ok()).map(f32::from_le_bytes))
}

/// Ask the model. Every handle of the host is given back when its variable ends.
fn distance(value: f32, before: f32) -> Result<f32, String> {
    let reason = |error: Error| format!("model {MODEL}: {}", error.data());
    let context = load_by_name(MODEL).and_then(|graph| graph.init_execution_context()).map_err(reason)?;
    let pair = [value.to_le_bytes(), before.to_le_bytes()].concat();
    let input = Tensor::new(&[1, 2], TensorType::Fp32, &pair);
    let outputs = context.compute(vec![("pair".into(), input)]).map_err(reason)?;
    let data = outputs.first().map(|(_, tensor)| tensor.data()).unwrap_or_default();
    let bytes = data.try_into().map_err(|_| format!("model {MODEL}: not one number"))?;
    Ok(f32::from_le_bytes(bytes))
}

fn explain(error: &store::Error) -> String {
    match error {
        store::Error::NoSuchStore => format!("bucket {BUCKET}: no such store"),
        store::Error::AccessDenied => format!("bucket {BUCKET}: access denied"),
        store::Error::Other(text) => format!("bucket {BUCKET}: {text}"),
    }
}

export!(Agent);
