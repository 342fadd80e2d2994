//! Input tensors -> pictures.

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pbas::image::Rgb8;

use super::wire::{InputTensor, Parsed};
use crate::serve::refusal::Refusal;
use crate::serve::work::Picture;

/// Name of the input.
pub const INPUT: &str = "image";
/// What the input may be beside picture files.
pub const ALSO: &str = "UINT8 or FP32 [-1,-1,-1,3] or [-1,-1,3] (rows of pixels of R, G, B), [-1,3,-1,-1] or [3,-1,-1] (planes); whole numbers 0 to 255";

/// Bytes of the length before each element of a binary BYTES tensor.
const PREFIX: usize = 4;

/// How pixels lie in a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    count: usize,
    height: usize,
    width: usize,
    /// R, G and B of a pixel side by side; otherwise three planes.
    interleaved: bool,
}

/// The pictures of a request, at most `most`, each of at most `pixels` pixels.
///
/// # Errors
/// Inputs that are not one tensor `image` of pictures within the limits.
pub fn pictures(request: &Parsed, most: usize, pixels: u64) -> Result<Vec<Picture>, Refusal> {
    let [input] = &request.head.inputs[..] else {
        return Err(Refusal::request(format!(
            "expected one input `{INPUT}`, found {} inputs",
            request.head.inputs.len()
        )));
    };
    if input.name != INPUT {
        return Err(Refusal::request(format!("expected one input `{INPUT}`, found `{}`", input.name)));
    }
    let binary = request.binary.first().cloned().flatten();
    if binary.is_none() && input.data.is_none() {
        return Err(Refusal::request(format!(
            "input `{INPUT}`: expected `data` or `binary_data_size`, found neither"
        )));
    }
    match input.datatype.as_str() {
        "BYTES" => files(input, binary, most),
        "UINT8" | "FP32" => {
            let layout = layout(&input.shape, pixels)?;
            check_count(layout.count, most)?;
            let bytes = levels(input, binary, layout)?;
            Ok(bytes
                .chunks_exact(3 * layout.height * layout.width)
                .map(|c| Picture::Decoded(picture(c, layout)))
                .collect())
        }
        other => {
            Err(Refusal::request(format!("input `{INPUT}`: expected BYTES, UINT8 or FP32, found `{other}`")))
        }
    }
}

fn check_count(count: usize, most: usize) -> Result<(), Refusal> {
    if count == 0 {
        return Err(Refusal::request(format!("input `{INPUT}`: expected at least one picture, found none")));
    }
    if count > most {
        return Err(Refusal::too_large(format!("expected at most {most} pictures a request, found {count}")));
    }
    Ok(())
}

/// Picture files.
fn files(input: &InputTensor, binary: Option<Bytes>, most: usize) -> Result<Vec<Picture>, Refusal> {
    let said = product(&input.shape)
        .ok_or_else(|| Refusal::request(format!("input `{INPUT}`: the shape is too large")))?;
    check_count(said, most)?;
    let files: Vec<Bytes> = match (binary, &input.data) {
        (Some(bytes), _) => elements(&bytes, most)?,
        (None, Some(data)) if data.numbers.is_empty() => {
            let decode = |text: &String| {
                STANDARD.decode(text).map(Bytes::from).map_err(|e| {
                    Refusal::request(format!("input `{INPUT}`: expected picture files in base64: {e}"))
                        .with_hint("or send them in binary, with `binary_data_size`")
                })
            };
            data.texts.iter().map(decode).collect::<Result<_, _>>()?
        }
        (None, _) => {
            return Err(Refusal::request(format!(
                "input `{INPUT}`: expected texts in base64, found numbers"
            )));
        }
    };
    if files.len() != said {
        return Err(Refusal::request(format!(
            "input `{INPUT}`: expected {said} elements as its shape says, found {}",
            files.len()
        )));
    }
    Ok(files.into_iter().map(Picture::Encoded).collect())
}

/// The elements of a binary BYTES tensor: a length of four bytes, the lowest first, before each.
fn elements(bytes: &Bytes, most: usize) -> Result<Vec<Bytes>, Refusal> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if found.len() == most {
            return Err(Refusal::too_large(format!(
                "expected at most {most} pictures a request, found more"
            )));
        }
        let length = bytes.get(at..at + PREFIX).and_then(|l| l.try_into().ok()).map(u32::from_le_bytes);
        let end =
            length.and_then(|l| (at + PREFIX).checked_add(l as usize)).filter(|&end| end <= bytes.len());
        let Some(end) = end else {
            return Err(Refusal::request(format!(
                "input `{INPUT}`: element {} is cut short: expected a length of four bytes and as many bytes",
                found.len()
            )));
        };
        found.push(bytes.slice(at + PREFIX..end));
        at = end;
    }
    Ok(found)
}

fn product(shape: &[u64]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |total, &side| total.checked_mul(usize::try_from(side).ok()?))
}

