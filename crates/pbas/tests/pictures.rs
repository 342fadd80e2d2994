//! Pictures in: every kind that is read, and every kind of damage that must be an error.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba,
};
use pbas::ErrorKind;
use pbas::image::{DecodeOptions, Rgb8, decode_rgb, dimensions, is_picture_path, read_mask, read_rgb};
use tempfile::TempDir;

const DEFAULT: DecodeOptions =
    DecodeOptions { apply_orientation: true, max_pixels: 100_000_000, max_file_bytes: 512 << 20 };

/// A picture of no symmetry, so that every turn and every swap of channels shows.
fn colours(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7 + y) as u8, (y * 11 + 3) as u8, (x * y + 90) as u8]))
}

/// A picture whose encoded form stays long enough to be cut in half.
fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 20) as u8])
    })
}

fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// The kind, after checking that the message names the file and holds `part`.
fn refusal(path: &Path, part: &str) -> ErrorKind {
    let e = read_rgb(path, &DEFAULT).expect_err(part);
    let text = e.to_string();
    assert!(text.contains(&*path.file_name().unwrap().to_string_lossy()), "`{text}` does not name the file");
    assert!(text.contains(part), "`{text}` does not say `{part}`");
    e.kind()
}

/// One PNG chunk.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = !0_u32;
    for &byte in kind.iter().chain(data) {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &(!crc).to_be_bytes()].concat()
}

fn png(width: u32, height: u32, bits: u8, colour: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[bits, colour, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunks.concat(), chunk(b"IEND", &[])].concat()
}

/// A zlib stream of one stored block.
fn stored(data: &[u8]) -> Vec<u8> {
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in data {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    let length = data.len() as u16;
    [
        &[0x78, 0x01, 0x01][..],
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        data,
        &((b << 16) | a).to_be_bytes(),
    ]
    .concat()
}

#[test]
fn lossless_formats_give_back_their_pixels_whatever_the_extension() {
    let folder = TempDir::new().unwrap();
    let picture = colours(13, 7);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
        let path = file(&folder, "wrong.jpg", &encode(picture.clone(), format));
        let read = read_rgb(&path, &DEFAULT).unwrap();
        assert_eq!((read.width, read.height), (13, 7), "{format:?}");
        assert_eq!(read.data, *picture.as_raw(), "{format:?}");
        assert_eq!(dimensions(&path, &DEFAULT).unwrap(), (13, 7), "{format:?}");
    }
}

#[test]
fn jpeg_is_read() {
    let picture = RgbImage::from_pixel(24, 16, Rgb([200, 40, 90]));
    let read = decode_rgb(&encode(picture, ImageFormat::Jpeg), "x.jpg", &DEFAULT).unwrap();
    assert_eq!((read.width, read.height), (24, 16));
    assert!(
        read.data
            .chunks_exact(3)
            .all(|p| p[0].abs_diff(200) < 4 && p[1].abs_diff(40) < 4 && p[2].abs_diff(90) < 4)
    );
}

#[test]
fn grey_16_bit_and_alpha_become_rgb8() {
    let grey = encode(GrayImage::from_raw(2, 1, vec![5, 250]).unwrap(), ImageFormat::Png);
    assert_eq!(decode_rgb(&grey, "grey", &DEFAULT).unwrap().data, [5, 5, 5, 250, 250, 250]);

    // 16 bits: value / 257, rounded; 128 is just below one half, 129 just above.
    let wide = ImageBuffer::<Luma<u16>, _>::from_raw(5, 1, vec![0, 128, 129, 257 * 77, 65535]).unwrap();
    let read = decode_rgb(&encode(wide, ImageFormat::Png), "wide", &DEFAULT).unwrap();
    assert_eq!(read.data, [0, 0, 1, 77, 255].map(|v| [v; 3]).concat());

    let wide = ImageBuffer::<Rgb<u16>, _>::from_raw(1, 1, vec![257, 514, 257 * 3]).unwrap();
    assert_eq!(decode_rgb(&encode(wide, ImageFormat::Tiff), "wide", &DEFAULT).unwrap().data, [1, 2, 3]);

    let alpha = ImageBuffer::<Rgba<u8>, _>::from_raw(2, 1, vec![9, 8, 7, 0, 1, 2, 3, 128]).unwrap();
    assert_eq!(
        decode_rgb(&encode(alpha, ImageFormat::Png), "alpha", &DEFAULT).unwrap().data,
        [9, 8, 7, 1, 2, 3]
    );
}

