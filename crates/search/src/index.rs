//! The index on disk and its reader. What is committed carries the caller's position and the format in its payload, so a
//! crash at any instruction leaves an index that says where to go on; a damaged one is replaced by an empty one at no
//! position, for the caller to fill again. Each format has a folder of its own: an index of an earlier one answers until
//! the new one is whole, if what is read of it is there.
//!
//! An index is whole once its caller has said so ([`IndexWriter::commit_whole`]). Until then what it finds may be anything
//! between nothing and all: [`SearchIndex::is_ready`] says whether there is something to ask.

use std::collections::BTreeMap;
use std::fs;
use std::mem;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tantivy::directory::MmapDirectory;
use tantivy::directory::error::OpenReadError;
use tantivy::schema::{IndexRecordOption, Value};
use tantivy::{
    DocAddress, DocSet, Index, IndexReader, IndexSettings, ReloadPolicy, Searcher, TERMINATED,
    TantivyDocument, TantivyError, Term,
};
use uuid::Uuid;

use crate::analyzer::Analyzer;
use crate::availability::Availability;
use crate::document::{ItemDocument, id_text};
use crate::query::SearchError;
use crate::schema::{self, FORMAT, Fields, Key, column};
use crate::suggest::{self, FoundQuery, Popular, Sources, Suggestion};
use crate::synonyms::{SynonymError, Synonyms};
use crate::values::Values;
use crate::writer::IndexWriter;

/// Documents that are packed together, in bytes.
const STORE_BLOCK: usize = 4_096;

#[derive(Debug, Clone)]
pub struct Config {
    /// Memory that documents gather in before they are written, in bytes; 15 MB at least.
    pub writer_heap: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { writer_heap: 100_000_000 }
    }
}

/// How [`SearchIndex::open`] found the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There was no index.
    Created,
    Opened,
    /// There was one of an earlier format, which answers until the new one is whole.
    Beside,
    /// There was one that could not be used, for this reason.
    Recreated(String),
}

pub struct SearchIndex {
    pub(crate) index: Index,
    pub(crate) fields: Fields,
    pub(crate) analyzer: Analyzer,
    pub(crate) availability: Arc<Availability>,
    pub(crate) values: Arc<Values>,
    pub(crate) config: Config,
    reader: IndexReader,
    position: RwLock<Option<u64>>,
    whole: AtomicBool,
    /// Answers until this one is whole.
    older: RwLock<Option<Older>>,
    directory: PathBuf,
    origin: Origin,
    rules: RwLock<Rules>,
    popular: RwLock<Arc<Popular>>,
}

/// Where rules for synonyms come from. Each has its own, all of them count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SynonymSource {
    File,
    Admin,
}

#[derive(Default)]
struct Rules {
    file: String,
    admin: String,
    all: Arc<Synonyms>,
}

/// What a commit says of itself.
#[derive(Serialize, Deserialize)]
struct Payload {
    format: u32,
    position: u64,
    /// Whether nothing below the position is missing. Formats before the fourth did not say.
    #[serde(default = "always")]
    whole: bool,
}

fn always() -> bool {
    true
}

/// An index of an earlier format.
struct Older {
    reader: IndexReader,
    position: Option<u64>,
}

