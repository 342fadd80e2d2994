//! Finds the state dict in what a torch file's pickle holds, and reads its tensors.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::pickle::{Id, Node, Pickle, StorageRef, TensorRef};
use super::{NamedTensors, Tensor, check_finite, printable};
use crate::{Error, ErrorKind, Result};

/// Keys under which training programs keep a state dict beside other things, first come first served.
const USUAL_KEYS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// Reads the tensors of the state dict in `pickle`, which lies in a file of `file_len` bytes; `storage` gives a
/// storage's bytes.
///
/// The state dict is the root; or the dict of tensors under one of [`USUAL_KEYS`] of the root; or, where the
/// root has no tensors of its own, the only dict of tensors in it. Entries that are no tensors are skipped.
///
/// # Errors
/// If there is no state dict or several, or a tensor does not fit its storage or holds a value that is not finite.
pub(super) fn read<'a, 'b>(
    pickle: &'b Pickle<'a>,
    file_len: usize,
    mut storage: impl FnMut(StorageRef<'a>) -> Result<Cow<'b, [u8]>>,
) -> Result<NamedTensors> {
    let tensors = select(pickle)?;

    // Tensors may share storages. Each is fetched once, so that a small file with a million tensors over one
    // large storage stays cheap.
    let mut by_storage: BTreeMap<&str, Vec<(&str, &TensorRef)>> = BTreeMap::new();
    let mut elements_left = file_len;
    for (name, tensor) in tensors {
        let elements = tensor.layout.elements().map_err(|e| of_tensor(name, e))?;
        // Shared storages and stride 0 can describe far more elements than the file has bytes.
        elements_left = elements_left.checked_sub(elements).ok_or_else(|| {
            Error::new(
                ErrorKind::Limits,
                format!(
                    "tensor `{}`: shape {:?} brings the tensors beyond {file_len} elements, more than the file can hold",
                    printable(name),
                    tensor.layout.shape
                ),
            )
        })?;
        by_storage.entry(tensor.storage.key).or_default().push((name, tensor));
    }

    let mut bytes_left = file_len;
    let mut out = NamedTensors::new();
    for tensors in by_storage.into_values() {
        let mut fetched: Option<(StorageRef, Cow<[u8]>)> = None;
        for (name, tensor) in tensors {
            let wanted = tensor.storage;
            let bytes = match &fetched {
                Some((known, bytes)) if *known == wanted => bytes,
                // One storage has one type and one length, or the file contradicts itself.
                Some((known, _)) => {
                    return Err(Error::format(format!(
                        "tensor `{}`: expected storage `{}` of {} {:?}, found {} {:?}",
                        printable(name),
                        printable(known.key),
                        known.elements,
                        known.dtype,
                        wanted.elements,
                        wanted.dtype
                    )));
                }
                None => {
                    // Storages of one file do not overlap; in a file that pretends so, each would be read at
                    // full length.
                    bytes_left = bytes_left.checked_sub(wanted.bytes()?).ok_or_else(|| {
                        Error::format(format!(
                            "tensor `{}`: storage `{}` of {} elements brings the storages beyond the file's {file_len} bytes",
                            printable(name),
                            printable(wanted.key),
                            wanted.elements
                        ))
                    })?;
                    let bytes = storage(wanted).map_err(|e| of_tensor(name, e))?;
                    &fetched.insert((wanted, bytes)).1
                }
            };
            let data = tensor.layout.gather(wanted.dtype, bytes).map_err(|e| of_tensor(name, e))?;
            check_finite(name, &data)?;
            out.insert(name.to_owned(), Tensor::new(tensor.layout.shape.as_slice(), data)?);
        }
    }
    Ok(out)
}

/// The tensors of the state dict by name. Of equal names the last counts, as in Python.
fn select<'a, 'b>(pickle: &'b Pickle<'a>) -> Result<BTreeMap<&'a str, &'b TensorRef<'a>>> {
    let Node::Dict(root) = pickle.root() else {
        return Err(Error::format("expected a dict of tensors, found another object"));
    };
    for key in USUAL_KEYS {
        let value = root.iter().rev().find(|(k, _)| matches!(pickle.get(*k), Node::Str(k) if *k == key));
        if let Some(&(_, value)) = value {
            let tensors = tensors_in(pickle, value);
            if !tensors.is_empty() {
                return Ok(tensors);
            }
        }
    }
    let own = tensors_of(pickle, root);
    if !own.is_empty() {
        return Ok(own);
    }

    let mut found: Option<(String, BTreeMap<_, _>)> = None;
    // Each dict is looked into once, under however many keys it lies.
    let mut seen = HashSet::new();
    for &(key, value) in root.iter().filter(|(_, value)| seen.insert(*value)) {
        let tensors = tensors_in(pickle, value);
        if tensors.is_empty() {
            continue;
        }
        let key = match pickle.get(key) {
            Node::Str(key) => printable(key),
            _ => "a key that is no string".to_owned(),
        };
        if let Some((first, _)) = &found {
            return Err(Error::format(format!(
                "expected one dict of tensors, found several: `{first}`, `{key}`"
            )));
        }
        found = Some((key, tensors));
    }
    found.map(|(_, tensors)| tensors).ok_or_else(|| Error::format("expected a dict of tensors, found none"))
}

fn tensors_in<'a, 'b>(pickle: &'b Pickle<'a>, id: Id) -> BTreeMap<&'a str, &'b TensorRef<'a>> {
    match pickle.get(id) {
        Node::Dict(items) => tensors_of(pickle, items),
        _ => BTreeMap::new(),
    }
}

fn tensors_of<'a, 'b>(pickle: &'b Pickle<'a>, items: &[(Id, Id)]) -> BTreeMap<&'a str, &'b TensorRef<'a>> {
    let mut out = BTreeMap::new();
    for &(key, value) in items {
        if let (&Node::Str(key), Node::Tensor(tensor)) = (pickle.get(key), pickle.get(value)) {
            out.insert(key, &**tensor);
        }
    }
    out
}

/// Names the tensor that an error is about.
fn of_tensor(name: &str, e: Error) -> Error {
    Error::new(e.kind(), format!("tensor `{}`: {e}", printable(name)))
}
