//! The objects of the S3 server, and the requests that it handles. One lock guards all of them: a condition and its put
//! are one step.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::faults::{Fault, Held, Trouble};

/// The maximum number of keys in one response to a listing, as in Amazon's.
const PAGE: usize = 1000;

/// A request that a client has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, `PUT`, `DELETE`, `COPY` or `LIST`.
    pub verb: &'static str,
    /// The key, or the prefix that is listed.
    pub key: String,
}

/// All buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, BucketState>,
    uploads: BTreeMap<String, Upload>,
    last_upload: usize,
}

#[derive(Debug, Default)]
struct BucketState {
    objects: BTreeMap<String, Object>,
    requests: Vec<Request>,
    trouble: Trouble,
    ignores_conditions: bool,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    tag: String,
    modified: SystemTime,
}

#[derive(Debug, Default)]
struct Upload {
    parts: BTreeMap<i32, Bytes>,
}

impl Object {
    fn new(bytes: Bytes) -> Self {
        Self { tag: hex::encode(Md5::digest(&bytes)), bytes, modified: SystemTime::now() }
    }

    fn tag(&self) -> ETag {
        ETag::Strong(self.tag.clone())
    }
}

fn error(code: S3ErrorCode) -> S3Error {
    S3Error::new(code)
}

fn number<T: TryFrom<usize>>(value: usize) -> Option<T> {
    T::try_from(value).ok()
}

impl Objects {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn create_bucket(&self, name: &str) {
        self.lock().buckets.insert(name.to_owned(), BucketState::default());
    }

    pub fn drop_bucket(&self, name: &str) {
        self.lock().buckets.remove(name);
    }

    pub fn snapshot(&self, bucket: &str) -> BTreeMap<String, Bytes> {
        let state = self.lock();
        let objects = state.buckets.get(bucket).map(|bucket| &bucket.objects);
        objects.into_iter().flatten().map(|(key, object)| (key.clone(), object.bytes.clone())).collect()
    }

    pub fn put(&self, bucket: &str, key: &str, bytes: Bytes) {
        if let Some(bucket) = self.lock().buckets.get_mut(bucket) {
            bucket.objects.insert(key.to_owned(), Object::new(bytes));
        }
    }

    pub fn remove(&self, bucket: &str, key: &str) {
        if let Some(bucket) = self.lock().buckets.get_mut(bucket) {
            bucket.objects.remove(key);
        }
    }

    pub fn requests(&self, bucket: &str) -> Vec<Request> {
        self.lock().buckets.get_mut(bucket).map(|bucket| std::mem::take(&mut bucket.requests)).unwrap_or_default()
    }

    /// Runs `work` on the faults of a bucket; `None` if there is no such bucket.
    pub fn with_trouble<T>(&self, bucket: &str, work: impl FnOnce(&mut Trouble) -> T) -> Option<T> {
        self.lock().buckets.get_mut(bucket).map(|bucket| work(&mut bucket.trouble))
    }

    pub fn ignore_conditions(&self, bucket: &str) {
        if let Some(bucket) = self.lock().buckets.get_mut(bucket) {
            bucket.ignores_conditions = true;
        }
    }

    /// Admits a request when no test holds it. Returns the fault that occurs after it is done.
    async fn admit(&self, bucket: &str, verb: &'static str, key: &str) -> S3Result<Option<Fault>> {
        let held: Option<Held> = self.with_trouble(bucket, |trouble| trouble.hold_of(verb, key)).flatten();
        if let Some(held) = held {
            held.hold().await;
        }
        let fault = self.with_trouble(bucket, |trouble| trouble.fault_of(verb, key)).flatten();
        if let Some(fault) = fault {
            fault.before().await?;
        }
        Ok(fault)
    }
}

/// Ends a completed request whose response is not sent.
fn answered(fault: Option<Fault>) -> S3Result<()> {
    fault.map_or(Ok(()), Fault::after)
}

impl State {
    /// Returns the bucket of a request, and records the request.
    fn asked(&mut self, bucket: &str, verb: &'static str, key: &str) -> S3Result<&mut BucketState> {
        let bucket = self.buckets.get_mut(bucket).ok_or_else(|| error(S3ErrorCode::NoSuchBucket))?;
        bucket.requests.push(Request { verb, key: key.to_owned() });
        Ok(bucket)
    }
}

