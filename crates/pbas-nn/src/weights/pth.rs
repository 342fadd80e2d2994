//! The two containers of `torch.save`: where their pickle and their storages lie.
//!
//! Since torch 1.6: a zip of stored entries `NAME/data.pkl`, `NAME/data/KEY` (a storage's bytes) and, in later
//! versions, `NAME/byteorder`. Before: five pickles in a row (magic number, protocol version, system, object,
//! list of storage keys), then for each key an 8-byte count of elements and the elements. The layouts are those of
//! `torch/serialization.py`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Node, Pickle, StorageRef, unpickle};
use super::{NamedTensors, printable, state_dict};
use crate::{Error, ErrorKind, Result};

/// First object of the old container.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// Second object of the old container.
const PROTOCOL: i128 = 1001;

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// Reads the zip container.
pub(super) fn read_zip(bytes: &[u8]) -> Result<NamedTensors> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged_zip("container", &e))?;
    if archive.has_duplicate_names() {
        return Err(Error::format("zip container: two entries have one name"));
    }
    let folder = archive
        .file_names()
        .filter_map(|name| name.ok()?.strip_suffix("/data.pkl").map(str::to_owned))
        .find(|folder| !folder.contains('/'))
        .ok_or_else(|| Error::format("a zip file, but expected torch's `data.pkl` in it and found none"))?;

    let order = format!("{folder}/byteorder");
    if archive.index_for_name(&order).is_some() {
        let order = entry(&mut archive, &order, bytes.len())?;
        if order != b"little" {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "expected byte order `little`, found `{}`",
                    printable(&String::from_utf8_lossy(&order))
                ),
            ));
        }
    }
    let pickled = entry(&mut archive, &format!("{folder}/data.pkl"), bytes.len())?;
    let (pickle, _) = unpickle(&pickled)?;
    state_dict::read(&pickle, bytes.len(), |storage| {
        let expected = storage.bytes()?;
        let data = entry(&mut archive, &format!("{folder}/data/{}", storage.key), expected)?;
        if data.len() != expected {
            return Err(Error::format(format!(
                "expected {expected} bytes in storage `{}`, found {}",
                printable(storage.key),
                data.len()
            )));
        }
        Ok(Cow::Owned(data))
    })
}

/// The bytes of a stored entry, at most `limit` of them; the zip reader checks their CRC.
fn entry(archive: &mut Archive, name: &str, limit: usize) -> Result<Vec<u8>> {
    let mut file = archive.by_name(name).map_err(|e| damaged_zip(name, &e))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "zip entry `{}`: expected it stored, as torch does, found it compressed",
                printable(name)
            ),
        ));
    }
    let len = usize::try_from(file.size()).ok().filter(|&len| len <= limit).ok_or_else(|| {
        Error::format(format!(
            "zip entry `{}`: expected at most {limit} bytes, found {}",
            printable(name),
            file.size()
        ))
    })?;
    let mut bytes = Vec::with_capacity(len);
    file.read_to_end(&mut bytes)
        .map_err(|e| Error::format(format!("zip entry `{}`: {e}", printable(name))))?;
    Ok(bytes)
}

fn damaged_zip(what: &str, e: &zip::result::ZipError) -> Error {
    // As text, because the zip crate's errors repeat their source in their own text.
    Error::format(format!("damaged zip, `{}`: {e}", printable(what)))
}

/// Reads the container from before torch 1.6.
pub(super) fn read_pickles(bytes: &[u8]) -> Result<NamedTensors> {
    let mut rest = bytes;
    let magic = next(&mut rest)?;
    if !matches!(magic.root(), Node::Int(MAGIC)) {
        return Err(Error::format(
            "a pickle, but expected torch's magic number first and found another object",
        ));
    }
    let protocol = next(&mut rest)?;
    if !matches!(protocol.root(), Node::Int(PROTOCOL)) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("expected torch protocol version {PROTOCOL}, found another"),
        ));
    }
    // The system's description says how that machine stored numbers; torch wrote storages little-endian on all.
    next(&mut rest)?;
    let object = next(&mut rest)?;
    let keys = next(&mut rest)?;

    let mut known: HashMap<&str, StorageRef> = HashMap::new();
    for storage in object.storages() {
        if *known.entry(storage.key).or_insert(storage) != storage {
            return Err(Error::format(format!(
                "storage `{}` has two descriptions that differ",
                printable(storage.key)
            )));
        }
    }
    let mut storages: HashMap<&str, &[u8]> = HashMap::new();
    let Node::List(listed) = keys.root() else {
        return Err(Error::format("expected a list of storage keys, found another object"));
    };
    for &key in listed {
        let Node::Str(key) = keys.get(key) else {
            return Err(Error::format("expected storage keys that are strings"));
        };
        let storage = *known.get(key).ok_or_else(|| {
            Error::format(format!("storage `{}` is listed, but no tensor lies in it", printable(key)))
        })?;
        let (count, data) = rest.split_first_chunk::<8>().ok_or_else(|| ends_in(key))?;
        let count = u64::from_le_bytes(*count);
        if count != storage.elements as u64 {
            return Err(Error::format(format!(
                "expected {} elements in storage `{}`, found {count}",
                storage.elements,
                printable(key)
            )));
        }
        let (data, after) = data.split_at_checked(storage.bytes()?).ok_or_else(|| ends_in(key))?;
        if storages.insert(storage.key, data).is_some() {
            return Err(Error::format(format!("storage `{}` is listed twice", printable(key))));
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Error::format(format!("{} bytes follow the last storage, expected none", rest.len())));
    }
    state_dict::read(&object, bytes.len(), |storage| {
        storages.get(storage.key).map(|&data| Cow::Borrowed(data)).ok_or_else(|| {
            Error::format(format!("storage `{}` is missing from the file", printable(storage.key)))
        })
    })
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Pickle<'a>> {
    let (pickle, taken) = unpickle(rest)?;
    *rest = &rest[taken..];
    Ok(pickle)
}

fn ends_in(key: &str) -> Error {
    Error::format(format!("the file ends within storage `{}`", printable(key)))
}
