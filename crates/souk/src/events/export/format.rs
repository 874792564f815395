//! How a chunk of events becomes bytes. Chunks of NDJSON and CSV may be put one after another; one of Parquet is a file of
//! its own with one group of rows, and [`join`] makes one of many.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use chrono::SecondsFormat;
use clap::ValueEnum;
use flate2::{Compression, write::GzEncoder};
use parquet::{
    basic::{self, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel},
    column::writer::ColumnCloseResult,
    data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        metadata::ParquetMetaDataReader,
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::{ColumnPath, Type},
};
use serde::{Deserialize, Serialize};
use souk_event_log::{EventLine, Recorded};

use super::columns::{COLUMNS, Row, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Format {
    /// An object a line, as GET /v1/events answers
    Ndjson,
    Csv,
    /// For DuckDB, pandas, Spark and their like
    Parquet,
}

impl Format {
    /// By the end of the name, which may have another of .gz behind it.
    pub(super) fn of_name(output: &Path) -> Option<Self> {
        let plain = if is_gz(output) { output.with_extension("") } else { output.to_owned() };
        match plain.extension()?.to_str()? {
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// `first`: of its file.
    pub(super) fn encode(self, events: &[Arc<Recorded>], first: bool) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Ndjson => Ok(ndjson(events)),
            Self::Csv => csv(events, first),
            Self::Parquet => Ok(parquet(events)?),
        }
    }
}

pub(super) fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// What gzip makes of it: members that stand one after another are one file.
pub(super) fn gz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(bytes)?;
    gz.finish()
}

fn ndjson(events: &[Arc<Recorded>]) -> Vec<u8> {
    let mut lines = Vec::new();
    for event in events {
        EventLine::from(&**event).write(&mut lines);
    }
    lines
}

fn csv(events: &[Arc<Recorded>], first: bool) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if first {
        writer.write_record(COLUMNS.iter().map(|column| column.name))?;
    }
    for event in events {
        let row = Row::of(event);
        for column in &COLUMNS {
            match column.value {
                Value::Long(value) => writer.write_field(value(&row).to_string()),
                Value::Short(value) => writer.write_field(value(&row).to_string()),
                Value::Time(value) => {
                    writer.write_field(value(&row).to_rfc3339_opts(SecondsFormat::Micros, true))
                }
                Value::Text(value) | Value::Json(value) => writer.write_field(&*value(&row)),
                Value::OptionalLong(value) => {
                    writer.write_field(value(&row).map(|value| value.to_string()).unwrap_or_default())
                }
                Value::OptionalText(value) => writer.write_field(&*value(&row).unwrap_or_default()),
            }?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(writer.into_inner()?)
}

fn parquet(events: &[Arc<Recorded>]) -> Result<Vec<u8>, ParquetError> {
    let rows: Vec<_> = events.iter().map(|event| Row::of(event)).collect();
    let mut file = SerializedFileWriter::new(Vec::new(), schema()?, properties()?)?;
    let mut group = file.next_row_group()?;
    for column in &COLUMNS {
        let Some(mut writer) = group.next_column()? else { break };
        match column.value {
            Value::Long(value) => write::<Int64Type>(&mut writer, rows.iter().map(|row| Some(value(row)))),
            Value::Short(value) => write::<Int32Type>(&mut writer, rows.iter().map(|row| Some(value(row)))),
            Value::Time(value) => {
                let micros = rows.iter().map(|row| Some(value(row).timestamp_micros()));
                write::<Int64Type>(&mut writer, micros)
            }
            Value::Text(value) | Value::Json(value) => {
                write::<ByteArrayType>(&mut writer, rows.iter().map(|row| Some((&*value(row)).into())))
            }
            Value::OptionalLong(value) => write::<Int64Type>(&mut writer, rows.iter().map(value)),
            Value::OptionalText(value) => {
                let texts = rows.iter().map(|row| value(row).map(|text| ByteArray::from(&*text)));
                write::<ByteArrayType>(&mut writer, texts)
            }
        }?;
        writer.close()?;
    }
    group.close()?;
    file.into_inner()
}

fn write<T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let (mut there, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(value.is_some()));
        there.extend(value);
    }
    // Columns that are never null take no notice of the levels.
    writer.typed::<T>().write_batch(&there, Some(&levels), None).map(|_| ())
}

fn schema() -> Result<Arc<Type>, ParquetError> {
    let columns = COLUMNS.iter().map(|column| {
        let (required, optional) = (Repetition::REQUIRED, Repetition::OPTIONAL);
        let (physical, logical, repetition) = match column.value {
            Value::Long(_) => (Physical::INT64, None, required),
            Value::Short(_) => (Physical::INT32, None, required),
            Value::Time(_) => {
                (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS)), required)
            }
            Value::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), required),
            Value::Json(_) => (Physical::BYTE_ARRAY, Some(LogicalType::Json), required),
            Value::OptionalLong(_) => (Physical::INT64, None, optional),
            Value::OptionalText(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), optional),
        };
        let column = Type::primitive_type_builder(column.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()?;
        Ok(Arc::new(column))
    });
    let columns = columns.collect::<Result<Vec<_>, ParquetError>>()?;
    Ok(Arc::new(Type::group_type_builder("event").with_fields(columns).build()?))
}

fn properties() -> Result<Arc<WriterProperties>, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("souk ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(basic::Compression::ZSTD(ZstdLevel::try_new(3)?));
    // What differs from row to row needs no dictionary, and of documents nobody asks for the smallest.
    for name in ["position", "recorded_at"] {
        properties = properties
            .set_column_dictionary_enabled(name.into(), false)
            .set_column_encoding(name.into(), Encoding::DELTA_BINARY_PACKED);
    }
    for name in ["data", "metadata", "id", "hash"] {
        properties = properties
            .set_column_dictionary_enabled(name.into(), false)
            .set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::None);
    }
    Ok(Arc::new(properties.build()))
}

/// One Parquet file of several, which are copied as they are; of none, a file without rows.
pub(super) fn join(parts: &[PathBuf], into: File) -> anyhow::Result<File> {
    let mut joined = SerializedFileWriter::new(into, schema()?, properties()?)?;
    for path in parts {
        let part = File::open(path).with_context(|| path.display().to_string())?;
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&part)?;
        for group in metadata.row_groups() {
            let mut copy = joined.next_row_group()?;
            for column in group.columns() {
                let column = ColumnCloseResult {
                    bytes_written: column.compressed_size() as u64,
                    rows_written: group.num_rows() as u64,
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                copy.append_column(&part, column)?;
            }
            copy.close()?;
        }
    }
    Ok(joined.into_inner()?)
}
