//! The server over its sockets, with a tiny model; every test starts its own on a free port.

#[path = "../line_model/mod.rs"]
mod line_model;

mod client;
mod ends;
mod front;
mod models;
mod oip;
mod predict;
mod server;
