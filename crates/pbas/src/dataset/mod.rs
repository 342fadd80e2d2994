//! Lists samples; never decodes a picture.
