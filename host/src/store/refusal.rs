//! The answer to a peer when a system call fails.

use std::io;

use rustix::io::Errno;
use skiff_proto::{ErrorCode, Refusal};

/// The answer for `errno`.
pub(super) fn refuse(errno: Errno) -> Refusal {
    let code = match errno {
        // ENOTDIR: a part of the name is a file. Nothing below it exists.
        Errno::NOENT | Errno::NOTDIR => ErrorCode::NotFound,
        Errno::ACCESS | Errno::PERM => ErrorCode::Denied,
        Errno::LOOP | Errno::XDEV => return Refusal::new(ErrorCode::Denied, "the name leads out of what is served"),
        Errno::BUSY => return Refusal::new(ErrorCode::Denied, "the system is using it"),
        Errno::ROFS => ErrorCode::ReadOnly,
        Errno::NOSPC | Errno::DQUOT => ErrorCode::NoSpace,
        Errno::FBIG => return Refusal::new(ErrorCode::NoSpace, "the file is too large for this file system"),
        Errno::EXIST => ErrorCode::Exists,
        Errno::NOTEMPTY => ErrorCode::NotEmpty,
        Errno::ISDIR => ErrorCode::IsDirectory,
        // EINVAL and EILSEQ come from file systems that don't take every byte in a name, but also from elsewhere.
        Errno::NAMETOOLONG | Errno::ILSEQ => ErrorCode::BadName,
        _ => ErrorCode::Io,
    };
    code.into()
}

/// The answer for `errno` if a directory is needed to put something in, and a file with its name is in the way.
pub(super) fn refuse_parent(errno: Errno) -> Refusal {
    if errno == Errno::NOTDIR { ErrorCode::Exists.into() } else { refuse(errno) }
}

/// The answer for an error of the standard library.
pub(super) fn refuse_io(error: &io::Error) -> Refusal {
    Errno::from_io_error(error).map_or(ErrorCode::Io.into(), refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_the_codes_that_the_protocol_has() {
        for (errno, code) in [
            (Errno::NOENT, ErrorCode::NotFound),
            (Errno::NOTDIR, ErrorCode::NotFound),
            (Errno::ACCESS, ErrorCode::Denied),
            (Errno::XDEV, ErrorCode::Denied),
            (Errno::ROFS, ErrorCode::ReadOnly),
            (Errno::NOSPC, ErrorCode::NoSpace),
            (Errno::DQUOT, ErrorCode::NoSpace),
            (Errno::NOTEMPTY, ErrorCode::NotEmpty),
            (Errno::NAMETOOLONG, ErrorCode::BadName),
            (Errno::IO, ErrorCode::Io),
            (Errno::MFILE, ErrorCode::Io),
        ] {
            assert_eq!(refuse(errno).code, code, "{errno}");
            assert_eq!(refuse_io(&errno.into()).code, code);
            assert_eq!(refuse_parent(errno).code, if errno == Errno::NOTDIR { ErrorCode::Exists } else { code });
        }
        assert_eq!(refuse_io(&io::ErrorKind::WriteZero.into()).code, ErrorCode::Io);
    }
}