fn layout(shape: &[u64], pixels: u64) -> Result<Layout, Refusal> {
    let unfit = || {
        Refusal::request(format!(
            "input `{INPUT}`: expected a shape [h, w, 3], [3, h, w], or one of these with n before; found {shape:?}"
        ))
    };
    let (count, sides) = match *shape {
        [a, b, c] => (1, [a, b, c]),
        [n, a, b, c] => (n, [a, b, c]),
        _ => return Err(unfit()),
    };
    let (height, width, interleaved) = match sides {
        [h, w, 3] => (h, w, true),
        [3, h, w] => (h, w, false),
        _ => return Err(unfit()),
    };
    if height == 0 || width == 0 {
        return Err(unfit());
    }
    if height.checked_mul(width).is_none_or(|n| n > pixels) {
        return Err(Refusal::too_large(format!(
            "expected at most {pixels} pixels a picture, found {width} x {height}"
        )));
    }
    let side = |n: u64| usize::try_from(n).map_err(|_| unfit());
    Ok(Layout { count: side(count)?, height: side(height)?, width: side(width)?, interleaved })
}

/// Grey levels as bytes, in the tensor's order.
fn levels(input: &InputTensor, binary: Option<Bytes>, layout: Layout) -> Result<Bytes, Refusal> {
    let expected = layout.count.checked_mul(3 * layout.height * layout.width);
    let check = |found: usize| {
        if expected == Some(found) {
            return Ok(());
        }
        let expected = expected.map_or_else(|| "fewer".to_owned(), |n| n.to_string());
        Err(Refusal::request(format!(
            "input `{INPUT}`: expected {expected} numbers as its shape says, found {found}"
        )))
    };
    let not_levels = || {
        Refusal::request(format!("input `{INPUT}`: expected whole numbers from 0 to 255, found others"))
            .with_hint("pixels are not scaled: send grey levels as they are in the file")
    };
    match (binary, &input.data) {
        (Some(bytes), _) if input.datatype == "UINT8" => {
            check(bytes.len())?;
            Ok(bytes)
        }
        (Some(bytes), _) => {
            check(bytes.len() / size_of::<f32>())?;
            if bytes.len() % size_of::<f32>() != 0 {
                return Err(Refusal::request(format!(
                    "input `{INPUT}`: expected four bytes a number, found {} in all",
                    bytes.len()
                )));
            }
            let level = |b: &[u8]| level(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            bytes
                .chunks_exact(4)
                .map(level)
                .collect::<Option<Vec<u8>>>()
                .map(Bytes::from)
                .ok_or_else(not_levels)
        }
        (None, Some(data)) if data.texts.is_empty() => {
            check(data.numbers.len())?;
            if data.beyond_bytes {
                return Err(not_levels());
            }
            Ok(data.numbers.iter().map(|&v| v as u8).collect::<Vec<u8>>().into())
        }
        (None, _) => Err(Refusal::request(format!("input `{INPUT}`: expected numbers, found texts"))),
    }
}

fn level(v: f32) -> Option<u8> {
    ((0.0..=255.0).contains(&v) && v.fract() == 0.0).then_some(v as u8)
}

/// A picture from its levels.
fn picture(levels: &[u8], layout: Layout) -> Rgb8 {
    let Layout { height, width, interleaved, .. } = layout;
    let data = if interleaved {
        levels.to_vec()
    } else {
        let plane = height * width;
        (0..plane).flat_map(|i| [levels[i], levels[plane + i], levels[2 * plane + i]]).collect()
    };
    Rgb8 { width, height, data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::oip::wire::parse;

    /// The pictures of a JSON head and what follows it.
    fn of(head: &str, tail: &[u8]) -> Result<Vec<Picture>, Refusal> {
        let body = Bytes::from([head.as_bytes(), tail].concat());
        pictures(&parse(&body, Some(head.len()))?, 4, 100)
    }

    fn input(datatype: &str, shape: &str, rest: &str) -> String {
        format!(r#"{{"inputs":[{{"name":"image","datatype":"{datatype}","shape":{shape},{rest}}}]}}"#)
    }

    fn binary(size: usize) -> String {
        format!(r#""parameters":{{"binary_data_size":{size}}}"#)
    }

    #[track_caller]
    fn pixels(found: Result<Vec<Picture>, Refusal>) -> Vec<Rgb8> {
        let one = |p| match p {
            Picture::Decoded(p) => p,
            Picture::Encoded(_) => panic!("expected pixels"),
        };
        found.unwrap().into_iter().map(one).collect()
    }

    #[test]
    fn pixels_in_every_way_are_the_same_picture() {
        let data: Vec<u8> = vec![1, 2, 3, 4, 5, 6];
        let expected = vec![Rgb8 { width: 2, height: 1, data: data.clone() }];
        let floats: Vec<u8> = data.iter().flat_map(|&v| f32::from(v).to_le_bytes()).collect();
        assert_eq!(pixels(of(&input("UINT8", "[1,2,3]", r#""data":[1,2,3,4,5,6]"#), b"")), expected);
        assert_eq!(
            pixels(of(&input("UINT8", "[1,1,2,3]", r#""data":[[[[1,2,3],[4,5,6]]]]"#), b"")),
            expected
        );
        assert_eq!(pixels(of(&input("FP32", "[1,2,3]", r#""data":[1.0,2,3,4,5,6]"#), b"")), expected);
        assert_eq!(pixels(of(&input("UINT8", "[3,1,2]", r#""data":[1,4,2,5,3,6]"#), b"")), expected);
        assert_eq!(pixels(of(&input("UINT8", "[1,2,3]", &binary(6)), &data)), expected);
        assert_eq!(pixels(of(&input("FP32", "[1,2,3]", &binary(24)), &floats)), expected);
        let two = pixels(of(&input("UINT8", "[2,1,1,3]", &binary(6)), &data));
        assert_eq!(two.iter().map(|p| p.data.clone()).collect::<Vec<_>>(), [[1, 2, 3], [4, 5, 6]]);
    }

    #[test]
    fn files_in_both_ways_are_the_same() {
        let all = |found: Result<Vec<Picture>, Refusal>| -> Vec<Bytes> {
            let one = |p| match p {
                Picture::Encoded(p) => p,
                Picture::Decoded(_) => panic!("expected files"),
            };
            found.unwrap().into_iter().map(one).collect()
        };
        let tail = [&[3, 0, 0, 0][..], b"abc", &[0, 0, 0, 0]].concat();
        let expected = [Bytes::from("abc"), Bytes::new()];
        assert_eq!(all(of(&input("BYTES", "[2]", r#""data":["YWJj",""]"#), b"")), expected);
        assert_eq!(all(of(&input("BYTES", "[2,1]", &binary(tail.len())), &tail)), expected);
    }

    #[test]
    fn requests_that_are_not_as_they_say() {
        let cases: &[(String, &[u8], u16, &str)] = &[
            ("{".into(), b"", 400, "EOF"),
            (r#"{"inputs":[]}"#.into(), b"", 400, "found 0 inputs"),
            (input("BYTES", "[1]", r#""data":["YWJj"]"#).replace("image", "x"), b"", 400, "found `x`"),
            (input("BYTES", "[1]", r#""data":["%"]"#), b"", 400, "base64"),
            (input("BYTES", "[2]", r#""data":["YWJj"]"#), b"", 400, "expected 2 elements"),
            (input("BYTES", "[5]", r#""data":["YWJj"]"#), b"", 413, "at most 4 pictures"),
            (input("BYTES", "[0]", r#""data":[]"#), b"", 400, "at least one"),
            (input("BYTES", "[1]", r#""data":[7]"#), b"", 400, "found numbers"),
            (input("BYTES", "[18446744073709551615,9]", r#""data":["YWJj"]"#), b"", 400, "too large"),
            (
                input("BYTES", "[1]", r#""data":["YWJj"],"parameters":{"binary_data_size":1}"#),
                b"x",
                400,
                "found both",
            ),
            (input("BYTES", "[1]", r#""shape2":[]"#), b"", 400, "found neither"),
            (input("BYTES", "[1]", &binary(9)), &[9, 0, 0, 0, 1, 2, 3, 4, 5], 400, "element 0 is cut short"),
            (input("BYTES", "[1]", &binary(2)), &[9, 0], 400, "element 0 is cut short"),
            (input("BYTES", "[1]", &binary(9)), b"", 400, "expected 9 bytes behind the JSON, found 0"),
            (input("BYTES", "[1]", &binary(4)), &[0, 0, 0, 0, 0], 400, "1 bytes that no input has announced"),
            (input("INT64", "[1]", r#""data":[1]"#), b"", 400, "found `INT64`"),
            (input("UINT8", "[1,2]", r#""data":[1,2]"#), b"", 400, "expected a shape"),
            (input("UINT8", "[1,2,4]", r#""data":[1]"#), b"", 400, "expected a shape"),
            (input("UINT8", "[0,2,3]", r#""data":[]"#), b"", 400, "expected a shape"),
            (input("UINT8", "[0,1,1,3]", r#""data":[]"#), b"", 400, "at least one"),
            (input("UINT8", "[1,2,3]", r#""data":[1,2]"#), b"", 400, "expected 6 numbers"),
            (input("UINT8", "[1,1,3]", r#""data":[1,2,256]"#), b"", 400, "0 to 255"),
            (input("FP32", "[1,1,3]", r#""data":[0.1,0.5,0.9]"#), b"", 400, "0 to 255"),
            (input("FP32", "[1,1,3]", &binary(13)), &[0; 13], 400, "four bytes a number"),
            (input("UINT8", "[11,10,3]", r#""data":[1]"#), b"", 413, "at most 100 pixels"),
            (input("UINT8", "[4294967296,4294967296,3]", r#""data":[1]"#), b"", 413, "at most 100 pixels"),
            (input("UINT8", "[1,1,3]", r#""data":["a"]"#), b"", 400, "found texts"),
        ];
        for (head, tail, status, said) in cases {
            let e = of(head, tail).unwrap_err();
            assert_eq!(e.status.as_u16(), *status, "{head}: {e:?}");
            assert!(e.message.contains(said), "{head}: {e:?}");
        }
    }
}
