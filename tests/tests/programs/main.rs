//! The programs together: with each other, with other clients and tools, and with broken standard streams.

mod conformance;
mod discovery;
mod pairings;
mod python_client;
mod standard_streams;
mod wireshark;
