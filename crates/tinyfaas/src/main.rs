//! The program.
mod cli;
mod config;
mod data_dir;
mod listen;

fn main() {}
