//! A model file, loaded and named: bytes of a picture -> what the model says of it, with times.

use std::path::{Path, PathBuf};
use std::time::Instant;

pub use pbas::backbone::hex;
use pbas::detector::{Detector, Prediction, Scratch};
use pbas::image::{Rgb8, decode_rgb};
use pbas::report::heatmap::{ColourScale, of_prediction};
use pbas::report::still;
use pbas::{Error, Result, Threads, model_file};
use sha2::{Digest, Sha256};

/// Longest side of a thumbnail and of the map kept beside it, in pixels.
pub const THUMBNAIL: usize = 256;
/// A model file of more bytes is none, and is not read into memory.
const MOST_BYTES: u64 = 4 << 30;
/// JPEG quality of thumbnails.
const QUALITY: u8 = 80;

/// A model in service. Shared between threads; each brings its own [`Scratch`].
#[derive(Debug)]
pub struct Judge {
    /// The file's name without extension.
    pub name: String,
    /// SHA-256 of the model file, in hexadecimal.
    pub digest: String,
    /// The model file.
    pub path: PathBuf,
    detector: Detector,
}

/// A judged picture.
#[derive(Debug)]
pub struct Judged {
    /// The picture, decoded.
    pub picture: Rgb8,
    /// What the model says.
    pub prediction: Prediction,
    /// Time of decoding, in milliseconds; that of the judgement is in the prediction.
    pub decode_ms: f64,
}

impl Judge {
    /// Loads a model file, which runs its self-test.
    ///
    /// # Errors
    /// As [`model_file::load`], or a file name that is no text.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.file_stem().and_then(|n| n.to_str()).ok_or_else(|| {
            Error::caller(format!("model file `{}`: expected a name in UTF-8", path.display()))
        })?;
        // Read once: the digest is that of the very bytes the model is made of, and nothing is mapped, so that a file that is copied over
        // this one in place cannot hurt a model in service.
        let unreadable = |e| Error::io("cannot read model", path, e);
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MOST_BYTES {
            return Err(Error::limits(format!(
                "model `{}`: expected at most {MOST_BYTES} bytes, found {size}",
                path.display()
            )));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let digest = hex(&Sha256::digest(&bytes));
        let shown = path.display().to_string();
        let model = model_file::from_bytes(&bytes, &shown)
            .map_err(|e| e.context(format!("cannot load model `{shown}`")))?;
        drop(bytes);
        let detector = Detector::new(model)?;
        Ok(Self { name: name.to_owned(), digest, path: path.to_owned(), detector })
    }

    /// The model, ready to judge.
    #[must_use]
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Decodes and judges a picture; `name` is for messages. Neither `threads` nor other pictures change the answer.
    ///
    /// # Errors
    /// Bytes that are no readable picture within the limits, or that the model cannot lay out.
    pub fn judge(&self, bytes: &[u8], name: &str, scratch: &mut Scratch, threads: Threads) -> Result<Judged> {
        let start = Instant::now();
        let picture = decode_rgb(bytes, name, &self.detector.decode_options())?;
        let decode_ms = start.elapsed().as_secs_f64() * 1e3;
        let prediction = self.detector.predict(&picture, scratch, threads)?;
        Ok(Judged { picture, prediction, decode_ms })
    }

    /// The colours of this model's maps.
    #[must_use]
    pub fn scale(&self) -> ColourScale {
        ColourScale::of_model(self.detector.model())
    }

    /// Picture and map side by side, as `pbas predict --heatmaps` draws them.
    ///
    /// # Errors
    /// None in practice.
    pub fn heatmap(&self, judged: &Judged, name: &str) -> Result<Rgb8> {
        let roi = self.detector.model().settings.roi.as_ref();
        of_prediction(&judged.picture, &judged.prediction, None, (roi, self.scale()), name)
    }

    /// A small JPEG of the picture, its longest side at most [`THUMBNAIL`], and of its size the map as a grey PNG: 0 at the low end of
    /// [`Judge::scale`], 255 at the high one.
    ///
    /// # Errors
    /// None in practice.
    pub fn small_pictures(&self, judged: &Judged) -> Result<(Vec<u8>, Vec<u8>)> {
        let small = still::thumbnail(&judged.picture, THUMBNAIL);
        let map = still::grey_map(&judged.prediction, self.scale(), (small.width, small.height))?;
        Ok((still::jpeg(&small, QUALITY)?, map))
    }
}
