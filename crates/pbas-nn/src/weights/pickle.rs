//! An interpreter of the few pickle opcodes that torch's state dicts are written with.
//!
//! A pickle is a program: it may name any Python callable and call it. Here nothing is called. A name goes
//! through [`Global::named`]'s list or the file is refused, and "calling" one of the listed names builds a
//! [`Node`]. Opcodes are those of Python's `pickletools`, protocols 2 to 5, less what no state dict needs.
//!
//! Values live in one flat arena and refer to each other by index. So a pickle that nests or shares values a
//! million deep, or puts a list into itself, costs no stack, no copies and no recursion when dropped; and since
//! every opcode makes at most one node, the limit on opcodes is the limit on memory. Strings are borrowed.

use std::collections::HashMap;

use super::decode::{Dtype, Layout, MAX_AXES};
use super::printable;
use crate::{Error, ErrorKind, Result};

/// Opcodes a pickle may run, copied list items counting as one each. A WideResNet50-2 needs about 20,000.
const MAX_OPCODES: usize = 1 << 20;
/// Memo slots, and the largest memo index.
const MAX_MEMO: u32 = 1 << 20;
/// Open MARKs at any time: the depth to which containers nest while they are written.
const MAX_MARKS: usize = 256;
/// Bytes of one string.
const MAX_STRING: usize = 1 << 20;
/// Bytes of a module's or class's name.
const MAX_GLOBAL: usize = 256;

/// A node's place in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// A value that a pickle can make here.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// Something whose value no reader asks for: None, a bool, a float.
    Opaque,
    /// Up to 16 bytes, because torch's magic number has ten.
    Int(i128),
    Str(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// dict and OrderedDict, in order of writing; of equal keys the last one counts.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef<'a>),
    Tensor(Box<TensorRef<'a>>),
}

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Dtype),
}

impl Global {
    /// The allow-list.
    fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "Size") => Self::Size,
            ("torch" | "torch.cuda", storage) => Self::Storage(match storage {
                "FloatStorage" => Dtype::F32,
                "HalfStorage" => Dtype::F16,
                "BFloat16Storage" => Dtype::Bf16,
                "DoubleStorage" => Dtype::F64,
                "LongStorage" => Dtype::I64,
                "IntStorage" => Dtype::I32,
                "ShortStorage" => Dtype::I16,
                "CharStorage" => Dtype::I8,
                "ByteStorage" => Dtype::U8,
                "BoolStorage" => Dtype::Bool,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

/// A storage by its key; its bytes lie elsewhere in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StorageRef<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    /// Elements, as the pickle says.
    pub elements: usize,
}

impl StorageRef<'_> {
    /// Its length in bytes.
    ///
    /// # Errors
    /// On overflow.
    pub(super) fn bytes(&self) -> Result<usize> {
        self.elements
            .checked_mul(self.dtype.size())
            .ok_or_else(|| limit(format!("storage `{}` overflows memory", printable(self.key))))
    }
}

/// A tensor as the pickle describes it.
#[derive(Debug, Clone)]
pub(super) struct TensorRef<'a> {
    pub storage: StorageRef<'a>,
    pub layout: Layout,
}

/// A pickle's outcome.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// The object that the pickle holds.
    pub(super) fn root(&self) -> &Node<'a> {
        self.get(self.root)
    }
    /// The node at `id`.
    pub(super) fn get(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }
    /// Every storage that the pickle refers to, once for each reference.
    pub(super) fn storages(&self) -> impl Iterator<Item = StorageRef<'a>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(*storage),
            _ => None,
        })
    }
}

