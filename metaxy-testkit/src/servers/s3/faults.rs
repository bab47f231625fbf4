//! Faults of requests: given by a test, or random.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use s3s::{S3Error, S3ErrorCode, S3Result};
use tokio::sync::Notify;

/// A response with this header is not sent: the connection is closed instead.
pub(super) const HANG_UP: &str = "x-hang-up";

/// One of this number of random faults is a [`Fault::Silence`], which lasts until a client gives up.
const ONE_SILENCE_IN: usize = 200;

/// A fault of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, but the response is that of a server that has failed.
    LostAnswer,
    /// It is done, but the connection is closed without a response.
    LostConnection,
    /// Half of the requested bytes (`GET`) are sent; then the connection is closed.
    CutShort,
    /// It is not done, and the connection is closed without a response.
    HangUp,
    /// It is not done, because another request for the key is running.
    Busy,
    /// It is not done, because this user is not allowed to (403).
    Denied,
    /// It is not done, because the server has failed (500).
    Broken,
    /// It is not done, because the server is too busy (503).
    Unavailable,
    /// It is not done, because no space is left (507).
    Full,
    /// It is not done, and there is no response.
    Silence,
}

impl Fault {
    /// Returns the faults of requests with a verb.
    fn of_verb(verb: &str) -> &'static [Self] {
        use Fault::{Broken, Busy, CutShort, Denied, Full, HangUp, LostAnswer, LostConnection, Unavailable};
        match verb {
            "PUT" => &[LostAnswer, LostConnection, HangUp, Busy, Denied, Broken, Unavailable, Full],
            "DELETE" => &[LostAnswer, LostConnection, HangUp, Denied, Broken, Unavailable],
            "GET" => &[CutShort, HangUp, Denied, Broken, Unavailable],
            _ => &[HangUp, Denied, Broken, Unavailable],
        }
    }

    /// Returns the response, if the request is not done.
    pub(super) async fn before(self) -> S3Result<()> {
        Err(match self {
            Self::LostAnswer | Self::LostConnection | Self::CutShort => return Ok(()),
            Self::HangUp => hang_up(),
            Self::Busy => S3ErrorCode::ConditionalRequestConflict.into(),
            Self::Denied => S3ErrorCode::AccessDenied.into(),
            Self::Broken => S3ErrorCode::InternalError.into(),
            Self::Unavailable => S3ErrorCode::SlowDown.into(),
            Self::Full => {
                let mut full = S3Error::new(S3ErrorCode::Custom("InsufficientStorage".into()));
                full.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
                full
            }
            Self::Silence => std::future::pending().await,
        })
    }

    /// Returns the response, if the request is done.
    pub(super) fn after(self) -> S3Result<()> {
        match self {
            Self::LostAnswer => Err(S3ErrorCode::InternalError.into()),
            Self::LostConnection => Err(hang_up()),
            _ => Ok(()),
        }
    }
}

fn hang_up() -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::InternalError);
    error.set_headers(HeaderMap::from_iter([(HeaderName::from_static(HANG_UP), HeaderValue::from_static("now"))]));
    error
}

/// A request that is held until a test releases it.
#[derive(Clone, Debug, Default)]
pub struct Held {
    arrived: Arc<Notify>,
    released: Arc<Notify>,
}

impl Held {
    /// Waits until a client has made the request.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Lets the request continue.
    pub fn release(&self) {
        self.released.notify_one();
    }

    pub(super) async fn hold(&self) {
        self.arrived.notify_one();
        self.released.notified().await;
    }
}

/// The faults of requests to a bucket.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    faults: VecDeque<Trap<Fault>>,
    holds: VecDeque<Trap<Held>>,
    random: Option<RandomFaults>,
    struck: usize,
}

/// A fault or a hold of one request.
#[derive(Debug)]
struct Trap<T> {
    verb: &'static str,
    ending: String,
    what: T,
}

/// Faults of one request in a number, on average.
#[derive(Debug)]
struct RandomFaults {
    random: Rng,
    one_in: usize,
}

impl Trouble {
    pub fn break_requests(&mut self, verb: &'static str, ending: &str, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults.into_iter().map(|what| Trap { verb, ending: ending.to_owned(), what }));
    }

    pub fn break_at_random(&mut self, seed: u64, one_in: usize) {
        self.random = Some(RandomFaults { random: Rng::with_seed(seed), one_in });
    }

    pub fn mend(&mut self) {
        self.faults.clear();
        self.random = None;
    }

    /// Returns the number of requests with a fault.
    pub fn struck(&self) -> usize {
        self.struck
    }

    pub fn hold(&mut self, verb: &'static str, ending: &str) -> Held {
        let held = Held::default();
        self.holds.push_back(Trap { verb, ending: ending.to_owned(), what: held.clone() });
        held
    }

    pub fn hold_of(&mut self, verb: &str, key: &str) -> Option<Held> {
        sprung(&mut self.holds, verb, key)
    }

    pub fn fault_of(&mut self, verb: &str, key: &str) -> Option<Fault> {
        let fault = sprung(&mut self.faults, verb, key).or_else(|| self.random.as_mut()?.strike(verb));
        self.struck += usize::from(fault.is_some());
        fault
    }
}

impl RandomFaults {
    fn strike(&mut self, verb: &str) -> Option<Fault> {
        if self.random.usize(..self.one_in) > 0 {
            return None;
        }
        match self.random.usize(..ONE_SILENCE_IN) {
            0 => Some(Fault::Silence),
            _ => self.random.choice(Fault::of_verb(verb)).copied(),
        }
    }
}

/// Removes and returns the first trap for a request.
fn sprung<T>(traps: &mut VecDeque<Trap<T>>, verb: &str, key: &str) -> Option<T> {
    let index = traps.iter().position(|trap| trap.verb == verb && key.ends_with(trap.ending.as_str()))?;
    traps.remove(index).map(|trap| trap.what)
}
