//! A connection to the scheduler that keeps what passes, and may change it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What clients have sent.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<u8>>>);

impl Seen {
    pub fn contains(&self, text: &str) -> bool {
        self.0.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// Starts a proxy that replaces a text of clients, unless it is empty, by another of the same length; returns its host and port.
pub fn start(target: &str, from: &'static str, to: &'static str) -> (String, Seen) {
    assert_eq!(from.len(), to.len());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen, target) = (listener.local_addr().unwrap(), Seen::default(), target.to_owned());
    let kept = seen.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else { continue };
            let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let seen = kept.clone();
            std::thread::spawn(move || pass(back, client, |_| {}));
            std::thread::spawn(move || {
                pass(forth, server, |bytes| {
                    seen.0.lock().unwrap().extend_from_slice(bytes);
                    replace(bytes, from.as_bytes(), to.as_bytes());
                });
            });
        }
    });
    (address.to_string(), seen)
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut change: impl FnMut(&mut [u8])) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        change(&mut buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    if from.is_empty() {
        return;
    }
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}
