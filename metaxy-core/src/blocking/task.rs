//! A future that the threads of the pool poll.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use futures::future::BoxFuture;
use futures::task::{ArcWake, waker_ref};
use tokio::runtime::Handle;

use crate::error::Result;

use super::pool::Pool;

pub(super) struct Task {
    /// The future, until it is done. Locked while it is polled.
    work: Mutex<Option<BoxFuture<'static, ()>>>,
    /// Whether a poll is in the queue already.
    is_queued: AtomicBool,
    runtime: Option<Handle>,
}

impl Task {
    pub(super) fn start(work: BoxFuture<'static, ()>) -> Result<()> {
        let runtime = Handle::try_current().ok();
        Arc::new(Self { work: Mutex::new(Some(work)), is_queued: AtomicBool::new(false), runtime }).queue()
    }

    /// Schedules a poll; several calls before that poll schedule only one.
    fn queue(self: Arc<Self>) -> Result<()> {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        Pool::shared().submit(Box::new(move || self.poll()))
    }

    fn poll(self: Arc<Self>) {
        let _context = self.runtime.as_ref().map(Handle::enter);
        let waker = waker_ref(&self);
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        // A wake from here on schedules another poll.
        self.is_queued.store(false, Ordering::Release);
        let done = work.as_mut().is_some_and(|work| work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        if done {
            *work = None;
        }
    }
}

impl ArcWake for Task {
    fn wake_by_ref(task: &Arc<Self>) {
        if task.clone().queue().is_err() {
            // The future is dropped, and with it the channel of its result: its caller gets an error.
            *task.work.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
