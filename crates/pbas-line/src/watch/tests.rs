//! Watching, from end to end.
