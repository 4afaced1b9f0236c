//! The worker as a program of its own, for where the server's binary is not:
//! tests, and images of other backends.

use std::process::ExitCode;

fn main() -> ExitCode {
    tinyfaas_binary_worker::main()
}