/// Runs the pickle at the start of `bytes`; returns it and the count of bytes it takes.
///
/// # Errors
/// If the bytes end early, an opcode is unknown or misused, a limit is passed, or a name is not on the list.
pub(super) fn unpickle(bytes: &[u8]) -> Result<(Pickle<'_>, usize)> {
    let mut machine = Machine {
        bytes,
        at: 0,
        opcodes: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run().map_err(|e| {
        // The place helps with a damaged file; a refused name speaks for itself.
        if e.kind() == ErrorKind::Unsupported {
            return e;
        }
        Error::new(e.kind(), format!("pickle, byte {}: {e}", machine.at))
    })?;
    Ok((Pickle { nodes: machine.nodes, root }, machine.at))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    opcodes: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Stack heights at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id> {
        loop {
            self.count(1)?;
            let [opcode] = self.array()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => match self.array()? {
                [2..=5] => {}
                [v] => return Err(Error::format(format!("expected pickle protocol 2 to 5, found {v}"))),
            },
            0x95 => drop(self.array::<8>()?), // FRAME: only a hint for readers that buffer
            b'(' => {
                if self.marks.len() == MAX_MARKS {
                    return Err(limit(format!("containers nest deeper than {MAX_MARKS}")));
                }
                self.marks.push(self.stack.len());
            }
            b'N' | 0x88 | 0x89 => self.push(Node::Opaque),
            b'G' => {
                self.array::<8>()?; // BINFLOAT
                self.push(Node::Opaque);
            }
            b'K' => {
                let [v] = self.array()?;
                self.push(Node::Int(v.into()));
            }
            b'M' => {
                let v = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(v.into()));
            }
            b'J' => {
                let v = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(v.into()));
            }
            0x8a => self.long1()?,
            0x8c | b'U' => {
                let [len] = self.array()?;
                self.string(len.into())?;
            }
            b'X' | b'T' => {
                let len = u32::from_le_bytes(self.array()?);
                self.string(len.into())?;
            }
            0x8d => {
                let len = u64::from_le_bytes(self.array()?);
                self.string(len)?;
            }
            b')' => self.push(Node::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.take_last(usize::from(opcode - 0x84))?;
                self.push(Node::Tuple(items));
            }
            b't' => {
                let items = self.take_marked()?;
                self.push(Node::Tuple(items));
            }
            b']' => self.push(Node::List(Vec::new())),
            b'a' => {
                let items = self.take_last(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.take_marked()?;
                self.append(items)?;
            }
            b'}' => self.push(Node::Dict(Vec::new())),
            b's' => {
                let items = self.take_last(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.take_marked()?;
                self.set_items(&items)?;
            }
            b'q' => {
                let [slot] = self.array()?;
                self.memoise(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.memoise(slot)?;
            }
            // MEMOIZE takes the next free slot; the memo is never longer than the opcodes that filled it.
            0x94 => self.memoise(self.memo.len() as u32)?,
            b'h' => {
                let [slot] = self.array()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let pair = self.take_last(2)?;
                match (self.node(pair[0]), self.node(pair[1])) {
                    (&Node::Str(module), &Node::Str(name)) => self.global(module, name)?,
                    _ => return Err(Error::format("expected a module and a name, both strings")),
                }
            }
            b'Q' => self.persistent()?,
            // NEWOBJ makes an object as REDUCE does: class, then arguments.
            b'R' | 0x81 => self.reduce()?,
            b'b' => {
                // torch sets `_metadata` on the OrderedDict of a state dict; attributes hold no weights.
                self.pop()?;
                let target = self.top()?;
                if !matches!(self.node(target), Node::Dict(_)) {
                    return Err(Error::format("expected attributes on a dict alone, found another object's"));
                }
            }
            _ => {
                return Err(Error::format(format!("opcode {opcode:#04x} is none that a state dict needs")));
            }
        }
        Ok(())
    }

    fn count(&mut self, work: usize) -> Result<()> {
        self.opcodes = self.opcodes.saturating_add(work);
        if self.opcodes > MAX_OPCODES {
            return Err(limit(format!("more than {MAX_OPCODES} steps")));
        }
        Ok(())
    }

    fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    fn push(&mut self, node: Node<'a>) {
        // No more nodes than opcodes, so the index fits.
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(node);
        self.stack.push(id);
    }

    /// The stack above the last open MARK is all that an opcode may take.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        self.stack[self.floor()..].last().copied().ok_or_else(underflow)
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn take_last(&mut self, n: usize) -> Result<Vec<Id>> {
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= self.floor() => Ok(self.stack.split_off(from)),
            _ => Err(underflow()),
        }
    }

    fn take_marked(&mut self) -> Result<Vec<Id>> {
        let from = self.marks.pop().ok_or_else(|| Error::format("no mark is open"))?;
        // `pop` and `take_last` never go below an open mark, so `from` is within the stack.
        Ok(self.stack.split_off(from))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let taken = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| Error::format("the bytes end within the pickle"))?;
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn text(bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|_| Error::format("expected UTF-8 in a string, found other bytes"))
    }

    fn string(&mut self, len: u64) -> Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_STRING {
            return Err(limit(format!("a string of {len} bytes, more than {MAX_STRING}")));
        }
        let text = Self::text(self.take(len)?)?;
        self.push(Node::Str(text));
        Ok(())
    }

    /// Up to the next newline, which GLOBAL ends its two names with.
    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let window = &rest[..rest.len().min(MAX_GLOBAL)];
        let len = window.iter().position(|&b| b == b'\n').ok_or_else(|| {
            Error::format(format!("expected a name of at most {MAX_GLOBAL} bytes, found no end of it"))
        })?;
        let line = self.take(len + 1)?;
        Self::text(&line[..len])
    }

    fn long1(&mut self) -> Result<()> {
        let [len] = self.array()?;
        let digits = self.take(len.into())?;
        let mut wide = [0; 16];
        if digits.len() > wide.len() {
            return Err(limit(format!("an integer of {len} bytes, more than {}", wide.len())));
        }
        // Little-endian two's complement: the top byte's sign fills what is missing.
        if digits.last().is_some_and(|b| b & 0x80 != 0) {
            wide = [0xff; 16];
        }
        wide[..digits.len()].copy_from_slice(digits);
        self.push(Node::Int(i128::from_le_bytes(wide)));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let target = self.top()?;
        match &mut self.nodes[target.0 as usize] {
            Node::List(list) => list.extend(items),
            _ => return Err(Error::format("expected a list to append to")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        let target = self.top()?;
        let (pairs, odd) = items.as_chunks::<2>();
        match &mut self.nodes[target.0 as usize] {
            Node::Dict(dict) if odd.is_empty() => dict.extend(pairs.iter().map(|&[k, v]| (k, v))),
            _ => return Err(Error::format("expected a dict and pairs to put into it")),
        }
        Ok(())
    }

    fn memoise(&mut self, slot: u32) -> Result<()> {
        if slot >= MAX_MEMO {
            return Err(limit(format!("memo slot {slot}, expected below {MAX_MEMO}")));
        }
        let id = self.top()?;
        self.memo.insert(slot, id);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<()> {
        let id = *self.memo.get(&slot).ok_or_else(|| Error::format(format!("memo slot {slot} is empty")))?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let global = Global::named(module, name).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "wants `{}.{}`; expected tensors and plain containers alone, nothing was run",
                    printable(module),
                    printable(name)
                ),
            )
        })?;
        self.push(Node::Global(global));
        Ok(())
    }

    /// BINPERSID: `("storage", storage class, key, device, elements[, view])`.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let wrong = || Error::format("expected a storage's description, found another persistent id");
        let Node::Tuple(fields) = self.node(id) else { return Err(wrong()) };
        let &[tag, class, key, _device, elements, ref view @ ..] = fields.as_slice() else {
            return Err(wrong());
        };
        let (Node::Str("storage"), &Node::Global(Global::Storage(dtype)), &Node::Str(key)) =
            (self.node(tag), self.node(class), self.node(key))
        else {
            return Err(wrong());
        };
        if view.iter().any(|&v| !matches!(self.node(v), Node::Opaque)) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "storages that are views of storages (torch 0.3 and earlier) are not read",
            ));
        }
        let storage = StorageRef { key, dtype, elements: self.size(elements)? };
        self.push(Node::Storage(storage));
        Ok(())
    }

    fn reduce(&mut self) -> Result<()> {
        let pair = self.take_last(2)?;
        let (&Node::Global(global), Node::Tuple(args)) = (self.node(pair[0]), self.node(pair[1])) else {
            return Err(Error::format("expected a known name and a tuple of arguments"));
        };
        match (global, args.as_slice()) {
            (Global::OrderedDict, []) => self.push(Node::Dict(Vec::new())),
            (Global::OrderedDict, &[pairs]) => {
                let pairs = self.pairs(pairs)?;
                self.count(pairs.len())?;
                self.push(Node::Dict(pairs));
            }
            // requires_grad, backward hooks and metadata follow; none of them holds weights.
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let &Node::Storage(storage) = self.node(storage) else {
                    return Err(Error::format("expected a tensor over a storage"));
                };
                let layout = Layout {
                    offset: self.size(offset)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                self.push(Node::Tensor(Box::new(TensorRef { storage, layout })));
            }
            (Global::RebuildParameter, &[tensor, ..]) if matches!(self.node(tensor), Node::Tensor(_)) => {
                self.stack.push(tensor);
            }
            (Global::Size, &[sizes]) if matches!(self.node(sizes), Node::Tuple(_)) => self.stack.push(sizes),
            _ => return Err(Error::format(format!("arguments that {global:?} does not take"))),
        }
        Ok(())
    }

    /// The pairs of `OrderedDict([[k, v], ...])`, as Python 2 wrote it.
    fn pairs(&self, id: Id) -> Result<Vec<(Id, Id)>> {
        let wrong = || Error::format("expected a list of pairs");
        let Node::List(items) = self.node(id) else { return Err(wrong()) };
        if items.len() > MAX_OPCODES - self.opcodes {
            return Err(limit(format!("more than {MAX_OPCODES} steps")));
        }
        items
            .iter()
            .map(|&item| match self.node(item) {
                Node::Tuple(pair) | Node::List(pair) => match pair.as_slice() {
                    &[k, v] => Ok((k, v)),
                    _ => Err(wrong()),
                },
                _ => Err(wrong()),
            })
            .collect()
    }

    fn size(&self, id: Id) -> Result<usize> {
        match self.node(id) {
            Node::Int(v) => usize::try_from(*v)
                .map_err(|_| Error::format(format!("expected a count that memory can hold, found {v}"))),
            _ => Err(Error::format("expected an integer")),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>> {
        match self.node(id) {
            Node::Tuple(items) if items.len() <= MAX_AXES => {
                items.iter().map(|&item| self.size(item)).collect()
            }
            _ => Err(Error::format(format!("expected a tuple of at most {MAX_AXES} integers"))),
        }
    }
}

fn underflow() -> Error {
    Error::format("an opcode wants more values than there are")
}

fn limit(message: String) -> Error {
    Error::new(ErrorKind::Limits, message)
}
