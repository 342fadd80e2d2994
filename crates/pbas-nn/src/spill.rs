//! [`HalfStore`]: a long row of float16 numbers that lives in memory up to a limit, and beyond it in a
//! temporary file that is mapped into memory, so that a cache of features may be larger than the machine.

use std::io::{self, Write};
use std::path::Path;

use half::f16;
use memmap2::{MmapMut, MmapOptions};

use crate::{Error, ErrorKind, Result};

/// float16 numbers of a length fixed when it is made, all zero at first. The caller lays rows into it.
///
/// The temporary file has no name (on Windows: it is opened for this process alone and deleted when closed), so
/// it is gone when the store is dropped and also when the process is killed.
#[derive(Debug)]
pub struct HalfStore {
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    Memory(Vec<f16>),
    /// The map keeps the file open by itself on every platform.
    File(MmapMut),
}

impl HalfStore {
    /// A store of `len_total` numbers (2 bytes each), in memory if they take at most `memory_limit_bytes`, else in
    /// a file in the folder `dir`, or in the system's folder for temporary files. The file's whole length is
    /// written at once: a disk that is too small is found here, not in the middle of the work.
    ///
    /// Note that on some Linux systems the system's temporary folder is itself in memory.
    ///
    /// # Errors
    /// If `len_total` is more than an address space holds, memory is refused, or the file cannot be made or
    /// the disk is too small; the message says how many bytes were needed.
    pub fn with_capacity(len_total: usize, memory_limit_bytes: u64, dir: Option<&Path>) -> Result<Self> {
        // isize::MAX is the most that one slice may span.
        let bytes = len_total.checked_mul(size_of::<f16>()).filter(|&n| isize::try_from(n).is_ok());
        let Some(bytes) = bytes else {
            return Err(Error::new(
                ErrorKind::Limits,
                format!("{len_total} float16 numbers are more than an address space holds"),
            ));
        };
        let numbers = if bytes as u64 <= memory_limit_bytes {
            let mut numbers = Vec::new();
            numbers.try_reserve_exact(len_total).map_err(|_| {
                Error::new(ErrorKind::Limits, format!("no memory for {bytes} bytes of float16 numbers"))
            })?;
            numbers.resize(len_total, f16::ZERO);
            Numbers::Memory(numbers)
        } else {
            Numbers::File(map_new_file(bytes, dir)?)
        };
        Ok(Self { numbers })
    }

    /// All numbers, from the first.
    pub fn as_slice(&self) -> &[f16] {
        match &self.numbers {
            Numbers::Memory(numbers) => numbers,
            // A map begins at a page and its length is even, so the cast always succeeds.
            Numbers::File(map) => bytemuck::cast_slice(map),
        }
    }

    /// All numbers, from the first, to write to.
    pub fn as_mut_slice(&mut self) -> &mut [f16] {
        match &mut self.numbers {
            Numbers::Memory(numbers) => numbers,
            Numbers::File(map) => bytemuck::cast_slice_mut(map),
        }
    }

    /// Whether the numbers lie in a file.
    pub fn is_spilled(&self) -> bool {
        matches!(self.numbers, Numbers::File(_))
    }
}

/// Maps a new temporary file of `bytes` zeros (at least one).
fn map_new_file(bytes: usize, dir: Option<&Path>) -> Result<MmapMut> {
    let system = std::env::temp_dir();
    let folder = dir.unwrap_or(&system);
    let failed = |e: io::Error| {
        let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let what = if full { "is too small for" } else { "did not take" };
        Error::new(
            ErrorKind::Io,
            format!("folder `{}` {what} a temporary file of {bytes} bytes", folder.display()),
        )
        .with_source(e)
    };
    let mut file = tempfile::tempfile_in(folder).map_err(failed)?;
    write_zeros(&mut file, bytes).map_err(failed)?;

    // What the map below rests on: the file is as long as the map.
    let len = file.metadata().map_err(failed)?.len();
    if len != bytes as u64 {
        return Err(failed(io::Error::other(format!("expected a length of {bytes}, found {len}"))));
    }
    // SAFETY: A map is undefined behaviour where someone else changes or shortens the file under it. This file
    // was made just now, has no name (Windows: is shared with nobody), and its only handle is dropped at the
    // end of this function; the map is its only user. Its length is `bytes`, checked above, and its blocks have
    // been written, so that a full disk has been reported above and does not become a fault on first touch.
    unsafe { MmapOptions::new().len(bytes).map_mut(&file) }.map_err(failed)
}

/// Zeros written out rather than a length set: a length alone makes a sparse file, which promises no space.
fn write_zeros(out: &mut impl Write, bytes: usize) -> io::Result<()> {
    let block = vec![0u8; bytes.min(1 << 20)];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(block.len());
        out.write_all(&block[..n])?;
        left -= n;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_spilled_store_and_a_plain_vector_hold_the_same() {
        const LEN: usize = 1_500_007; // odd, and more than one block of zeros
        let dir = tempfile::tempdir().unwrap();
        let mut plain = vec![f16::ZERO; LEN];
        let mut memory = HalfStore::with_capacity(LEN, 2 * LEN as u64, None).unwrap();
        let mut file = HalfStore::with_capacity(LEN, 2 * LEN as u64 - 1, Some(dir.path())).unwrap();
        assert!(!memory.is_spilled() && file.is_spilled());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has a name");
        assert!(plain == memory.as_slice() && plain == file.as_slice(), "not zero at first");

        let mut state = 1u32;
        for _ in 0..10_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (at, value) = (state as usize % LEN, f16::from_bits((state >> 16) as u16 & 0x3fff));
            plain[at] = value;
            memory.as_mut_slice()[at] = value;
            file.as_mut_slice()[at] = value;
        }
        file.as_mut_slice()[LEN - 1] = f16::ONE;
        memory.as_mut_slice()[LEN - 1] = f16::ONE;
        plain[LEN - 1] = f16::ONE;
        assert!(plain == memory.as_slice());
        assert!(plain == file.as_slice());
    }

    #[test]
    fn an_empty_store_never_needs_a_file() {
        let store = HalfStore::with_capacity(0, 0, Some(Path::new("no such folder"))).unwrap();
        assert!(store.as_slice().is_empty() && !store.is_spilled());
    }

    #[test]
    fn a_missing_folder_is_named_with_the_size_needed() {
        let e = HalfStore::with_capacity(1000, 10, Some(Path::new("no such folder"))).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert_eq!(e.to_string(), "folder `no such folder` did not take a temporary file of 2000 bytes");
        assert!(e.source().is_some());
    }

    #[test]
    fn a_length_beyond_the_address_space_is_refused() {
        for len in [usize::MAX, usize::MAX / 2, isize::MAX as usize] {
            let e = HalfStore::with_capacity(len, u64::MAX, None).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Limits, "{len}");
        }
    }

    #[test]
    fn a_disk_that_fills_up_stops_the_writing() {
        struct Disk(usize);
        impl Write for Disk {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                let n = data.len().min(self.0);
                self.0 -= n;
                if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        write_zeros(&mut Disk(3_000_000), 3_000_000).unwrap();
        let e = write_zeros(&mut Disk(2_999_999), 3_000_000).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::StorageFull);
    }
}
