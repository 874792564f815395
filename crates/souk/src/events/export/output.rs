//! Where chunks of an export go: a file that grows, or a folder of parts. A chunk is on the disk before it is noted down as
//! done, and whatever a kill leaves behind of the next one is cut off, or written over.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use chrono::NaiveDate;
use souk_event_log::{Position, Recorded};

use super::{
    format::{self, Format},
    state::{Request, State},
};

/// Some events that are written together.
pub(super) struct Chunk {
    pub(super) events: Vec<Arc<Recorded>>,
    /// Where the next one begins.
    pub(super) next: Position,
}

pub(super) enum Output {
    Screen(Format),
    Growing(Growing),
    Parts(Parts),
}

impl Output {
    /// Takes up where the state says.
    pub(super) fn open(path: Option<&Path>, state: &State) -> anyhow::Result<Self> {
        let Request { format, partition, .. } = state.request;
        let Some(path) = path else { return Ok(Self::Screen(format)) };
        Ok(match (format, partition) {
            (Format::Parquet, None) => Self::Parts(Parts::to_be_joined(path)?),
            (_, Some(_)) => Self::Parts(Parts::by_day(path)?),
            (_, None) => Self::Growing(Growing::open(path, state)?),
        })
    }

    pub(super) fn write(&mut self, chunk: &Chunk, state: &mut State) -> anyhow::Result<()> {
        match self {
            Self::Screen(format) => {
                let bytes = format.encode(&chunk.events, state.events == 0)?;
                io::stdout().lock().write_all(&bytes)?;
                state.count(chunk);
                return Ok(());
            }
            Self::Growing(file) => file.append(chunk, state)?,
            Self::Parts(parts) => parts.add(chunk, state.request.format)?,
        }
        state.count(chunk);
        state.save()
    }

    /// Everything is written. Nothing has a head, too, where the format wants one.
    pub(super) fn finish(mut self, mut state: State) -> anyhow::Result<State> {
        let nothing = Chunk { events: Vec::new(), next: state.next };
        if state.events == 0 && !matches!(self, Self::Parts(_)) {
            self.write(&nothing, &mut state)?;
        }
        match self {
            Self::Screen(_) => {}
            Self::Growing(_) | Self::Parts(Parts { joined: None, .. }) => state.forget()?,
            Self::Parts(Parts { folder, joined: Some(path) }) => {
                join(&folder, &path)?;
                // First of all nobody may go on with what is left of the parts.
                state.forget()?;
                fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
            }
        }
        Ok(state)
    }
}

/// Before an export that begins anew is noted down: nothing of an older one is to be found in it.
pub(super) fn make_room(path: &Path, state: &State) -> anyhow::Result<()> {
    if state.request.partition.is_some() {
        return free_of_days(path, state);
    }
    let parts = beside(path, PARTS);
    state.forget()?;
    match fs::remove_dir_all(&parts) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| parts.display().to_string())
        }
        _ => Ok(()),
    }
}

const PARTS: &str = ".parts";

pub(super) struct Growing {
    path: PathBuf,
    file: File,
    format: Format,
}

impl Growing {
    fn open(path: &Path, state: &State) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(false).open(path).with_context(named)?;
        let there = file.metadata()?.len();
        if there < state.length {
            bail!("{} has lost {} bytes since: export it anew", named(), state.length - there);
        }
        file.set_len(state.length).with_context(named)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), file, format: state.request.format })
    }

    fn append(&mut self, chunk: &Chunk, state: &mut State) -> anyhow::Result<()> {
        let mut bytes = self.format.encode(&chunk.events, state.length == 0)?;
        if format::is_gz(&self.path) {
            bytes = format::gz(&bytes)?;
        }
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            .with_context(|| self.path.display().to_string())?;
        state.length += bytes.len() as u64;
        Ok(())
    }
}

/// Each chunk is a file of its own, named after the position of its first event, so that it is written over by itself.
pub(super) struct Parts {
    folder: PathBuf,
    /// None: in a folder for each day.
    joined: Option<PathBuf>,
}

impl Parts {
    fn by_day(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder: folder.to_owned(), joined: None })
    }

    fn to_be_joined(path: &Path) -> anyhow::Result<Self> {
        let folder = beside(path, PARTS);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder, joined: Some(path.to_owned()) })
    }

    fn add(&self, chunk: &Chunk, format: Format) -> anyhow::Result<()> {
        let Some(first) = chunk.events.first() else { return Ok(()) };
        let folder = match self.joined {
            Some(_) => self.folder.clone(),
            None => self.folder.join(format!("day={}", day(first))),
        };
        let name = format!("part-{:020}.{}", first.position, format.extension());
        let bytes = format.encode(&chunk.events, true)?;
        fs::create_dir_all(&folder)
            .and_then(|()| replace(&folder.join(name), |file| file.write_all(&bytes)))
            .with_context(|| folder.display().to_string())
    }
}

/// Puts the parts together, and where it was to be.
fn join(folder: &Path, path: &Path) -> anyhow::Result<()> {
    let parts = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut parts: Vec<_> = parts.collect::<io::Result<_>>()?;
    parts.retain(|part| part.extension().is_some_and(|extension| extension == "parquet"));
    parts.sort();
    let temporary = folder.join("joined.tmp");
    format::join(&parts, File::create(&temporary)?)?.sync_all()?;
    fs::rename(&temporary, path)
        .and_then(|()| sync_folder_of(path))
        .with_context(|| path.display().to_string())
}

/// UTC.
pub(super) fn day(event: &Recorded) -> NaiveDate {
    event.recorded_at.date_naive()
}

/// Another export into the same folder may bring other days, but not these again.
fn free_of_days(folder: &Path, state: &State) -> anyhow::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let date = name
            .to_str()
            .and_then(|name| name.strip_prefix("day="))
            .and_then(|date| date.parse::<NaiveDate>().ok());
        if let Some(date) = date
            && state.days.is_some_and(|(first, last)| (first..=last).contains(&date))
        {
            bail!(
                "{} holds {} already, and would hold it twice: name another folder or other days, or remove it; an export that was interrupted goes on with --resume",
                folder.display(),
                name.display()
            );
        }
    }
    Ok(())
}

/// A name that stands beside this one.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    // Without a slash at its end.
    let mut name: OsString = path.components().collect::<PathBuf>().into();
    name.push(suffix);
    name.into()
}

/// All of it is there, or what was there before.
pub(super) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    let mut file = File::create(&temporary)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder_of(path)
}

pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