impl SearchIndex {
    /// Opens the index in `directory`, or makes one there.
    pub fn open(directory: &Path, config: Config) -> Result<Arc<Self>, SearchError> {
        let place = directory.join(folder(FORMAT));
        let analyzer = Analyzer::new();
        fs::create_dir_all(&place)?;
        // Both read a great deal.
        let (availability, existing) = thread::scope(|scope| {
            let availability = scope.spawn(|| Availability::open(directory.join("availability")));
            let existing = Opened::existing(&place);
            (availability.join().unwrap_or_else(|panic| resume_unwind(panic)), existing)
        });
        let availability = Arc::new(availability);
        let (opened, mut origin) = match existing {
            Ok(Some(opened)) => (opened, Origin::Opened),
            Ok(None) => (Opened::create(&place)?, Origin::Created),
            Err(Unusable::Replace(reason)) => {
                tracing::warn!(path = %place.display(), reason, "search index not usable, starting an empty one");
                fs::remove_dir_all(&place)?;
                fs::create_dir_all(&place)?;
                (Opened::create(&place)?, Origin::Recreated(reason))
            }
            Err(Unusable::Fail(error)) => return Err(error),
        };
        let Opened { index, fields, reader, position, whole } = opened;
        let older = if whole { None } else { Opened::older(directory)? };
        if older.is_some() {
            origin = Origin::Beside;
        }
        let index = Self {
            index,
            fields,
            analyzer,
            availability,
            values: Arc::default(),
            config,
            reader,
            position: RwLock::new(position),
            whole: AtomicBool::new(whole),
            older: RwLock::new(older),
            directory: directory.to_owned(),
            origin,
            rules: RwLock::default(),
            popular: RwLock::default(),
        };
        index.restore_slots(&index.searcher())?;
        if index.older.read().is_some() {
            index.restore_slots(&index.reader.searcher())?;
        }
        Ok(Arc::new(index))
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the last commit said; everything up to there is found. `None` asks for a rebuild from the beginning.
    pub fn position(&self) -> Option<u64> {
        *self.position.read()
    }

    /// Whether there is anything to ask: this index, once it is whole, or one of an earlier format.
    pub fn is_ready(&self) -> bool {
        self.is_whole() || self.is_older_shown()
    }

    /// Whether this index has everything below its position.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Whether an index of an earlier format answers.
    pub fn is_older_shown(&self) -> bool {
        self.older.read().is_some()
    }

    /// Everything up to there is found by who asks now.
    pub fn shown_position(&self) -> Option<u64> {
        match &*self.older.read() {
            Some(older) => older.position,
            None => self.position(),
        }
    }

    /// How many items there are to find.
    pub fn len(&self) -> u64 {
        self.searcher().num_docs()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn availability(&self) -> &Availability {
        &self.availability
    }

    /// The one writer. A second one, here or in another process, is refused with [`SearchError::Locked`].
    pub fn writer(self: &Arc<Self>) -> Result<IndexWriter, SearchError> {
        IndexWriter::open(Arc::clone(self))
    }

    /// The document of an item as it was committed last.
    pub fn get(&self, item_id: Uuid) -> Result<Option<ItemDocument>, SearchError> {
        let searcher = self.searcher();
        let id = Key::Id.term(&self.fields, &id_text(item_id));
        let Some(address) = find(&searcher, &id)? else { return Ok(None) };
        let document: TantivyDocument = searcher.doc(address)?;
        Ok(Some(serde_json::from_slice(source(&document, &self.fields))?))
    }

    /// Completions of `prefix`. A failure is logged and suggests nothing: a search box works without.
    pub fn suggest(&self, prefix: &str, size: usize) -> Vec<Suggestion> {
        let popular = Arc::clone(&self.popular.read());
        suggest::suggest(&self.searcher(), &self.fields, &popular, prefix, size).unwrap_or_else(|error| {
            tracing::warn!(%error, "no suggestions");
            Vec::new()
        })
    }

    /// Gathers what is popular, to be suggested from now on: of what the index and the availability hold now, and of what
    /// others search for, the most popular first. Takes seconds for a large shop. Answers how many bytes of memory that is.
    pub fn gather_suggestions(&self, queries: &[FoundQuery]) -> Result<usize, SearchError> {
        let (searcher, began) = (self.searcher(), Instant::now());
        let Self { fields, availability, analyzer, .. } = self;
        let popular =
            suggest::gather(&Sources { searcher: &searcher, fields, availability, analyzer, queries })?;
        let bytes = popular.memory();
        tracing::debug!(names = popular.len(), bytes, took = ?began.elapsed(), "suggestions gathered");
        // What it replaces takes a while to be given back: not while others wait to read.
        let replaced = mem::replace(&mut *self.popular.write(), Arc::new(popular));
        drop(replaced);
        Ok(bytes)
    }

    /// Whether the item is there to be found.
    pub fn has(&self, item_id: Uuid) -> Result<bool, SearchError> {
        let id = Key::Id.term(&self.fields, &id_text(item_id));
        Ok(find(&self.searcher(), &id)?.is_some())
    }

    /// Replaces the rules of one source, one rule a line; they count from the next search on. See [`Synonyms`].
    pub fn set_synonyms(&self, source: SynonymSource, rules: &str) -> Result<(), SynonymError> {
        Synonyms::parse(rules)?;
        let mut known = self.rules.write();
        match source {
            SynonymSource::File => rules.clone_into(&mut known.file),
            SynonymSource::Admin => rules.clone_into(&mut known.admin),
        }
        known.all = Arc::new(Synonyms::parse(&format!("{}\n{}", known.file, known.admin))?);
        Ok(())
    }

    pub(crate) fn synonyms(&self) -> Arc<Synonyms> {
        Arc::clone(&self.rules.read().all)
    }

    pub(crate) fn searcher(&self) -> Searcher {
        match &*self.older.read() {
            Some(older) => older.reader.searcher(),
            None => self.reader.searcher(),
        }
    }

    /// Nothing is missing from now on: what answered until now is no longer needed.
    pub(crate) fn show_whole(&self) -> Result<(), SearchError> {
        // Read before it is asked.
        self.values.follow(&self.reader.searcher())?;
        self.whole.store(true, Ordering::Release);
        *self.older.write() = None;
        for place in folders(&self.directory)?.into_values().filter(|place| !place.ends_with(folder(FORMAT)))
        {
            tracing::info!(path = %place.display(), "the search index of an earlier format is no longer needed");
            // Whoever still searches it has its files open. What stays is removed by the next who gets here.
            if let Err(error) = fs::remove_dir_all(&place) {
                tracing::warn!(path = %place.display(), %error, "not removed");
            }
        }
        Ok(())
    }

    /// Shows what was committed at `position`.
    pub(crate) fn show(&self, position: u64) -> Result<(), SearchError> {
        self.reload()?;
        *self.position.write() = Some(position);
        Ok(())
    }

    /// Takes up segments that came of a commit or a merge.
    pub(crate) fn reload(&self) -> Result<(), SearchError> {
        self.reader.reload()?;
        Ok(self.values.follow(&self.searcher())?)
    }

    /// Tells the availability table which slots are taken, by whom.
    fn restore_slots(&self, searcher: &Searcher) -> Result<(), SearchError> {
        for segment in searcher.segment_readers() {
            let slots = segment.fast_fields().u64(column::SLOT)?;
            let ids = segment.fast_fields().u64(column::IDS)?;
            let items = segment.doc_ids_alive().filter_map(|document| {
                let halves: Vec<u64> = ids.values_for_doc(document).collect();
                let mut ids = halves.chunks_exact(2).map(|pair| Uuid::from_u64_pair(pair[0], pair[1]));
                Some((ids.next()?, slots.first(document)? as u32, ids.collect()))
            });
            self.availability.restore(segment.num_docs() as usize, items);
        }
        Ok(())
    }
}

/// The first document that has this.
pub(crate) fn find(searcher: &Searcher, id: &Term) -> tantivy::Result<Option<DocAddress>> {
    for (ordinal, segment) in searcher.segment_readers().iter().enumerate() {
        let inverted = segment.inverted_index(id.field())?;
        let Some(mut postings) = inverted.read_postings(id, IndexRecordOption::Basic)? else { continue };
        while postings.doc() != TERMINATED {
            if !segment.is_deleted(postings.doc()) {
                return Ok(Some(DocAddress::new(ordinal as u32, postings.doc())));
            }
            postings.advance();
        }
    }
    Ok(None)
}

/// The JSON that a document was made from; nothing, which no JSON parser takes, if it has none.
pub(crate) fn source<'a>(document: &'a TantivyDocument, fields: &Fields) -> &'a [u8] {
    document.get_first(fields.source).and_then(|value| value.as_bytes()).unwrap_or_default()
}

