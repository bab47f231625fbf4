//! What goes wrong with requests: where a test says so, or at random.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use s3s::{S3Error, S3ErrorCode, S3Result};
use tokio::sync::Notify;

/// An answer with this header does not arrive: the connection is closed in its place.
pub(super) const HANG_UP: &str = "x-hang-up";

/// Of so many random faults one is a [`Fault::Silence`], which takes the time until a client gives up.
const ONE_SILENCE_IN: usize = 200;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, but the answer is that of a server that has failed.
    LostAnswer,
    /// It is done, but the connection is closed without an answer.
    LostConnection,
    /// Of what it asks for (`GET`) a half comes; then the connection is closed.
    CutShort,
    /// It is not done, and the connection is closed without an answer.
    HangUp,
    /// It is not done, as another one of this key is under way.
    Busy,
    /// It is not done: this user may not do it (403).
    Denied,
    /// It is not done: the server has failed (500).
    Broken,
    /// It is not done: the server is too busy (503).
    Unavailable,
    /// It is not done: no space is left (507).
    Full,
    /// It is not done, and there is no answer.
    Silence,
}

impl Fault {
    /// Those that may strike a request of a verb.
    fn of_verb(verb: &str) -> &'static [Self] {
        use Fault::{Broken, Busy, CutShort, Denied, Full, HangUp, LostAnswer, LostConnection, Unavailable};
        match verb {
            "PUT" => &[LostAnswer, LostConnection, HangUp, Busy, Denied, Broken, Unavailable, Full],
            "DELETE" => &[LostAnswer, LostConnection, HangUp, Denied, Broken, Unavailable],
            "GET" => &[CutShort, HangUp, Denied, Broken, Unavailable],
            _ => &[HangUp, Denied, Broken, Unavailable],
        }
    }

    /// The answer, where the request is not done.
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

    /// The answer, where the request is done.
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

/// A request that waits until a test lets it go on.
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

    /// Lets the request go on.
    pub fn release(&self) {
        self.released.notify_one();
    }

    pub(super) async fn hold(&self) {
        self.arrived.notify_one();
        self.released.notified().await;
    }
}

/// What requests to a bucket meet.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    faults: VecDeque<Trap<Fault>>,
    holds: VecDeque<Trap<Held>>,
    random: Option<RandomFaults>,
    struck: usize,
}

/// Something that happens to one request.
#[derive(Debug)]
struct Trap<T> {
    verb: &'static str,
    ending: String,
    what: T,
}

/// Faults that strike one request in so many, on average.
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

    /// How many requests have met a fault.
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

/// Takes out the first trap for a request.
fn sprung<T>(traps: &mut VecDeque<Trap<T>>, verb: &str, key: &str) -> Option<T> {
    let index = traps.iter().position(|trap| trap.verb == verb && key.ends_with(trap.ending.as_str()))?;
    traps.remove(index).map(|trap| trap.what)
}
