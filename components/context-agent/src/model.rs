//! The model named `context`, run by the node through wasi:nn.
//!
//! Inputs: `readings`, f32 [1, 8], the newest last; `step`, f32 [1, 1], how far this source usually moves from one
//! reading to the next. Outputs: `score` and `threshold`, f32 [1, 1]; a reading is an anomaly when its score is above
//! the threshold. The threshold belongs to the model, so that a new model needs no new agent.

use std::cell::RefCell;

use crate::wasi::nn::errors::Error;
use crate::wasi::nn::graph::{Graph, load_by_name};
use crate::wasi::nn::inference::GraphExecutionContext;
use crate::wasi::nn::tensor::{Tensor, TensorType};

const NAME: &str = "context";
/// Number of readings the model looks at.
pub const WINDOW: usize = 8;

/// What the model says about one reading.
#[derive(Clone, Copy)]
pub struct Assessment {
    pub score: f32,
    pub threshold: f32,
}

impl Assessment {
    pub fn is_anomaly(self) -> bool {
        self.score > self.threshold
    }
}

/// The loaded model; the execution context comes first because it must be dropped first.
struct Loaded {
    context: GraphExecutionContext,
    _graph: Graph,
}

thread_local! {
    // Kept from call to call: loading costs far more than running.
    static LOADED: RefCell<Option<Loaded>> = const { RefCell::new(None) };
}

pub fn assess(readings: &[f32; WINDOW], step: f32) -> Result<Assessment, String> {
    LOADED.with_borrow_mut(|slot| {
        let loaded = match slot {
            Some(loaded) => loaded,
            None => slot.insert(load()?),
        };
        let outcome = run(&loaded.context, readings, step);
        if outcome.is_err() {
            // Load it again next time: the node may have exchanged the model.
            *slot = None;
        }
        outcome
    })
}

fn load() -> Result<Loaded, String> {
    let graph = load_by_name(NAME).map_err(|error| explain("cannot load", &error))?;
    let context = graph.init_execution_context().map_err(|error| explain("cannot prepare", &error))?;
    Ok(Loaded { context, _graph: graph })
}

fn run(context: &GraphExecutionContext, readings: &[f32; WINDOW], step: f32) -> Result<Assessment, String> {
    let inputs = vec![
        ("readings".to_string(), tensor(&[1, WINDOW as u32], readings)),
        ("step".to_string(), tensor(&[1, 1], &[step])),
    ];
    let outputs = context.compute(inputs).map_err(|error| explain("cannot run", &error))?;
    Ok(Assessment { score: scalar(&outputs, "score")?, threshold: scalar(&outputs, "threshold")? })
}

fn tensor(dimensions: &[u32], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(dimensions, TensorType::Fp32, &data)
}

fn scalar(outputs: &[(String, Tensor)], name: &str) -> Result<f32, String> {
    let tensor = outputs.iter().find(|(output, _)| output == name);
    let (_, tensor) = tensor.ok_or_else(|| format!("model {NAME} has no output {name}"))?;
    let bytes: Option<[u8; 4]> = tensor.data().try_into().ok();
    match bytes.map(f32::from_le_bytes) {
        Some(value) if value.is_finite() => Ok(value),
        _ => Err(format!("output {name} of model {NAME} is not one finite f32")),
    }
}

fn explain(what: &str, error: &Error) -> String {
    format!("{what} model {NAME}: {:?}: {}", error.code(), error.data())
}
