//! The workers of a scan: tasks that take its pieces, decode them and send the rows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use futures::StreamExt;
use metaxy_core::backend::BatchStream;
use metaxy_core::error::Result;
use metaxy_core::{blocking, fence};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;

use super::job::Job;
use super::piece::{Piece, Reading};

/// The number of concurrent requests to a remote store.
pub(super) const REMOTE_WORKERS: usize = 16;
/// The number of decoded batches that may wait, for each worker.
const WAITING: usize = 2;

type Pieces = Arc<Mutex<VecDeque<Piece>>>;
type Sender = mpsc::Sender<Result<RecordBatch>>;

/// The workers of one scan.
pub(super) struct Workers {
    batches: mpsc::Receiver<Result<RecordBatch>>,
    handles: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the workers; their batches are returned in the order in which they are decoded.
    pub(super) fn start(job: &Arc<Job>, pieces: VecDeque<Piece>) -> BatchStream {
        let most = if job.table.directory.is_some() { blocking::cores() } else { REMOTE_WORKERS };
        let count = most.min(pieces.len());
        let (sender, batches) = mpsc::channel((count * WAITING).max(1));
        let pieces = Arc::new(Mutex::new(pieces));
        let handles = (0..count).map(|_| tokio::spawn(work(job.clone(), pieces.clone(), sender.clone()))).collect();
        let workers = Self { batches, handles };
        futures::stream::unfold(workers, |mut workers| async move {
            let next = workers.next().await?;
            Some((next, workers))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(batch);
        }
        // A worker that has panicked must not look like one that is done.
        while let Some(handle) = self.handles.pop() {
            if let Err(error) = handle.await {
                return Some(Err(error.into()));
            }
        }
        None
    }
}

/// Reads pieces until none is left or the stream is dropped. Decoding takes a thread, which is released while decoded
/// batches wait, so that any number of scans may wait.
async fn work(job: Arc<Job>, pieces: Pieces, sender: Sender) {
    let mut reading = None;
    loop {
        let step = blocking::drive({
            let (job, pieces, sender) = (job.clone(), pieces.clone(), sender.clone());
            async move { decode(&job, &pieces, &sender, reading).await }
        });
        match step.await {
            Ok(None) => return,
            Ok(Some((batch, rest))) => {
                if sender.send(Ok(batch)).await.is_err() {
                    return;
                }
                reading = Some(rest);
            }
            Err(error) => {
                lock(&pieces).clear();
                // This fails if the stream was dropped, which is not an error.
                let _ = sender.send(Err(error)).await;
                return;
            }
        }
    }
}

fn lock(pieces: &Mutex<VecDeque<Piece>>) -> MutexGuard<'_, VecDeque<Piece>> {
    pieces.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Decodes until nothing is left or the channel is full, and then returns the batch that did not fit and the position
/// to continue from.
async fn decode(
    job: &Job,
    pieces: &Mutex<VecDeque<Piece>>,
    sender: &Sender,
    mut reading: Option<Reading>,
) -> Result<Option<(RecordBatch, Reading)>> {
    loop {
        let mut current = match reading.take() {
            Some(current) => current,
            None => {
                let Some(piece) = lock(pieces).pop_front() else { return Ok(None) };
                let file = piece.file().clone();
                let opened = fence::catch_async(Reading::open(job, piece)).await;
                let Some(opened) = opened.unwrap_or_else(|panic| Err(job.corrupt(&file, panic)))? else {
                    continue;
                };
                opened
            }
        };
        match current.next(job)? {
            None => continue,
            Some(batch) if batch.num_rows() == 0 => {}
            Some(batch) => match sender.try_send(Ok(batch)) {
                Ok(()) => {}
                Err(TrySendError::Full(Ok(batch))) => return Ok(Some((batch, current))),
                Err(_) => return Ok(None),
            },
        }
        reading = Some(current);
    }
}