impl BucketState {
    fn object(&self, key: &str) -> S3Result<Object> {
        self.objects.get(key).cloned().ok_or_else(|| error(S3ErrorCode::NoSuchKey))
    }

    /// Stores an object, if its conditions are met.
    fn store(
        &mut self,
        key: String,
        bytes: Bytes,
        if_match: Option<&ETagCondition>,
        if_none_match: Option<&ETagCondition>,
    ) -> S3Result<Object> {
        let known = self.objects.get(&key);
        let holds = |condition: &ETagCondition| known.is_some_and(|known| meets(condition, &known.tag()));
        let is_refused = if_match.is_some_and(|condition| !holds(condition)) || if_none_match.is_some_and(holds);
        if is_refused && !self.ignores_conditions {
            return Err(error(S3ErrorCode::PreconditionFailed));
        }
        let object = Object::new(bytes);
        self.objects.insert(key, object.clone());
        Ok(object)
    }
}

fn meets(condition: &ETagCondition, tag: &ETag) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == tag.value(),
    }
}

async fn collected(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let bytes = body.try_fold(BytesMut::new(), |mut bytes, chunk| async move {
        bytes.extend_from_slice(&chunk);
        Ok(bytes)
    });
    Ok(bytes.await.map_err(|_| error(S3ErrorCode::IncompleteBody))?.freeze())
}

/// Returns the bytes of an object, or a part of them before the connection breaks.
fn body(bytes: Bytes, is_cut: bool) -> StreamingBlob {
    let half = bytes.slice(..bytes.len() / 2);
    let parts = if is_cut { vec![Ok(half), Err(std::io::Error::other("cut short"))] } else { vec![Ok(bytes)] };
    StreamingBlob::wrap(futures::stream::iter(parts))
}

