//! Reading and decoding through the `image` crate, with the limits set from the header before pixels are allocated.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::{DecodeOptions, DefectMask, Rgb8, is_picture_path, jpeg, union};
use crate::{Error, ErrorKind, Result};

const FORMATS: &str = "PNG, JPEG, BMP, TIFF or WebP";

/// Reads a picture file as 8-bit RGB (see the module for what becomes of other kinds).
///
/// # Errors
/// All name the path. `Io`: missing or unreadable; `Caller`: a folder; `Input`: empty, not a picture, damaged or cut
/// short; `Limits`: file or picture too large; `Unsupported`: a format or a kind of sample that is not read.
pub fn read_rgb(path: &Path, options: &DecodeOptions) -> Result<Rgb8> {
    read_rgb_and_bytes(path, options).map(|(picture, _)| picture)
}

/// As [`read_rgb`], with the bytes of the file, for their digest.
///
/// # Errors
/// As [`read_rgb`].
pub fn read_rgb_and_bytes(path: &Path, options: &DecodeOptions) -> Result<(Rgb8, Vec<u8>)> {
    let bytes = read_file(path, options)?;
    let picture = decode_rgb(&bytes, &path.display().to_string(), options)?;
    Ok((picture, bytes))
}

/// Decodes a picture held in memory as 8-bit RGB; `name` stands for it in errors.
///
/// # Errors
/// As [`read_rgb`], without those of the file system.
pub fn decode_rgb(bytes: &[u8], name: &str, options: &DecodeOptions) -> Result<Rgb8> {
    let picture = decode(bytes, name, options)?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Ok(Rgb8 { width, height, data: into_rgb(picture) })
}

/// As the image crate's `into_rgb8`, which takes grey and alpha through a conversion of colour spaces that leaves every value
/// as it is and takes longer than decoding.
fn into_rgb(picture: DynamicImage) -> Vec<u8> {
    fn each<const N: usize>(samples: &[u8], colour: impl Fn(&[u8; N]) -> [u8; 3]) -> Vec<u8> {
        let pixels = samples.as_chunks::<N>().0;
        let mut out = vec![0; pixels.len() * 3];
        out.as_chunks_mut::<3>().0.iter_mut().zip(pixels).for_each(|(out, pixel)| *out = colour(pixel));
        out
    }
    match picture {
        DynamicImage::ImageLuma8(p) => each::<1>(p.as_raw(), |&[v]| [v; 3]),
        DynamicImage::ImageLumaA8(p) => each::<2>(p.as_raw(), |&[v, _]| [v; 3]),
        DynamicImage::ImageRgba8(p) => each::<4>(p.as_raw(), |&[r, g, b, _]| [r, g, b]),
        other => other.into_rgb8().into_raw(),
    }
}

/// Reads a mask: a pixel is defective (1) where any of its colour channels is not zero, at the file's own bit depth;
/// alpha says nothing. A mask should not be a JPEG: the noise of its compression is not zero either. Of a folder of masks, which are
/// of one picture, a pixel is defective where any of them says so.
///
/// # Errors
/// As [`read_rgb`].
pub fn read_mask(path: &Path, options: &DecodeOptions) -> Result<DefectMask> {
    if path.is_dir() {
        return read_masks(path, options);
    }
    let bytes = read_file(path, options)?;
    let picture = decode(&bytes, &path.display().to_string(), options)?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let data = match picture {
        DynamicImage::ImageLuma8(p) => nonzero::<_, 1, 1>(p.as_raw()),
        DynamicImage::ImageLumaA8(p) => nonzero::<_, 2, 1>(p.as_raw()),
        DynamicImage::ImageRgb8(p) => nonzero::<_, 3, 3>(p.as_raw()),
        DynamicImage::ImageRgba8(p) => nonzero::<_, 4, 3>(p.as_raw()),
        DynamicImage::ImageLuma16(p) => nonzero::<_, 1, 1>(p.as_raw()),
        DynamicImage::ImageLumaA16(p) => nonzero::<_, 2, 1>(p.as_raw()),
        // 16 bits hold every value of the kinds above and of those still to come.
        other => nonzero::<_, 3, 3>(other.into_rgb16().as_raw()),
    };
    Ok(DefectMask { width, height, data })
}

