//! The worker of environment binary: runs `fn.sh` for every call.