#[async_trait]
impl S3 for Objects {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let PutObjectInput { bucket, key, body, if_match, if_none_match, .. } = request.input;
        let bytes = collected(body).await?;
        let fault = self.admit(&bucket, "PUT", &key).await?;
        let mut state = self.lock();
        let bucket = state.asked(&bucket, "PUT", &key)?;
        let object = bucket.store(key, bytes, if_match.as_ref(), if_none_match.as_ref())?;
        answered(fault)?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(object.tag()), ..PutObjectOutput::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let fault = self.admit(&input.bucket, "GET", &input.key).await?;
        answered(fault)?;
        let object = self.lock().asked(&input.bucket, "GET", &input.key)?.object(&input.key)?;
        if input.if_match.is_some_and(|condition| !meets(&condition, &object.tag())) {
            return Err(error(S3ErrorCode::PreconditionFailed));
        }
        let (mut bytes, mut content_range) = (object.bytes.clone(), None);
        if let Some(range) = input.range {
            let length = object.bytes.len();
            let part = range.check(length as u64).map_err(|_| error(S3ErrorCode::InvalidRange))?;
            content_range = Some(format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1)));
            let within = |at: u64| usize::try_from(at).unwrap_or(length).min(length);
            bytes = object.bytes.slice(within(part.start)..within(part.end));
        }
        Ok(S3Response::new(GetObjectOutput {
            content_length: number(bytes.len()),
            content_range,
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified.into()),
            body: Some(body(bytes, fault == Some(Fault::CutShort))),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        answered(self.admit(&input.bucket, "HEAD", &input.key).await?)?;
        let object = self.lock().asked(&input.bucket, "HEAD", &input.key)?.object(&input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: number(object.bytes.len()),
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified.into()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let fault = self.admit(&input.bucket, "DELETE", &input.key).await?;
        self.lock().asked(&input.bucket, "DELETE", &input.key)?.objects.remove(&input.key);
        answered(fault)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let mut faults = Vec::new();
        for object in &input.delete.objects {
            faults.push(self.admit(&input.bucket, "DELETE", &object.key).await?);
        }
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            self.lock().asked(&input.bucket, "DELETE", &object.key)?.objects.remove(&object.key);
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        faults.into_iter().try_for_each(answered)?;
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..DeleteObjectsOutput::default() }))
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(error(S3ErrorCode::NotImplemented));
        };
        let mut state = self.lock();
        let source = state.asked(bucket, "COPY", key)?.object(key)?;
        let object = state.asked(&input.bucket, "PUT", &input.key)?.store(input.key, source.bytes, None, None)?;
        let result = CopyObjectResult {
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified.into()),
            ..CopyObjectResult::default()
        };
        Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        let listing = Listing {
            delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
            after: input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default(),
            page: input.max_keys.and_then(|keys| usize::try_from(keys).ok()).map_or(PAGE, |keys| keys.min(PAGE)),
            prefix: prefix.clone(),
        };
        answered(self.admit(&input.bucket, "LIST", &prefix).await?)?;
        let found = listing.of(&self.lock().asked(&input.bucket, "LIST", &prefix)?.objects);
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            delimiter: input.delimiter,
            key_count: number(found.objects.len() + found.prefixes.len()),
            max_keys: number(listing.page),
            is_truncated: Some(found.next.is_some()),
            next_continuation_token: found.next,
            contents: Some(found.objects),
            common_prefixes: Some(found.prefixes),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.lock().asked(&request.input.bucket, "HEAD", "")?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let CreateMultipartUploadInput { bucket, key, .. } = request.input;
        let mut state = self.lock();
        state.asked(&bucket, "PUT", &key)?;
        state.last_upload += 1;
        let id = format!("upload-{}", state.last_upload);
        state.uploads.insert(id.clone(), Upload::default());
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let bytes = collected(input.body).await?;
        let tag = Object::new(bytes.clone()).tag();
        let mut state = self.lock();
        let upload = state.uploads.get_mut(&input.upload_id).ok_or_else(|| error(S3ErrorCode::NoSuchUpload))?;
        upload.parts.insert(input.part_number, bytes);
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(tag), ..UploadPartOutput::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let fault = self.admit(&input.bucket, "PUT", &input.key).await?;
        let mut state = self.lock();
        let upload = state.uploads.get(&input.upload_id).ok_or_else(|| error(S3ErrorCode::NoSuchUpload))?;
        let mut bytes = BytesMut::new();
        for part in input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default() {
            let number = part.part_number.unwrap_or_default();
            bytes.extend_from_slice(upload.parts.get(&number).ok_or_else(|| error(S3ErrorCode::InvalidPart))?);
        }
        let (if_match, if_none_match) = (input.if_match.as_ref(), input.if_none_match.as_ref());
        let bucket = state.asked(&input.bucket, "PUT", &input.key)?;
        let object = bucket.store(input.key.clone(), bytes.freeze(), if_match, if_none_match)?;
        state.uploads.remove(&input.upload_id);
        answered(fault)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(object.tag()),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.lock().uploads.remove(&request.input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// The parameters of a listing.
struct Listing {
    prefix: String,
    delimiter: Option<String>,
    /// Only keys after this one.
    after: String,
    page: usize,
}

#[derive(Default)]
struct Found {
    objects: Vec<s3s::dto::Object>,
    prefixes: Vec<CommonPrefix>,
    /// The position of the next page.
    next: Option<String>,
}

impl Listing {
    fn of(&self, objects: &BTreeMap<String, Object>) -> Found {
        let mut found = Found::default();
        let mut last = String::new();
        let start = if self.after > self.prefix { Bound::Excluded(&self.after) } else { Bound::Included(&self.prefix) };
        for (key, object) in objects.range::<String, _>((start, Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(&self.prefix) else { break };
            let end =
                self.delimiter.as_ref().and_then(|delimiter| Some(rest.find(delimiter.as_str())? + delimiter.len()));
            let name = end.map_or(key.as_str(), |end| &key[..self.prefix.len() + end]);
            // All keys with this prefix are represented by one entry.
            if end.is_some() && (name == last || name == self.after) {
                continue;
            }
            if found.objects.len() + found.prefixes.len() == self.page {
                found.next = Some(last);
                return found;
            }
            name.clone_into(&mut last);
            match end {
                Some(_) => found.prefixes.push(CommonPrefix { prefix: Some(name.to_owned()) }),
                None => found.objects.push(s3s::dto::Object {
                    key: Some(key.clone()),
                    size: number(object.bytes.len()),
                    e_tag: Some(object.tag()),
                    last_modified: Some(object.modified.into()),
                    ..Default::default()
                }),
            }
        }
        found
    }
}
