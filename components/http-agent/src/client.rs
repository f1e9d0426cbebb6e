//! Requests to others.

use crate::exports::fleet::http_agent::client::Answer;
use crate::wasi::http::outgoing_handler::handle;
use crate::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    Scheme,
};
use crate::wasi::io::streams::{OutputStream, StreamError};

/// Bytes of one write that waits.
const PIECE: usize = 4096;

pub fn fetch(method: &str, url: &str, headers: &[(String, String)], body: &[u8]) -> Result<Answer, String> {
    let request = request(method, url, headers)?;
    let sent = if body.is_empty() {
        handle(request, None).map_err(name)?
    } else {
        let out = request.body().map_err(|()| "no body")?;
        let sent = handle(request, None).map_err(name)?;
        write(&out.write().map_err(|()| "no stream")?, body)?;
        OutgoingBody::finish(out, None).map_err(name)?;
        sent
    };
    let response = wait(&sent)?;
    let status = response.status();
    let headers = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8(value).unwrap_or_default()))
        .collect();
    let body = read(response)?;
    Ok(Answer { status, headers, body: String::from_utf8(body).unwrap_or_default() })
}

pub fn upload(url: &str, size: u64, whole: bool) -> Result<u16, String> {
    let request = request("POST", url, &[])?;
    let out = request.body().map_err(|()| "no body")?;
    let sent = handle(request, None).map_err(name)?;
    let stream = out.write().map_err(|()| "no stream")?;
    let piece = [b'x'; PIECE];
    let mut left = size;
    while left > 0 {
        let count = left.min(PIECE as u64) as usize;
        write(&stream, &piece[..count])?;
        left -= count as u64;
    }
    drop(stream);
    if whole {
        OutgoingBody::finish(out, None).map_err(name)?;
    } else {
        drop(out);
    }
    Ok(wait(&sent)?.status())
}

pub fn flood(url: &str, count: u32) -> (u32, Vec<String>) {
    let mut begun = Vec::new();
    let mut failures = Vec::new();
    for _ in 0..count {
        match request("GET", url, &[]).and_then(|request| handle(request, None).map_err(name)) {
            Ok(sent) => begun.push(sent),
            Err(error) => failures.push(error),
        }
    }
    let mut answered = 0;
    for sent in begun {
        match wait(&sent) {
            Ok(_) => answered += 1,
            Err(error) => failures.push(error),
        }
    }
    (answered, failures)
}

fn request(method: &str, url: &str, headers: &[(String, String)]) -> Result<OutgoingRequest, String> {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).map_err(|_| "field refused")?;
    }
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(fields);
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        other => Method::Other(other.into()),
    };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    request.set_method(&method).map_err(|()| "method refused")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme refused")?;
    request.set_authority(Some(authority)).map_err(|()| "authority refused")?;
    request.set_path_with_query(Some(path)).map_err(|()| "path refused")?;
    Ok(request)
}

fn wait(sent: &FutureIncomingResponse) -> Result<IncomingResponse, String> {
    loop {
        if let Some(outcome) = sent.get() {
            return outcome.map_err(|()| "taken")?.map_err(name);
        }
        sent.subscribe().block();
    }
}

fn read(response: IncomingResponse) -> Result<Vec<u8>, String> {
    let body = response.consume().map_err(|()| "consumed")?;
    let stream = body.stream().map_err(|()| "no stream")?;
    let mut all = Vec::new();
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(piece) => all.extend(piece),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(stream_name(error)),
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    Ok(all)
}

fn write(stream: &OutputStream, body: &[u8]) -> Result<(), String> {
    for piece in body.chunks(PIECE) {
        stream.blocking_write_and_flush(piece).map_err(stream_name)?;
    }
    Ok(())
}

fn stream_name(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".into(),
        StreamError::LastOperationFailed(error) => match crate::wasi::http::types::http_error_code(&error) {
            Some(code) => name(code),
            None => error.to_debug_string(),
        },
    }
}

/// Names in place of `Debug`, which would be a third of the component.
fn name(code: ErrorCode) -> String {
    match code {
        ErrorCode::DnsError(_) => "DNS-error",
        ErrorCode::DestinationIpProhibited => "destination-IP-prohibited",
        ErrorCode::ConnectionRefused => "connection-refused",
        ErrorCode::ConnectionTerminated => "connection-terminated",
        ErrorCode::ConnectionTimeout => "connection-timeout",
        ErrorCode::ConnectionReadTimeout => "connection-read-timeout",
        ErrorCode::ConnectionLimitReached => "connection-limit-reached",
        ErrorCode::TlsCertificateError => "TLS-certificate-error",
        ErrorCode::HttpRequestDenied => "HTTP-request-denied",
        ErrorCode::HttpRequestBodySize(_) => "HTTP-request-body-size",
        ErrorCode::HttpRequestUriInvalid => "HTTP-request-URI-invalid",
        ErrorCode::HttpResponseIncomplete => "HTTP-response-incomplete",
        ErrorCode::HttpResponseBodySize(_) => "HTTP-response-body-size",
        ErrorCode::HttpResponseTimeout => "HTTP-response-timeout",
        ErrorCode::HttpProtocolError => "HTTP-protocol-error",
        _ => "another code",
    }
    .into()
}
