//! An agent that works with files as it is told to, and says how that failed.

wit_bindgen::generate!({
    path: "wit",
    world: "files-world",
    generate_all,
});

use exports::fleet::files_agent::files::Guest;
use wasi::filesystem::preopens::get_directories;
use wasi::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags, filesystem_error_code};
use wasi::io::streams::StreamError;

const BLOCK: usize = 4096;

struct Agent;

impl Guest for Agent {
    fn directories() -> Vec<String> {
        get_directories().into_iter().map(|(_, path)| path).collect()
    }

    fn write(path: String, text: String) -> Result<(), String> {
        let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
        let file = open(&path, OpenFlags::CREATE | OpenFlags::TRUNCATE, flags)?;
        let mut written = 0;
        while written < text.len() {
            written += file.write(&text.as_bytes()[written..], written as u64).map_err(named)? as usize;
        }
        file.sync().map_err(named)
    }

    fn append(path: String, text: String) -> Result<(), String> {
        let file = open(&path, OpenFlags::CREATE, DescriptorFlags::WRITE)?;
        let stream = file.append_via_stream().map_err(named)?;
        for block in text.as_bytes().chunks(BLOCK) {
            stream.blocking_write_and_flush(block).map_err(failed)?;
        }
        Ok(())
    }

    fn read(path: String) -> Result<String, String> {
        let file = open(&path, OpenFlags::empty(), DescriptorFlags::READ)?;
        let stream = file.read_via_stream(0).map_err(named)?;
        let mut text = Vec::new();
        loop {
            match stream.blocking_read(BLOCK as u64) {
                Ok(block) => text.extend(block),
                Err(StreamError::Closed) => return String::from_utf8(text).map_err(|error| error.to_string()),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn names(path: String) -> Result<Vec<String>, String> {
        let folder = open(&path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
        let listing = folder.read_directory().map_err(named)?;
        let mut names = Vec::new();
        while let Some(entry) = listing.read_directory_entry().map_err(named)? {
            names.push(entry.name);
        }
        names.sort();
        Ok(names)
    }

    fn make(path: String) -> Result<(), String> {
        let (folder, rest) = find(&path)?;
        folder.create_directory_at(rest).map_err(named)
    }

    fn remove(path: String) -> Result<(), String> {
        let (folder, rest) = find(&path)?;
        folder.unlink_file_at(rest).map_err(named)
    }

    fn fill(path: String, size: u64) -> (u64, String) {
        let file = match open(&path, OpenFlags::CREATE, DescriptorFlags::WRITE) {
            Ok(file) => file,
            Err(error) => return (0, error),
        };
        let mut written = 0;
        while written < size {
            let block = (size - written).min(BLOCK as u64) as usize;
            match file.write(&[b'x'; BLOCK][..block], written) {
                Ok(taken) => written += taken,
                Err(code) => return (written, named(code)),
            }
        }
        (written, String::new())
    }
}

/// The directory that leads to a path, and the rest of the path.
fn find(path: &str) -> Result<(Descriptor, &str), String> {
    for (folder, start) in get_directories() {
        match path.strip_prefix(start.as_str()) {
            Some("") => return Ok((folder, ".")),
            Some(rest) if rest.starts_with('/') => return Ok((folder, &rest[1..])),
            _ => {}
        }
    }
    Err("no directory".to_string())
}

fn open(path: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, String> {
    let (folder, rest) = find(path)?;
    folder.open_at(PathFlags::SYMLINK_FOLLOW, rest, how, flags).map_err(named)
}

fn named(code: ErrorCode) -> String {
    code.name().to_string()
}

fn failed(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".to_string(),
        StreamError::LastOperationFailed(error) => match filesystem_error_code(&error) {
            Some(code) => named(code),
            None => error.to_debug_string(),
        },
    }
}

export!(Agent);
