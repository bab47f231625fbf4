//! Turns panics into errors: of a decoder that meets a damaged file, of a dependency with a defect.
//!
//! Stored data is input, and the decoders of dependencies panic on some of it. Inside a fence such a panic becomes an
//! error, and the panic hook prints nothing. A backend puts a fence around all code that decodes bytes which this
//! process did not write:
//!
//! ```
//! use metaxy_core::{Error, fence};
//!
//! let bytes: &[u8] = &[1, 2];
//! let decoded = fence::decode("videos", || Ok(bytes[7]));
//! assert!(matches!(decoded, Err(Error::Corrupt { table, .. }) if table == "videos"));
//! ```
//!
//! [`decode`] and [`decode_async`] turn a panic into [`Error::Corrupt`]; [`catch`] and [`catch_async`] return the
//! [`Panic`] itself, for another error. A fence applies to its own thread, not to threads or tasks that the code inside
//! starts. Work that [`blocking`](crate::blocking) runs is always fenced.
//!
//! A fence cannot stop an abort: a failed allocation ends the process. Lengths that are read from a file are therefore
//! compared with the size of the file before anything is allocated.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

use crate::error::{Error, Result};

thread_local! {
    /// The number of fences around the running code.
    static FENCES: Cell<usize> = const { Cell::new(0) };
    /// The location of the last panic inside a fence.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that a fence has caught.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .location.as_ref().map(|location| format!(" (at {location})")).unwrap_or_default())]
pub struct Panic {
    /// The message of the panic.
    pub message: String,
    /// The source line of the panic, if it is known.
    pub location: Option<String>,
}

/// Runs code that may panic.
///
/// # Errors
/// The panic.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    silence();
    let inside = Inside::enter();
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
    drop(inside);
    outcome.map_err(|payload| Panic::of(payload.as_ref()))
}

/// Runs a future that may panic when it is polled.
///
/// # Errors
/// The panic.
pub async fn catch_async<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| match catch(|| work.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Decodes stored data of a table (or of a file, if its name says more). A panic means that the data is damaged.
///
/// # Errors
/// The errors of the work, and [`Error::Corrupt`] if it panics.
pub fn decode<T>(table: impl fmt::Display, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch(work).unwrap_or_else(|panic| Err(panic.damaged(table)))
}

/// Decodes stored data in a future, as [`decode`] does.
///
/// # Errors
/// The errors of the work, and [`Error::Corrupt`] if it panics.
pub async fn decode_async<T>(table: impl fmt::Display, work: impl Future<Output = Result<T>>) -> Result<T> {
    catch_async(work).await.unwrap_or_else(|panic| Err(panic.damaged(table)))
}

/// Puts a fence around everything that the current thread runs from now on. It is for the threads of a runtime whose
/// tasks decode stored data: their panics are errors of those tasks, and nothing is printed.
pub fn enclose_thread() {
    silence();
    FENCES.set(FENCES.get() + 1);
}

impl Panic {
    fn of(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self { message: message.unwrap_or_else(|| "a panic without a message".to_owned()), location: LOCATION.take() }
    }

    /// Returns the error of stored data on which a decoder has panicked.
    pub fn damaged(self, table: impl fmt::Display) -> Error {
        Error::corrupt(table, format!("its decoder stopped: {self}")).with_source(self)
    }
}

/// Converts a panic of work that decodes nothing: a defect.
impl From<Panic> for Error {
    fn from(panic: Panic) -> Self {
        Self::Task(panic.to_string())
    }
}

/// Counts a fence while it is active.
struct Inside;

impl Inside {
    fn enter() -> Self {
        FENCES.set(FENCES.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        FENCES.set(FENCES.get() - 1);
    }
}

/// Silences the panic hook inside fences. The current hook handles all other panics.
fn silence() {
    static ONCE: Once = Once::new();
    // The hook cannot be set by a thread that panics.
    if ONCE.is_completed() || std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| match is_fenced() {
            true => remember(panic.location()),
            false => previous(panic),
        }));
    });
}

fn is_fenced() -> bool {
    FENCES.try_with(|fences| fences.get() > 0).unwrap_or(false)
}

fn remember(location: Option<&Location<'_>>) {
    let location = location.map(|location| format!("{}:{}", location.file(), location.line()));
    // A thread that is ending has no thread-local storage any more.
    let _ = LOCATION.try_with(|last| last.replace(location));
}
