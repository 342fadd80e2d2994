//! Plain slices in, numbers out.
