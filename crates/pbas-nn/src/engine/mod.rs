//! Engines: graph + input shape -> outputs. All agree within a stated tolerance.

pub mod cpu;
pub mod reference;
