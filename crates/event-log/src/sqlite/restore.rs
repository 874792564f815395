//! A log's file made anew of events that were copied from another, each with the position, time and hash it had there.
//!
//! Nothing is believed: every event has to be the next of the chain and of its stream. The file is nobody's log until
//! [`Restorer::finish`] has returned; what a crash leaves before that is thrown away.

use std::{fs::File, io, path::Path};

use rusqlite::{Connection, params};

use super::{
    OpenError,
    chain::{Chain, Damage, Hash, Link},
    names::{Kinds, StreamHead, Streams},
    schema,
};
use crate::{Position, Recorded};

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the event at position {position} cannot be restored: {damage}")]
    Damaged { position: Position, damage: Damage },
    #[error(transparent)]
    Create(#[from] OpenError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub struct Restorer {
    connection: Connection,
    chain: Chain,
    streams: Streams,
    kinds: Kinds,
}

impl Restorer {
    /// Makes the file; there must be none of that name.
    pub fn create(path: &Path) -> Result<Self, RestoreError> {
        File::create_new(path)?;
        let connection = schema::create_unsafe(path)?;
        Ok(Self { connection, chain: Chain::default(), streams: Streams::default(), kinds: Kinds::default() })
    }

    /// The last event so far and its hash.
    pub fn head(&self) -> Option<(Position, Hash)> {
        self.chain.head()
    }

    /// Takes the events that follow. After an error the file is of no use.
    pub fn insert<'a>(&mut self, events: impl IntoIterator<Item = &'a Recorded>) -> Result<(), RestoreError> {
        self.connection.execute_batch("BEGIN")?;
        for event in events {
            self.insert_one(event)?;
        }
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn insert_one(&mut self, event: &Recorded) -> Result<(), RestoreError> {
        let Self { connection, chain, streams, kinds } = self;
        let damaged = |damage| RestoreError::Damaged { position: event.position, damage };
        chain.check(event).map_err(damaged)?;
        let known = streams.find(connection, &event.stream)?;
        if event.revision != known.map_or(0, |known| known.events) {
            return Err(damaged(Damage::Revision));
        }
        let stream = match known {
            Some(known) => known.id,
            None => Streams::add(connection, &event.stream)?,
        };
        let (kind, _) = kinds.find(connection, event.stream.category(), &event.event_type)?;
        let link = Link::from(event);
        connection.prepare_cached(schema::INSERT)?.execute(params![
            link.position,
            stream,
            link.revision,
            kind,
            link.recorded_at,
            link.id.as_bytes(),
            event.hash,
            link.data,
            link.metadata
        ])?;
        streams.set(&event.stream, StreamHead { id: stream, events: event.revision + 1 });
        Ok(())
    }

    /// Makes everything durable. From here on the file is a log, under whatever name it is given.
    pub fn finish(self) -> Result<(), RestoreError> {
        let path = self.connection.path().unwrap_or_default().to_owned();
        self.connection.close().map_err(|(_, error)| error)?;
        Ok(File::open(path)?.sync_all()?)
    }
}
