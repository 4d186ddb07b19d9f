//! The embedded server, device-serv, and the code they share with microcontrollers: stores, drivers.

mod firmware_card;
mod flash;
mod flash_image;
mod hostile;
mod link;
mod network;
mod poll;
mod python;
mod secure;
mod serv;
mod shared_stack;
mod sizes;
mod wire;