/// What any mask in a folder says is defective; several masks of one picture lie so in MVTec LOCO.
fn read_masks(folder: &Path, options: &DecodeOptions) -> Result<DefectMask> {
    let mut masks = Vec::new();
    for path in masks_of(folder)? {
        masks.push(read_mask(&path, options)?);
    }
    union(&masks, folder)
}

/// The mask files of a picture, sorted: those in a folder, or the one file.
///
/// # Errors
/// A folder that cannot be read or holds no picture.
pub(crate) fn masks_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let io = |e| Error::io("cannot read folder", path, e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.retain(|p| is_picture_path(p) && !p.is_dir());
    paths.sort();
    if paths.is_empty() {
        return Err(Error::input(format!("`{}`: expected masks, found none", path.display())));
    }
    Ok(paths)
}

/// The grey values of a picture file, `[height, width]`, at 8 bits.
///
/// # Errors
/// As [`read_rgb`].
pub(super) fn read_grey(path: &Path, options: &DecodeOptions) -> Result<(usize, usize, Vec<u8>)> {
    let bytes = read_file(path, options)?;
    let picture = decode(&bytes, &path.display().to_string(), options)?;
    Ok((picture.width() as usize, picture.height() as usize, picture.into_luma8().into_raw()))
}

/// Width and height in pixels, from the header alone; turned as [`read_rgb`] turns the picture.
///
/// # Errors
/// As [`read_rgb`], as far as the header shows them.
pub fn dimensions(path: &Path, options: &DecodeOptions) -> Result<(usize, usize)> {
    let name = path.display().to_string();
    let mut file = BufReader::new(open_file(path, options)?);
    let mut head = Vec::new();
    (&mut file).take(HEAD_BYTES).read_to_end(&mut head).map_err(|e| Error::io("cannot read", path, e))?;
    file.seek(SeekFrom::Start(0)).map_err(|e| Error::io("cannot read", path, e))?;
    let (mut decoder, _) = open_picture(file, &head, &name, options)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let lies_on_its_side =
        matches!(orientation(&mut decoder, options), Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH);
    Ok(if lies_on_its_side { (height, width) } else { (width, height) })
}

/// 1 where any of the first `COLOURS` of a pixel's `CHANNELS` samples is not zero.
fn nonzero<T: Copy + PartialEq + Default, const CHANNELS: usize, const COLOURS: usize>(
    samples: &[T],
) -> Vec<u8> {
    let zero = T::default();
    samples
        .chunks_exact(CHANNELS)
        .map(|pixel| u8::from(pixel[..COLOURS].iter().any(|&v| v != zero)))
        .collect()
}

/// How much of a file's beginning is looked at to say what it is.
const HEAD_BYTES: u64 = 64;

fn open_file(path: &Path, options: &DecodeOptions) -> Result<File> {
    let io = |e| Error::io("cannot read", path, e);
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(Error::caller(format!("`{}` is a folder: expected a picture", path.display())));
    }
    check_length(metadata.len(), &path.display().to_string(), options)?;
    File::open(path).map_err(io)
}

fn read_file(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // What is not a regular file has no length beforehand; one byte beyond the limit is enough to see that it is.
    open_file(path, options)?
        .take(options.max_file_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("cannot read", path, e))?;
    Ok(bytes)
}

fn check_length(length: u64, name: &str, options: &DecodeOptions) -> Result<()> {
    if length > options.max_file_bytes {
        return Err(Error::limits(format!(
            "`{name}` is too long: expected at most {} bytes (limit max_file_bytes), found {length}",
            options.max_file_bytes
        )));
    }
    Ok(())
}