#[test]
fn palette_and_single_bits_are_expanded() {
    // Two bits a pixel, indices 2 0 1 3.
    let palette = chunk(b"PLTE", &[10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3]);
    let bytes = png(4, 1, 2, 3, &[palette, chunk(b"IDAT", &stored(&[0, 0b10_00_01_11]))]);
    let read = decode_rgb(&bytes, "palette", &DEFAULT).unwrap();
    assert_eq!(read.data, [70, 80, 90, 10, 20, 30, 40, 50, 60, 1, 2, 3]);

    let bytes = png(3, 1, 1, 0, &[chunk(b"IDAT", &stored(&[0, 0b1010_0000]))]);
    assert_eq!(decode_rgb(&bytes, "bits", &DEFAULT).unwrap().data, [255, 255, 255, 0, 0, 0, 255, 255, 255]);
}

#[test]
fn floating_point_samples_are_refused() {
    let mut bytes = Cursor::new(Vec::new());
    let values: Vec<u8> = [0.5_f32, 40.0, 300.0].iter().flat_map(|v| v.to_ne_bytes()).collect();
    image::write_buffer_with_format(&mut bytes, &values, 1, 1, ExtendedColorType::Rgb32F, ImageFormat::Tiff)
        .unwrap();
    let e = decode_rgb(bytes.get_ref(), "float.tif", &DEFAULT).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("`float.tif`: expected samples of 8 or 16 bits"), "{e}");
}

#[test]
fn exif_orientation_turns_the_picture_unless_told_not_to() {
    // Left half dark, right half bright; 32 x 16.
    let flat = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 20 } else { 230 }; 3]));
    let plain = encode(flat, ImageFormat::Jpeg);
    // (orientation, size, where the bright half lies after it: x, y of a pixel)
    let cases = [
        (1_u8, (32, 16), (28, 8)),
        (3, (32, 16), (3, 8)),
        (6, (16, 32), (8, 28)),
        (8, (16, 32), (8, 3)),
        (2, (32, 16), (3, 8)),
    ];
    let folder = TempDir::new().unwrap();
    for (orientation, size, bright) in cases {
        // An APP1 segment by hand: "Exif", a big-endian TIFF header, one directory entry (0x0112, SHORT, count 1).
        let tiff =
            [&b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], b"\0\0\0\0\0\0"]
                .concat();
        let length = (2 + 6 + tiff.len()) as u16;
        let app1 = [&[0xFF, 0xE1][..], &length.to_be_bytes(), b"Exif\0\0", &tiff].concat();
        let path = file(&folder, "turned.jpg", &[&plain[..2], &app1, &plain[2..]].concat());

        let turned = read_rgb(&path, &DEFAULT).unwrap();
        assert_eq!((turned.width, turned.height), size, "orientation {orientation}");
        let value = turned.data[(bright.1 * turned.width + bright.0) * 3];
        assert!(value > 200, "orientation {orientation}: {value}");
        assert_eq!(dimensions(&path, &DEFAULT).unwrap(), size, "orientation {orientation}");

        let as_stored = DecodeOptions { apply_orientation: false, ..DEFAULT };
        let stored = read_rgb(&path, &as_stored).unwrap();
        assert_eq!((stored.width, stored.height), (32, 16));
        assert!(stored.data[(8 * 32 + 28) * 3] > 200);
        assert_eq!(dimensions(&path, &as_stored).unwrap(), (32, 16));
    }
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let kind = refusal(
        &file(&folder, "notes.png", b"not a picture at all\n"),
        "is not a picture: expected PNG, JPEG, BMP, TIFF or WebP, found text",
    );
    assert_eq!(kind, ErrorKind::Input);
    let kind = refusal(&file(&folder, "bytes.png", &[0, 1, 2, 3, 0xFF]), "found bytes 00 01 02 03 ff");
    assert_eq!(kind, ErrorKind::Input);
    assert_eq!(refusal(&file(&folder, "nothing.png", b""), "is empty"), ErrorKind::Input);
    assert_eq!(
        refusal(&file(&folder, "moving.png", b"GIF89a\x01\0\x01\0\0\0\0"), "found Gif"),
        ErrorKind::Unsupported
    );
    assert_eq!(refusal(&folder.path().join("missing.png"), "cannot read"), ErrorKind::Io);

    fs::create_dir(folder.path().join("folder.png")).unwrap();
    assert_eq!(refusal(&folder.path().join("folder.png"), "is a folder"), ErrorKind::Caller);

    for name in ["notes.png", "nothing.png", "missing.png", "folder.png"] {
        let path = folder.path().join(name);
        assert!(dimensions(&path, &DEFAULT).unwrap_err().to_string().contains(name));
        assert!(read_mask(&path, &DEFAULT).unwrap_err().to_string().contains(name));
    }
}

