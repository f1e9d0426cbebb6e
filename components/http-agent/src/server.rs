//! Answers to others.

use crate::client;
use crate::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use crate::wasi::io::streams::StreamError;

/// Bytes of one write that waits.
const PIECE: usize = 4096;

pub fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let path = request.path_with_query().unwrap_or_default();
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    match path {
        "/" => answer(out, 200, b"hello"),
        "/echo" => {
            let body = body_of(&request);
            answer(out, 200, &body);
        }
        "/about" => {
            let mut text = request.authority().unwrap_or_default().into_bytes();
            for (name, value) in request.headers().entries() {
                for part in [b"\n", name.as_bytes(), b"=", &value] {
                    text.extend(part);
                }
            }
            answer(out, 200, &text);
        }
        "/fetch" => match client::fetch("GET", query, &[], b"") {
            Ok(found) => answer(out, found.status, found.body.as_bytes()),
            Err(error) => answer(out, 502, error.as_bytes()),
        },
        "/large" => stream(out, query.parse().unwrap_or(0), true),
        "/broken" => stream(out, 10, false),
        "/refuse" => ResponseOutparam::set(out, Err(ErrorCode::HttpRequestDenied)),
        "/silent" => drop(out),
        "/trap" => core::arch::wasm32::unreachable(),
        "/spin" => loop {
            core::hint::black_box(());
        },
        _ => answer(out, 404, b"no such path"),
    }
}

fn answer(out: ResponseOutparam, status: u16, body: &[u8]) {
    let headers = Fields::new();
    let kind = "text/plain; charset=utf-8";
    if headers.append("content-type", kind.as_bytes()).is_err() {
        core::arch::wasm32::unreachable();
    }
    let response = OutgoingResponse::new(headers);
    let (Ok(()), Ok(place)) = (response.set_status_code(status), response.body()) else {
        core::arch::wasm32::unreachable();
    };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = place.write() {
        for piece in body.chunks(PIECE) {
            if stream.blocking_write_and_flush(piece).is_err() {
                return; // the client has gone
            }
        }
    }
    let _ = OutgoingBody::finish(place, None);
}

fn stream(out: ResponseOutparam, size: u64, whole: bool) {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(place) = response.body() else { core::arch::wasm32::unreachable() };
    ResponseOutparam::set(out, Ok(response));
    let piece = [b'x'; PIECE];
    let mut left = size;
    if let Ok(stream) = place.write() {
        while left > 0 {
            let count = left.min(PIECE as u64) as usize;
            if stream.blocking_write_and_flush(&piece[..count]).is_err() {
                return; // the client has gone
            }
            left -= count as u64;
        }
    }
    if whole {
        let _ = OutgoingBody::finish(place, None);
    }
}

fn body_of(request: &IncomingRequest) -> Vec<u8> {
    let mut all = Vec::new();
    let Ok(body) = request.consume() else { return all };
    if let Ok(stream) = body.stream() {
        loop {
            match stream.blocking_read(1 << 16) {
                Ok(piece) => all.extend(piece),
                Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => break,
            }
        }
    }
    drop(IncomingBody::finish(body));
    all
}