fn decode(bytes: &[u8], name: &str, options: &DecodeOptions) -> Result<DynamicImage> {
    check_length(bytes.len() as u64, name, options)?;
    let head = &bytes[..bytes.len().min(HEAD_BYTES as usize)];
    let (mut decoder, format) = open_picture(Cursor::new(bytes), head, name, options)?;
    if format == ImageFormat::Jpeg && !jpeg::reaches_end(bytes) {
        return Err(Error::input(format!("`{name}` is cut short: the JPEG data has no end marker")));
    }
    let orientation = orientation(&mut decoder, options);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| decode_error(e, name))?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// A decoder that has read the header and nothing more, after all checks that the header allows.
fn open_picture<'a, R: BufRead + Seek + 'a>(
    reader: R,
    head: &[u8],
    name: &str,
    options: &DecodeOptions,
) -> Result<(impl ImageDecoder + 'a, ImageFormat)> {
    if head.is_empty() {
        return Err(Error::input(format!("`{name}` is empty: expected a picture, found 0 bytes")));
    }
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot read `{name}`")).with_source(e))?;
    let format = reader.format().ok_or_else(|| {
        Error::input(format!("`{name}` is not a picture: expected {FORMATS}, found {}", describe(head)))
    })?;
    if !format.reading_enabled() {
        return Err(Error::unsupported(format!("`{name}`: expected {FORMATS}, found {format:?}")));
    }
    let mut limits = Limits::no_limits();
    // 8 bytes are the widest pixel that is read (16-bit RGBA); decoders need some room of their own beside it.
    limits.max_alloc = Some(options.max_pixels.saturating_mul(16).saturating_add(64 << 20));
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| decode_error(e, name))?;

    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return Err(Error::limits(format!(
            "`{name}` is too large: expected at most {} pixels (limit max_pixels), found {width} x {height}",
            options.max_pixels
        )));
    }
    if width == 0 || height == 0 {
        return Err(Error::input(format!("`{name}` has no pixels: its size is {width} x {height}")));
    }
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        // Floats have no agreed range: guessing one would change every score without a word.
        return Err(Error::unsupported(format!(
            "`{name}`: expected samples of 8 or 16 bits, found floating point"
        )));
    }
    Ok((decoder, format))
}

/// The turn that the picture asks for. EXIF data that cannot be read asks for none.
fn orientation(decoder: &mut impl ImageDecoder, options: &DecodeOptions) -> Orientation {
    if !options.apply_orientation {
        return Orientation::NoTransforms;
    }
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

fn decode_error(error: ImageError, name: &str) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match &error {
        ImageError::Limits(_) => Error::limits(format!("cannot decode `{name}` within the limit max_pixels")),
        ImageError::Unsupported(_) => Error::unsupported(format!("cannot decode `{name}`")),
        ImageError::IoError(e) if !matches!(e.kind(), UnexpectedEof | InvalidData | InvalidInput) => {
            Error::new(ErrorKind::Io, format!("cannot read `{name}`"))
        }
        _ => Error::input(format!("cannot decode `{name}`: it is damaged or cut short")),
    }
    .with_source(error)
}

/// What the beginning of a file that is no picture looks like.
fn describe(head: &[u8]) -> String {
    let text = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    if head.iter().all(text) && head.iter().any(u8::is_ascii_alphanumeric) {
        return "text".into();
    }
    let bytes: Vec<String> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("bytes {}", bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_and_alpha_become_rgb_as_the_image_crate_has_them() {
        let (width, height) = (37, 11);
        let bytes = |channels: u32| (0..width * height * channels).map(|i| (i * 31 % 256) as u8).collect();
        let kinds = [
            DynamicImage::ImageLuma8(image::ImageBuffer::from_raw(width, height, bytes(1)).unwrap()),
            DynamicImage::ImageLumaA8(image::ImageBuffer::from_raw(width, height, bytes(2)).unwrap()),
            DynamicImage::ImageRgb8(image::ImageBuffer::from_raw(width, height, bytes(3)).unwrap()),
            DynamicImage::ImageRgba8(image::ImageBuffer::from_raw(width, height, bytes(4)).unwrap()),
        ];
        for picture in kinds {
            assert_eq!(into_rgb(picture.clone()), picture.into_rgb8().into_raw());
        }
    }
}