pub(crate) fn payload(position: u64, whole: bool) -> Result<String, SearchError> {
    Ok(serde_json::to_string(&Payload { format: FORMAT, position, whole })?)
}

/// Where the index of a format lies.
fn folder(format: u32) -> String {
    format!("index-{format}")
}

/// The indexes there are, by format. Before the fourth format all had one folder.
fn folders(directory: &Path) -> Result<BTreeMap<u32, PathBuf>, SearchError> {
    let mut folders = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let format = entry.file_name().to_str().and_then(|name| match name.strip_prefix("index") {
            Some("") => Some(0),
            Some(format) => format.strip_prefix('-')?.parse().ok(),
            None => None,
        });
        if let Some(format) = format {
            folders.insert(format, entry.path());
        }
    }
    Ok(folders)
}

struct Opened {
    index: Index,
    fields: Fields,
    reader: IndexReader,
    position: Option<u64>,
    whole: bool,
}

enum Unusable {
    /// It can only be built again.
    Replace(String),
    /// It may be sound, but this machine cannot say now.
    Fail(SearchError),
}

impl Opened {
    fn existing(place: &Path) -> Result<Option<Self>, Unusable> {
        let directory =
            MmapDirectory::open(place).map_err(|error| Unusable::Fail(SearchError::Index(error.into())))?;
        let exists = Index::exists(&directory).map_err(|error| judge(error.into()))?;
        if !exists {
            let leftovers =
                fs::read_dir(place).map_err(|error| Unusable::Fail(error.into()))?.next().is_some();
            return if leftovers {
                Err(Unusable::Replace("it has no meta.json".to_owned()))
            } else {
                Ok(None)
            };
        }
        let index = Index::open(directory).map_err(judge)?;
        let (schema, fields) = schema::build();
        if index.schema() != schema {
            return Err(Unusable::Replace("its fields are those of another version".to_owned()));
        }
        let (position, whole) = match index.load_metas().map_err(judge)?.payload {
            None => (None, false),
            Some(payload) => match serde_json::from_str::<Payload>(&payload) {
                Ok(Payload { format: FORMAT, position, whole }) => (Some(position), whole),
                _ => return Err(Unusable::Replace("its content is that of another version".to_owned())),
            },
        };
        Self::sound(index, fields, position, whole).map(Some)
    }

