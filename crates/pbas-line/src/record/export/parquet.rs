//! Parts as a Parquet file, in groups of rows.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use pbas::Result;

use super::{COLUMNS, each, unwritable};
use crate::record::{Filter, Part, Record, Review, Said};

/// Rows of a group, which is what memory holds.
const GROUP: usize = 10_000;

/// In the order of [`COLUMNS`].
const SCHEMA: &str = "message parts {
  REQUIRED INT64 id;
  REQUIRED INT64 time (TIMESTAMP(MICROS, true));
  REQUIRED BYTE_ARRAY name (UTF8);
  REQUIRED INT64 size;
  REQUIRED BYTE_ARRAY sha256 (UTF8);
  REQUIRED BYTE_ARRAY model (UTF8);
  REQUIRED BYTE_ARRAY model_digest (UTF8);
  OPTIONAL BYTE_ARRAY verdict (UTF8);
  OPTIONAL DOUBLE image_score;
  OPTIONAL DOUBLE threshold;
  OPTIONAL DOUBLE p_value;
  OPTIONAL DOUBLE value;
  OPTIONAL DOUBLE peak;
  OPTIONAL INT32 width;
  OPTIONAL INT32 height;
  OPTIONAL BYTE_ARRAY regions (JSON);
  OPTIONAL DOUBLE decode_ms;
  OPTIONAL DOUBLE judge_ms;
  OPTIONAL BYTE_ARRAY error (UTF8);
  OPTIONAL BYTE_ARRAY review (UTF8);
}";

/// Writes the parts that a filter lets through.
pub fn write(record: &Record, filter: &Filter, out: &mut (impl Write + Send)) -> Result<u64> {
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(unwritable)?);
    debug_assert!(schema.get_fields().iter().map(|f| f.name()).eq(COLUMNS));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("pbas ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(unwritable)?;
    let mut group = Vec::new();
    let count = each(record, filter, |part| {
        group.push(part);
        if group.len() == GROUP {
            write_group(&mut writer, &group)?;
            group.clear();
        }
        Ok(())
    })?;
    if !group.is_empty() {
        write_group(&mut writer, &group)?;
    }
    writer.close().map_err(unwritable)?;
    Ok(count)
}

fn write_group<W: Write + Send>(writer: &mut SerializedFileWriter<W>, parts: &[Part]) -> Result<()> {
    let mut group = Group { writer: writer.next_row_group().map_err(unwritable)?, parts };
    group.required::<Int64Type>(|p| p.id)?;
    group.required::<Int64Type>(|p| p.time.as_microsecond())?;
    group.required::<ByteArrayType>(|p| text(&p.name))?;
    group.required::<Int64Type>(|p| p.size as i64)?;
    group.required::<ByteArrayType>(|p| text(&p.sha256))?;
    group.required::<ByteArrayType>(|p| text(&p.model))?;
    group.required::<ByteArrayType>(|p| text(&p.model_digest))?;
    group.said::<ByteArrayType>(|s| text(s.verdict.word()))?;
    group.said::<DoubleType>(|s| s.image_score)?;
    group.said::<DoubleType>(|s| s.threshold)?;
    group.said::<DoubleType>(|s| s.p_value)?;
    group.said::<DoubleType>(|s| s.value)?;
    group.said::<DoubleType>(|s| s.peak)?;
    group.said::<Int32Type>(|s| s.width as i32)?;
    group.said::<Int32Type>(|s| s.height as i32)?;
    group.said::<ByteArrayType>(|s| text(&serde_json::to_string(&s.regions).unwrap_or_default()))?;
    group.said::<DoubleType>(|s| s.decode_ms)?;
    group.said::<DoubleType>(|s| s.judge_ms)?;
    group.optional::<ByteArrayType>(|p| p.error.as_deref().map(text))?;
    group.optional::<ByteArrayType>(|p| p.review.map(Review::word).map(text))?;
    group.writer.close().map_err(unwritable)?;
    Ok(())
}

fn text(s: &str) -> ByteArray {
    s.as_bytes().to_vec().into()
}

/// One group of rows, column by column.
struct Group<'a, 'b, W: Write + Send> {
    writer: SerializedRowGroupWriter<'a, W>,
    parts: &'b [Part],
}

impl<W: Write + Send> Group<'_, '_, W> {
    fn required<T: DataType>(&mut self, value: impl Fn(&Part) -> T::T) -> Result<()> {
        let values: Vec<T::T> = self.parts.iter().map(value).collect();
        self.column::<T>(&values, None)
    }

    fn optional<T: DataType>(&mut self, value: impl Fn(&Part) -> Option<T::T>) -> Result<()> {
        let values: Vec<Option<T::T>> = self.parts.iter().map(value).collect();
        let levels: Vec<i16> = values.iter().map(|v| i16::from(v.is_some())).collect();
        let values: Vec<T::T> = values.into_iter().flatten().collect();
        self.column::<T>(&values, Some(&levels))
    }

    fn said<T: DataType>(&mut self, value: impl Fn(&Said) -> T::T) -> Result<()> {
        self.optional::<T>(|p| p.said.as_ref().map(&value))
    }

    fn column<T: DataType>(&mut self, values: &[T::T], levels: Option<&[i16]>) -> Result<()> {
        let column = self.writer.next_column().map_err(unwritable)?;
        let mut column = column.ok_or_else(|| unwritable("more columns than the schema has"))?;
        column.typed::<T>().write_batch(values, levels, None).map_err(unwritable)?;
        column.close().map_err(unwritable)
    }
}