#[cfg(unix)]
#[test]
fn unreadable_files_are_an_io_error() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = TempDir::new().unwrap();
    // A link to itself can be opened by nobody, not even by root.
    let path = folder.path().join("loop.png");
    symlink(&path, &path).unwrap();
    assert_eq!(refusal(&path, "cannot read"), ErrorKind::Io);

    let path = file(&folder, "locked.png", &encode(colours(4, 4), ImageFormat::Png));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    match fs::File::open(&path) {
        Ok(_) => assert!(read_rgb(&path, &DEFAULT).is_ok(), "root reads it all the same"),
        Err(_) => assert_eq!(refusal(&path, "cannot read"), ErrorKind::Io),
    }
}

#[test]
fn files_cut_short_are_refused_wherever_they_are_cut() {
    let folder = TempDir::new().unwrap();
    let formats =
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP];
    for format in formats {
        let whole = encode(noise(64, 48), format);
        assert!(decode_rgb(&whole, "whole", &DEFAULT).is_ok(), "{format:?}");
        for tenths in 1..10 {
            let path = file(&folder, "cut.img", &whole[..whole.len() * tenths / 10]);
            let e = read_rgb(&path, &DEFAULT).expect_err(&format!("{format:?} cut at {tenths} tenths"));
            assert_eq!(e.kind(), ErrorKind::Input, "{format:?} cut at {tenths} tenths: {e}");
            assert!(e.to_string().contains("cut.img") && e.to_string().contains("cut short"), "{e}");
        }
    }
    // The end marker alone is missing.
    let jpeg = encode(noise(64, 48), ImageFormat::Jpeg);
    assert_eq!(
        refusal(&file(&folder, "end.jpg", &jpeg[..jpeg.len() - 2]), "no end marker"),
        ErrorKind::Input
    );
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let folder = TempDir::new().unwrap();
    // 60,000 x 60,000 RGB would be 10.8 GB.
    let bomb = file(&folder, "bomb.png", &png(60_000, 60_000, 8, 2, &[chunk(b"IDAT", &stored(&[0; 64]))]));
    assert_eq!(
        refusal(&bomb, "expected at most 100000000 pixels (limit max_pixels), found 60000 x 60000"),
        ErrorKind::Limits
    );
    assert_eq!(dimensions(&bomb, &DEFAULT).unwrap_err().kind(), ErrorKind::Limits);
    assert_eq!(read_mask(&bomb, &DEFAULT).unwrap_err().kind(), ErrorKind::Limits);

    // The limit itself is allowed, one pixel fewer is not; in every format.
    for format in
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP]
    {
        let bytes = encode(colours(10, 6), format);
        assert!(decode_rgb(&bytes, "x", &DecodeOptions { max_pixels: 60, ..DEFAULT }).is_ok(), "{format:?}");
        let e = decode_rgb(&bytes, "x", &DecodeOptions { max_pixels: 59, ..DEFAULT }).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limits, "{format:?}");
    }

    let path = file(&folder, "long.png", &encode(colours(10, 6), ImageFormat::Png));
    let length = fs::metadata(&path).unwrap().len();
    assert!(read_rgb(&path, &DecodeOptions { max_file_bytes: length, ..DEFAULT }).is_ok());
    let e = read_rgb(&path, &DecodeOptions { max_file_bytes: length - 1, ..DEFAULT }).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limits);
    assert!(e.to_string().contains("long.png") && e.to_string().contains("max_file_bytes"), "{e}");
}

