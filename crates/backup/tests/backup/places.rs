//! A place for objects that fails when told to.

use std::{collections::BTreeMap, fmt, sync::Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};

#[derive(Debug, Default)]
pub(crate) struct Faulty {
    objects: InMemory,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Writes that will still go well; `None`: all.
    allowed: Option<usize>,
    failures: usize,
    writes: BTreeMap<String, usize>,
}

impl Faulty {
    pub(crate) fn fail_after(&self, writes: Option<usize>) {
        self.state.lock().unwrap().allowed = writes;
    }

    pub(crate) fn failures(&self) -> usize {
        self.state.lock().unwrap().failures
    }

    pub(crate) fn written(&self) -> usize {
        self.state.lock().unwrap().writes.values().sum()
    }

    pub(crate) fn list(&self) -> Vec<String> {
        self.state.lock().unwrap().writes.keys().cloned().collect()
    }

    pub(crate) fn writes_of(&self, name: &str) -> usize {
        self.state.lock().unwrap().writes.get(name).copied().unwrap_or_default()
    }

    fn write(&self, location: &Path) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        match &mut state.allowed {
            Some(0) => {
                state.failures += 1;
                return Err(object_store::Error::Generic { store: "faulty", source: "it is away".into() });
            }
            Some(left) => *left -= 1,
            None => {}
        }
        *state.writes.entry(location.to_string()).or_default() += 1;
        Ok(())
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.write(location)?;
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.write(location)?;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
