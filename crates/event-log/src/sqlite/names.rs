//! The numbers that the file uses for names, as the writer knows them: caches over the tables `stream_rows` and `kinds`.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension};

use crate::StreamName;

/// A stream as the next append finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamHead {
    pub(super) id: i64,
    /// How many events it has: the revision of the next.
    pub(super) events: u64,
}

/// Streams that were written to lately. Two generations: when the young one is full it becomes the old one, and what
/// was not asked for in between is forgotten.
#[derive(Default)]
pub(super) struct Streams {
    young: HashMap<StreamName, StreamHead>,
    old: HashMap<StreamName, StreamHead>,
}

/// Streams in a generation (some 100 bytes each).
const GENERATION: usize = 50_000;

impl Streams {
    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    pub(super) fn find(
        &mut self,
        connection: &Connection,
        name: &StreamName,
    ) -> rusqlite::Result<Option<StreamHead>> {
        const SQL: &str = "SELECT s.id, (SELECT e.revision + 1 FROM event_rows e WHERE e.stream_id = s.id
            ORDER BY e.revision DESC LIMIT 1) FROM stream_rows s WHERE s.name = ?1";
        if let Some(head) = self.young.get(name) {
            return Ok(Some(*head));
        }
        if let Some(head) = self.old.remove(name) {
            self.set(name, head);
            return Ok(Some(head));
        }
        let head = connection
            .prepare_cached(SQL)?
            .query_row([name.as_str()], |row| {
                Ok(StreamHead { id: row.get(0)?, events: row.get::<_, Option<i64>>(1)?.unwrap_or(0) as u64 })
            })
            .optional()?;
        if let Some(head) = head {
            self.set(name, head);
        }
        Ok(head)
    }

    /// As [`Self::add`], of a stream that is not there yet; `None` of one that is.
    pub(super) fn add_new(
        &self,
        connection: &Connection,
        name: &StreamName,
    ) -> rusqlite::Result<Option<StreamHead>> {
        const SQL: &str = "INSERT INTO stream_rows (name) VALUES (?1) ON CONFLICT DO NOTHING";
        if self.young.contains_key(name) || self.old.contains_key(name) {
            return Ok(None);
        }
        let added = connection.prepare_cached(SQL)?.execute([name.as_str()])? > 0;
        Ok(added.then(|| StreamHead { id: connection.last_insert_rowid(), events: 0 }))
    }

    /// Gives a new stream its number. The caller sets its head once it has events.
    pub(super) fn add(connection: &Connection, name: &StreamName) -> rusqlite::Result<i64> {
        connection.prepare_cached("INSERT INTO stream_rows (name) VALUES (?1)")?.insert([name.as_str()])
    }

    pub(super) fn set(&mut self, name: &StreamName, head: StreamHead) {
        if let Some(known) = self.young.get_mut(name) {
            *known = head;
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name.clone(), head);
    }
}

/// Pairs of category and event type; there are a few dozen.
#[derive(Default)]
pub(super) struct Kinds {
    by_category: HashMap<Box<str>, HashMap<Arc<str>, i64>>,
}

impl Kinds {
    /// The number of a kind, and its type as all its events share it.
    pub(super) fn find(
        &mut self,
        connection: &Connection,
        category: &str,
        event_type: &Arc<str>,
    ) -> rusqlite::Result<(i64, Arc<str>)> {
        if let Some((name, id)) =
            self.by_category.get(category).and_then(|types| types.get_key_value(&**event_type))
        {
            return Ok((*id, Arc::clone(name)));
        }
        let known = connection
            .prepare_cached("SELECT id FROM kinds WHERE category = ?1 AND type = ?2")?
            .query_row([category, event_type], |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => connection
                .prepare_cached("INSERT INTO kinds (category, type) VALUES (?1, ?2)")?
                .insert([category, event_type])?,
        };
        self.by_category.entry(category.into()).or_default().insert(Arc::clone(event_type), id);
        Ok((id, Arc::clone(event_type)))
    }
}
