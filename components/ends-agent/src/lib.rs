//! An agent that ends in the way that the reading's source names: for tests of limits and exit causes.
//!
//! `c/ends.c` is the same in C. Two sources do not end it: `answer` answers with as many characters as the value says,
//! `calls` after as many calls of the host.

wit_bindgen::generate!({
    path: "wit",
    world: "ends-world",
    generate_all,
});

use exports::syuthd::agent_mesh::sensor_handler::{Guest, SensorData};
use std::hint::black_box;
use std::panic;
use wasi::cli::{exit, stderr};
use wasi::clocks::monotonic_clock;
use wasi::io::poll;
use wasi::logging::logging::{Level, log};

const HOUR_NS: u64 = 3_600_000_000_000;

struct Ends;

impl Guest for Ends {
    fn handle_data(data: SensorData) -> String {
        match data.source.as_str() {
            "answer" => return "x".repeat(data.value as usize),
            "calls" => call_host(data.value as u32),
            "panic" => say_and_panic(),
            "abort" => std::process::abort(),
            "log-and-abort" => log_and_abort(),
            "loop" => spin(),
            "sleep" => monotonic_clock::subscribe_duration(HOUR_NS).block(),
            "poll" => drop(poll::poll(&[&monotonic_clock::subscribe_duration(HOUR_NS)])),
            "memory" => hoard(),
            "stack" => drop(black_box(descend(black_box(0)))),
            "out-of-bounds" => reach_outside(),
            "divide" => divide(),
            "exit" => exit::exit(Ok(())),
            "exit-with-code" => exit::exit_with_code(data.value as u8),
            "host-error" => hold_too_many(),
            other => return format!("no such end: {other}"),
        }
        "alive".to_owned()
    }
}

fn call_host(times: u32) {
    for _ in 0..times {
        black_box(monotonic_clock::now());
    }
}

/// Panics as a program does whose runtime prints what it panics with.
fn say_and_panic() {
    panic::set_hook(Box::new(|info| {
        let _ = stderr::get_stderr().blocking_write_and_flush(format!("{info}\n").as_bytes());
    }));
    panic!("the valve is stuck");
}

fn log_and_abort() {
    log(Level::Error, "ends-agent", "the valve is stuck");
    std::process::abort();
}

fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

/// Takes memory until there is no more; the allocator then ends the agent.
fn hoard() {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 1 << 16]));
    }
}

/// Recurses until the stack is used up.
#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    black_box(descend(black_box(depth + 1)) + 1)
}

/// Reads where the guest has no memory.
fn reach_outside() {
    let outside = black_box(0xffff_fff0_usize) as *const u32;
    // SAFETY: there is no memory at that address, so the engine stops the guest here.
    black_box(unsafe { outside.read_volatile() });
}

/// Divides by zero without the check that the language puts before it.
fn divide() {
    let (seven, zero) = (black_box(7_u32), black_box(0_u32));
    if zero == 0 {
        // SAFETY: it is not, so the language defines nothing; WebAssembly defines that the engine stops the guest below.
        unsafe { std::hint::unreachable_unchecked() }
    }
    black_box(seven / zero);
}

/// Holds more of the host's objects than the host gives out.
fn hold_too_many() {
    let mut held = Vec::new();
    loop {
        held.push(monotonic_clock::subscribe_duration(HOUR_NS));
    }
}

export!(Ends);
