//! The place that objects are written to: a folder, or a bucket that speaks S3. Relies on `object_store`: an object is
//! there whole or not at all, and durable once `put` has returned.

use std::{io::Write, path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    ObjectStore, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    buffered::BufWriter,
    local::LocalFileSystem,
    path::Path,
};
use tokio::io::AsyncWriteExt;

use crate::BackupError;

/// Requests are tried again for a short while: whoever asked knows better what to do next.
const RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes in a part of a large object.
const PART: usize = 8 << 20;
/// zstd's own default: a third to a quarter of the size at some 300 MB/s.
pub(crate) const COMPRESSION: i32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{target}: {source}")]
    Access { target: String, source: object_store::Error },
    #[error("{target}: {source}")]
    Folder { target: String, source: std::io::Error },
    #[error("{target}: expected a folder, or s3://bucket/prefix")]
    Malformed { target: String },
    #[error("{target}: there is no such folder")]
    NoFolder { target: String },
}

#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    target: String,
}

impl Store {
    /// `s3://bucket/prefix` (endpoint, region and credentials from the usual variables `AWS_…`), or a folder, which is
    /// made.
    pub fn create(target: &str) -> Result<Self, StoreError> {
        if !target.contains("://") {
            std::fs::create_dir_all(target)
                .map_err(|source| StoreError::Folder { target: target.to_owned(), source })?;
        }
        Self::open(target)
    }

    /// As [`Store::create`], of a folder that is there.
    pub fn open(target: &str) -> Result<Self, StoreError> {
        let access = |source| StoreError::Access { target: target.to_owned(), source };
        let malformed = || StoreError::Malformed { target: target.to_owned() };
        let Some((scheme, rest)) = target.split_once("://") else {
            if !path::Path::new(target).is_dir() {
                return Err(StoreError::NoFolder { target: target.to_owned() });
            }
            let folder = LocalFileSystem::new_with_prefix(target).map_err(access)?.with_fsync(true);
            return Ok(Self { objects: Arc::new(folder), prefix: Path::ROOT, target: target.to_owned() });
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if scheme != "s3" || bucket.is_empty() {
            return Err(malformed());
        }
        let prefix = Path::parse(prefix).map_err(|_| malformed())?;
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        // Whoever names an endpoint without TLS means it.
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
        let builder = builder.with_allow_http(endpoint.starts_with("http://"));
        let objects = Arc::new(builder.build().map_err(access)?);
        Ok(Self { objects, prefix, target: target.to_owned() })
    }

    /// Any other place that holds objects; `target` is how it is named.
    pub fn over(objects: Arc<dyn ObjectStore>, target: &str) -> Self {
        Self { objects, prefix: Path::ROOT, target: target.to_owned() }
    }

    /// A folder of this one.
    #[must_use]
    pub fn folder(&self, name: &str) -> Self {
        let target = format!("{}/{name}", self.target.trim_end_matches('/'));
        Self { objects: Arc::clone(&self.objects), prefix: self.path(name), target }
    }

    /// As it was named.
    pub fn target(&self) -> &str {
        &self.target
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), Path::join)
    }

    fn failed(&self, name: &str, source: object_store::Error) -> StoreError {
        StoreError::Access { target: format!("{}/{name}", self.target.trim_end_matches('/')), source }
    }

    pub async fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let put = self.objects.put(&self.path(name), bytes.into().into()).await;
        put.map(drop).map_err(|error| self.failed(name, error))
    }

    /// `None` if there is no such object.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let read = async { self.objects.get(&self.path(name)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// The names of the objects in a folder (`""`: right here) in order.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let prefix = if folder.is_empty() { self.prefix.clone() } else { self.path(folder) };
        let mut names: Vec<String> = self
            .objects
            .list(Some(&prefix))
            .try_filter_map(async |object| Ok(object.location.filename().map(str::to_owned)))
            .try_collect()
            .await
            .map_err(|error| self.failed(folder, error))?;
        names.sort_unstable();
        Ok(names)
    }

    /// What is not there is no error.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// Compresses what comes, however much it is.
    pub(crate) async fn put_compressed<E>(
        &self,
        name: &str,
        chunks: BoxStream<'_, Result<Bytes, E>>,
    ) -> Result<(), BackupError>
    where
        BackupError: From<E>,
    {
        let mut object = BufWriter::with_capacity(Arc::clone(&self.objects), self.path(name), PART);
        if let Err(error) = self.compress(name, chunks, &mut object).await {
            // What was uploaded of it is of no use; that it cannot be cleared away is no news.
            let _ = object.abort().await;
            return Err(error);
        }
        object.shutdown().await.map_err(|error| BackupError::object(name, error))
    }

    async fn compress<E>(
        &self,
        name: &str,
        mut chunks: BoxStream<'_, Result<Bytes, E>>,
        object: &mut BufWriter,
    ) -> Result<(), BackupError>
    where
        BackupError: From<E>,
    {
        let failed = |error| self.failed(name, error);
        let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION)?;
        while let Some(chunk) = chunks.next().await {
            encoder.write_all(&chunk?)?;
            if encoder.get_ref().len() >= PART {
                object.put(std::mem::take(encoder.get_mut()).into()).await.map_err(failed)?;
            }
        }
        Ok(object.put(encoder.finish()?.into()).await.map_err(failed)?)
    }
}
