//! An agent with both ends of HTTP: it fetches what it is told to, and answers requests by their path. Most paths
//! answer badly on purpose, for showing that a node keeps its word to the client all the same.

wit_bindgen::generate!({
    path: "wit",
    world: "http-world",
    generate_all,
});

mod client;
mod server;

use exports::fleet::http_agent::client::{Answer, Guest as Client};
use exports::wasi::http::incoming_handler::Guest as Server;
use wasi::http::types::{IncomingRequest, ResponseOutparam};

struct Agent;

impl Client for Agent {
    fn fetch(method: String, url: String, headers: Vec<(String, String)>, body: String) -> Result<Answer, String> {
        client::fetch(&method, &url, &headers, body.as_bytes())
    }

    fn upload(url: String, size: u64, whole: bool) -> Result<u16, String> {
        client::upload(&url, size, whole)
    }

    fn flood(url: String, count: u32) -> (u32, Vec<String>) {
        client::flood(&url, count)
    }
}

impl Server for Agent {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        server::handle(request, out);
    }
}

export!(Agent);