    /// The newest of an earlier format that can be read.
    fn older(directory: &Path) -> Result<Option<Older>, SearchError> {
        let earlier = folders(directory)?.into_iter().rev().filter(|(format, _)| *format < FORMAT);
        for (_, place) in earlier {
            let read = MmapDirectory::open(&place)
                .map_err(|error| judge(error.into()))
                .and_then(|directory| Index::open(directory).map_err(judge))
                .and_then(Self::read_older);
            match read {
                Ok(older) => {
                    tracing::info!(path = %place.display(), "a search index of an earlier format answers until a new one is whole");
                    return Ok(Some(older));
                }
                Err(Unusable::Replace(reason)) => {
                    tracing::warn!(path = %place.display(), reason, "search index of an earlier format not usable");
                }
                Err(Unusable::Fail(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn read_older(index: Index) -> Result<Older, Unusable> {
        let (schema, fields) = schema::build();
        let theirs = index.schema();
        // What came later is missing as it is in a segment where no document has it.
        if theirs.num_fields() > schema.num_fields()
            || theirs.fields().any(|(field, entry)| schema.get_field_entry(field) != entry)
        {
            return Err(Unusable::Replace("its fields are those of another version".to_owned()));
        }
        let payload = index.load_metas().map_err(judge)?.payload;
        let payload = payload.and_then(|payload| serde_json::from_str::<Payload>(&payload).ok());
        match payload {
            Some(Payload { format, position, whole: true }) if format < FORMAT => {
                let Self { reader, position, .. } = Self::sound(index, fields, Some(position), true)?;
                Ok(Older { reader, position })
            }
            _ => Err(Unusable::Replace("it is not whole".to_owned())),
        }
    }

    fn sound(index: Index, fields: Fields, position: Option<u64>, whole: bool) -> Result<Self, Unusable> {
        let damaged = index.validate_checksum().map_err(judge)?;
        if let Some(file) = damaged.iter().next() {
            return Err(Unusable::Replace(format!("{} is damaged", file.display())));
        }
        Self::read(index, fields, position, whole).map_err(judge)
    }

    fn create(place: &PathBuf) -> Result<Self, SearchError> {
        let (schema, fields) = schema::build();
        // A page shows twenty items out of as many blocks; small ones are unpacked the sooner.
        let settings = IndexSettings { docstore_blocksize: STORE_BLOCK, ..IndexSettings::default() };
        let index = Index::builder().schema(schema).settings(settings).create_in_dir(place)?;
        Ok(Self::read(index, fields, None, false)?)
    }

    fn read(mut index: Index, fields: Fields, position: Option<u64>, whole: bool) -> tantivy::Result<Self> {
        index.set_tokenizers(schema::tokenizers());
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { index, fields, reader, position, whole })
    }
}

/// Damage is told from trouble: an index that is merely out of reach (no permission, too many files) is not thrown away.
fn judge(error: TantivyError) -> Unusable {
    let damaged = match &error {
        TantivyError::DataCorruption(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::SchemaError(_)
        | TantivyError::DeserializeError(_)
        | TantivyError::OpenReadError(
            OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_),
        ) => true,
        TantivyError::IoError(error) => matches!(
            error.kind(),
            std::io::ErrorKind::UnexpectedEof
                | std::io::ErrorKind::InvalidData
                | std::io::ErrorKind::NotFound
        ),
        _ => false,
    };
    if damaged { Unusable::Replace(error.to_string()) } else { Unusable::Fail(error.into()) }
}
