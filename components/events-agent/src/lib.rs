//! An agent that sends, asks, answers, watches and reads: for showing what agents of a node tell each other. It keeps
//! what it was told until somebody asks, and answers every request with its own words.

wit_bindgen::generate!({
    path: "wit",
    world: "events-world",
    generate_all,
});

use std::cell::RefCell;

use exports::fleet::events_agent::control;
use exports::fleet::sensors::handler;
use exports::wasi::keyvalue::watcher;
use exports::wasi::messaging::incoming_handler;
use fleet::sensors::reader;
use wasi::keyvalue::store;
use wasi::logging::logging::{Level, log};
use wasi::messaging::types::{Client, Error, Message};
use wasi::messaging::{producer, request_reply};

const MOST_KEPT: usize = 1000;

thread_local! {
    static RECEIVED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Events;

fn keep(text: String) {
    log(Level::Info, "events-agent", &text);
    RECEIVED.with_borrow_mut(|received| {
        if received.len() < MOST_KEPT {
            received.push(text);
        }
    });
}

fn text_of(message: &Message) -> String {
    String::from_utf8_lossy(&message.data()).into_owned()
}

fn message(text: &str) -> Message {
    let message = Message::new(text.as_bytes());
    message.set_content_type("text/plain");
    message.add_metadata("sender", "events-agent");
    message
}

fn client() -> Result<Client, String> {
    Client::connect("local").map_err(words)
}

fn words(error: Error) -> String {
    match error {
        Error::Timeout => "timeout".to_owned(),
        Error::Connection(why) => format!("connection: {why}"),
        Error::PermissionDenied(why) => format!("permission-denied: {why}"),
        Error::Other(why) => format!("other: {why}"),
    }
}

fn store_words(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "no-such-store".to_owned(),
        store::Error::AccessDenied => "access-denied".to_owned(),
        store::Error::Other(why) => format!("other: {why}"),
    }
}

impl incoming_handler::Guest for Events {
    fn handle(message: Message) -> Result<(), Error> {
        let topic = message.topic().unwrap_or_default();
        let kind = message.content_type().unwrap_or_default();
        let sender = message
            .metadata()
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| format!(" {name}={value}"))
            .collect::<String>();
        let data = message.data();
        let text = if data.len() > 256 { format!("{} bytes", data.len()) } else { text_of(&message) };
        match text.as_str() {
            "fail" => return Err(Error::Other("as asked".to_owned())),
            "trap" => panic!("as asked"),
            _ => keep(format!("message {topic} [{kind}{sender}] {text}")),
        }
        if let Some(question) = text.strip_suffix('?') {
            let answer = Message::new(format!("{question}!").as_bytes());
            request_reply::reply(&message, answer)?;
        }
        Ok(())
    }
}

impl watcher::Guest for Events {
    fn on_set(bucket: store::Bucket, key: String, value: Vec<u8>) {
        let kept = match bucket.get(&key) {
            Ok(Some(value)) => String::from_utf8_lossy(&value).into_owned(),
            Ok(None) => "nothing".to_owned(),
            Err(error) => store_words(error),
        };
        keep(format!("set {key} {} kept {kept}", String::from_utf8_lossy(&value)));
    }

    fn on_delete(_: store::Bucket, key: String) {
        keep(format!("delete {key}"));
    }
}

impl handler::Guest for Events {
    fn handle(reading: handler::Reading) -> Result<(), String> {
        if reading.value < 0.0 {
            return Err("below zero".to_owned());
        }
        keep(format!("reading {}", describe(&reading)));
        Ok(())
    }
}

fn describe(reading: &reader::Reading) -> String {
    let unit = reading.unit.as_deref().unwrap_or("-");
    let quality = match reading.quality {
        reader::Quality::Good => "good",
        reader::Quality::OutOfRange => "out-of-range",
    };
    format!("{} {} {unit} {quality}", reading.source, decimal(reading.value))
}

/// Three decimals, without the code that formats floating-point numbers in general: it is half as large as the rest.
fn decimal(value: f64) -> String {
    let thousandths = (value * 1000.0) as i64;
    let sign = if thousandths < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", (thousandths / 1000).abs(), (thousandths % 1000).abs())
}

fn reader_words(error: &reader::Error) -> &'static str {
    match error {
        reader::Error::NotGranted => "not-granted",
        reader::Error::UnknownSource => "unknown-source",
        reader::Error::Unavailable(_) => "unavailable",
        reader::Error::Stale(_) => "stale",
        reader::Error::RateLimited => "rate-limited",
    }
}

impl control::Guest for Events {
    fn publish(topic: String, text: String) -> Result<(), String> {
        producer::send(&client()?, &topic, message(&text)).map_err(words)
    }

    fn flood(topic: String, count: u32, size: u32) -> u32 {
        let Ok(client) = client() else { return 0 };
        let data = vec![b'x'; size as usize];
        (0..count).filter(|_| producer::send(&client, &topic, Message::new(&data)).is_ok()).count() as u32
    }

    fn ask(topic: String, text: String, timeout_ms: u32, replies: u32) -> Result<Vec<String>, String> {
        let options = request_reply::RequestOptions::new();
        options.set_timeout_ms(timeout_ms);
        options.set_expected_replies(replies);
        match request_reply::request(&client()?, &topic, &message(&text), Some(options)) {
            Ok(answers) => Ok(answers.iter().map(text_of).collect()),
            Err(error) => Err(words(error)),
        }
    }

    fn put(bucket: String, key: String, text: String) -> Result<(), String> {
        let bucket = store::open(&bucket).map_err(store_words)?;
        bucket.set(&key, text.as_bytes()).map_err(store_words)
    }

    fn remove(bucket: String, key: String) -> Result<(), String> {
        let bucket = store::open(&bucket).map_err(store_words)?;
        bucket.delete(&key).map_err(store_words)
    }

    fn read(source: String) -> Result<String, String> {
        match reader::read(&source) {
            Ok(reading) => Ok(describe(&reading)),
            Err(reader::Error::Stale(reading)) => Err(format!("stale {}", describe(&reading))),
            Err(reader::Error::Unavailable(why)) => Err(format!("unavailable {why}")),
            Err(error) => Err(reader_words(&error).to_owned()),
        }
    }

    fn sources() -> Result<Vec<String>, String> {
        match reader::sources() {
            Ok(sources) => Ok(sources.into_iter().map(|source| format!("{} {}", source.kind, source.name)).collect()),
            Err(error) => Err(reader_words(&error).to_owned()),
        }
    }

    fn received() -> Vec<String> {
        RECEIVED.with_borrow_mut(std::mem::take)
    }
}

export!(Events);
