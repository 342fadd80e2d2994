//! One error type for the library. It says who can fix the problem ([`ErrorKind`]), names the object,
//! what was expected and what was found; the cause is in [`std::error::Error::source`], never repeated in the text.

use std::error::Error as StdError;
use std::path::Path;

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who can fix the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A file's content is not what it should be: damaged, of another kind, inconsistent.
    Input,
    /// The caller asked for something that makes no sense: a wrong flag, an empty folder, a bad range.
    Caller,
    /// A limit that guards memory or time was exceeded.
    Limits,
    /// The operating system refused: missing file, no permission, disk full.
    Io,
    /// Well-formed, but not something this version can do.
    Unsupported,
    /// The caller asked to stop.
    Interrupted,
}

/// A lower-case fragment that names the object and says what was expected and found.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a lower-case message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }
    /// A file's content is at fault.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }
    /// The caller's request is at fault.
    pub fn caller(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Caller, message)
    }
    /// A guarding limit was exceeded.
    pub fn limits(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limits, message)
    }
    /// This version cannot do it.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }
    /// The operating system refused to do `what` (for instance "cannot read") with `path`.
    pub fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{what} `{}`", path.display())).with_source(source)
    }
    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Puts this error below a new message of the same kind (and keeps its hint).
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let hint = self.hint.take();
        Self { kind: self.kind, message: message.into(), hint, source: Some(Box::new(self)) }
    }
    /// Who can fix it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// What the user can do about it, if known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// An error and its causes on one line, from the outermost to the innermost.
#[must_use]
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    text
}

impl From<pbas_nn::Error> for Error {
    fn from(e: pbas_nn::Error) -> Self {
        use pbas_nn::ErrorKind as K;
        let kind = match e.kind() {
            K::Format | K::Shape => ErrorKind::Input,
            K::Unsupported => ErrorKind::Unsupported,
            K::Limits => ErrorKind::Limits,
            K::Io => ErrorKind::Io,
        };
        let message = e.to_string();
        match e.into_source() {
            Some(source) => Error { kind, message, hint: None, source: Some(source) },
            None => Error::new(kind, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_keeps_kind_and_hint_and_does_not_repeat_the_cause() {
        let e = Error::input("tensor `a` is short").with_hint("train again").context("cannot load model `x`");
        assert_eq!(e.kind(), ErrorKind::Input);
        assert_eq!(e.hint(), Some("train again"));
        assert_eq!(e.to_string(), "cannot load model `x`");
        assert_eq!(e.source().unwrap().to_string(), "tensor `a` is short");
    }
}
