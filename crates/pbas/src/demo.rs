//! A small picture set rendered from a seed.