#[test]
fn masks_are_defective_wherever_a_colour_is_not_zero() {
    let folder = TempDir::new().unwrap();
    let mask = |bytes: Vec<u8>| read_mask(&file(&folder, "mask.png", &bytes), &DEFAULT).unwrap();

    let grey = mask(encode(GrayImage::from_raw(2, 2, vec![0, 1, 255, 0]).unwrap(), ImageFormat::Png));
    assert_eq!((grey.width, grey.height, grey.data), (2, 2, vec![0, 1, 1, 0]));
    let rgb = RgbImage::from_raw(4, 1, vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]).unwrap();
    assert_eq!(mask(encode(rgb, ImageFormat::Png)).data, [0, 1, 1, 1]);
    // Opaque everywhere, as most programs save: alpha is no defect.
    let rgba = ImageBuffer::<Rgba<u8>, _>::from_raw(2, 1, vec![0, 0, 0, 255, 0, 0, 7, 255]).unwrap();
    assert_eq!(mask(encode(rgba, ImageFormat::Png)).data, [0, 1]);
    let grey_alpha = ImageBuffer::<image::LumaA<u8>, _>::from_raw(2, 1, vec![0, 255, 9, 0]).unwrap();
    assert_eq!(mask(encode(grey_alpha, ImageFormat::Png)).data, [0, 1]);
    // The lowest bit of 16, which 8 bits would round away.
    let wide = ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, vec![0, 1]).unwrap();
    assert_eq!(mask(encode(wide, ImageFormat::Png)).data, [0, 1]);
    let wide = ImageBuffer::<Rgba<u16>, _>::from_raw(2, 1, vec![0, 0, 0, 65535, 0, 1, 0, 0]).unwrap();
    assert_eq!(mask(encode(wide, ImageFormat::Png)).data, [0, 1]);
}

#[test]
fn picture_paths_go_by_extension_in_any_case() {
    for name in ["a.png", "a.JPG", "a.Jpeg", "a.bmp", "a.tif", "a.TIFF", "x/y.z.webp"] {
        assert!(is_picture_path(Path::new(name)), "{name}");
    }
    for name in ["a", "png", ".png", "a.gif", "a.png.txt", "a.pn"] {
        assert!(!is_picture_path(Path::new(name)), "{name}");
    }
}

#[test]
fn written_png_is_read_back_and_bad_ones_are_not_written() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.png");
    let picture = Rgb8 { width: 5, height: 3, data: colours(5, 3).into_raw() };
    picture.write_png(&path).unwrap();
    assert_eq!(read_rgb(&path, &DEFAULT).unwrap(), picture);

    let missing = folder.path().join("missing").join("out.png");
    let e = picture.write_png(&missing).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.to_string().contains("out.png"));

    for (width, height, length) in [(5, 3, 44), (0, 3, 0), (usize::MAX, 2, 6)] {
        let bad = Rgb8 { width, height, data: vec![0; length] };
        assert_eq!(bad.write_png(&folder.path().join("bad.png")).unwrap_err().kind(), ErrorKind::Caller);
    }
    assert!(!folder.path().join("bad.png").exists());
}
