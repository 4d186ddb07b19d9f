//! Files with secrets and keys (PROTOCOL §8), and the random numbers that a connection needs.
//!
//! A file holds one line: `skiff-secret-1 BASE64` on the server, `skiff-key-1 KEYID BASE64` on the client. Only its
//! owner may read it: [`KeyFile::read`] refuses a file that others can read or change, and [`KeyFile::create`] never
//! creates such a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub use skiff_proto::secure::{Key, KeyId, Role, Secret};
use thiserror::Error;
use zeroize::Zeroizing;

/// A longer file can't be a key file.
const MAX_FILE: usize = 256;

/// The content of a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFile {
    /// The secret of a device, or the master of a fleet.
    Secret(Secret),
    /// The key of a client.
    Key(Key),
}

/// Why a file can't be used. Each message is one line and tells the user what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system returned an error.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error. It is part of the message, and therefore not a `source`.
        error: io::Error,
    },
    /// The file already exists. It is not replaced, because it may still be needed.
    #[error("{}: already exists; a secret or key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others can read or change the file.
    #[error("{}: other users can read or change it; run: chmod 600 {}", path.display(), quoted(path))]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory or a device.
    #[error("{}: not a regular file; a file with a secret or key is needed, as `host-cli key` creates it", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The defect.
        why: &'static str,
    },
    /// A client's key where a secret is expected.
    #[error("{}: a client's key, but a device secret is needed; `host-cli key new FILE` creates one", path.display())]
    NotSecret {
        /// The file.
        path: PathBuf,
    },
    /// A secret where a client's key is expected.
    #[error("{}: a device secret, but a client's key is needed; `host-cli key grant` creates one", path.display())]
    NotKey {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("can't get random numbers from the system: {0}")]
    Random(io::Error),
}

impl KeyFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`KeyError`], with the path.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |error| KeyError::Io { path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        // Of the open file: the name may mean another one by now.
        let meta = file.metadata().map_err(failed)?;
        if meta.is_dir() {
            return Err(KeyError::NotRegular { path: path.to_owned() });
        }
        if meta.permissions().mode() & 0o077 != 0 {
            let path = path.to_owned();
            return Err(if meta.is_file() { KeyError::Exposed { path } } else { KeyError::NotRegular { path } });
        }
        // Has its full size at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
        _ = file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        let text = core::str::from_utf8(&bytes).ok().filter(|text| text.len() <= MAX_FILE);
        let parsed =
            text.and_then(|text| Secret::parse(text).map(Self::Secret).or_else(|| Key::parse(text).map(Self::Key)));
        parsed.ok_or_else(|| KeyError::Malformed { path: path.to_owned(), why: fault(text.unwrap_or_default()) })
    }

    /// Creates a file that only its owner can read; it is durable when this returns. Never replaces a file.
    ///
    /// # Errors
    /// [`KeyError`], with the path; then no file was created.
    pub fn create(&self, path: &Path) -> Result<(), KeyError> {
        let failed = |error| KeyError::Io { path: path.to_owned(), error };
        let line = Zeroizing::new(format!("{}\n", *self.text()));
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Exists { path: path.to_owned() });
            }
            Err(error) => return Err(failed(error)),
        };
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
        written.map_err(|error| {
            _ = std::fs::remove_file(path);
            failed(error)
        })
    }

    /// The text form, without a line end.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        match self {
            Self::Secret(secret) => {
                let mut text = Zeroizing::new([0; Secret::TEXT_LEN]);
                Zeroizing::new(secret.encode(&mut text).to_owned())
            }
            Self::Key(key) => {
                let mut text = Zeroizing::new([0; Key::TEXT_LEN]);
                Zeroizing::new(key.encode(&mut text).to_owned())
            }
        }
    }
}

/// Reads a file with a device secret.
///
/// # Errors
/// [`KeyError`], with the path.
pub fn read_secret(path: &Path) -> Result<Secret, KeyError> {
    match KeyFile::read(path)? {
        KeyFile::Secret(secret) => Ok(secret),
        KeyFile::Key(_) => Err(KeyError::NotSecret { path: path.to_owned() }),
    }
}

/// Reads a file with a client's key.
///
/// # Errors
/// [`KeyError`], with the path.
pub fn read_key(path: &Path) -> Result<Key, KeyError> {
    match KeyFile::read(path)? {
        KeyFile::Key(key) => Ok(key),
        KeyFile::Secret(_) => Err(KeyError::NotKey { path: path.to_owned() }),
    }
}

/// Syncs the directory: only then is a new file durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Creates a device secret.
///
/// # Errors
/// [`KeyError::Random`]
pub fn new_secret() -> Result<Secret, KeyError> {
    random().map(Secret::new)
}

/// Unpredictable bytes from the operating system, suitable for keys.
///
/// # Errors
/// [`KeyError::Random`]
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.into()))?;
    Ok(bytes)
}

/// A defect of a file's content.
fn fault(text: &str) -> &'static str {
    let has = |word: &str| text.split_whitespace().any(|other| other == word);
    match () {
        () if !has("skiff-secret-1") && !has("skiff-key-1") => {
            "holds neither a device secret (skiff-secret-1 ...) nor a client's key (skiff-key-1 ...)"
        }
        () if text.trim_end().lines().count() > 1 => {
            "has more than one line; it must hold one secret or key, and no comment"
        }
        () if has("skiff-secret-1") => "damaged: the line is not skiff-secret-1 and a whole secret",
        () => "damaged: the line is not skiff-key-1, KEYID and a whole key",
    }
}

/// The path, quoted as one shell word.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    match () {
        () if text.starts_with('-') => quoted(&Path::new(".").join(path)),
        () if text.chars().all(plain) => text.into_owned(),
        () => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn scene() -> (tempfile::TempDir, PathBuf, KeyFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a file");
        (dir, path, KeyFile::Secret(Secret::new([7; 32])))
    }

    #[test]
    fn a_file_reads_back_and_only_its_owner_can_read_it() {
        let (_dir, path, secret) = scene();
        secret.create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(KeyFile::read(&path).unwrap(), secret);
        assert!(matches!(read_key(&path), Err(KeyError::NotKey { .. })));
        let key = read_secret(&path).unwrap().key(KeyId::parse(b"ro.a.1").unwrap());
        let path = path.with_file_name("key");
        KeyFile::Key(key.clone()).create(&path).unwrap();
        assert_eq!(read_key(&path).unwrap(), key);
        assert!(matches!(read_secret(&path), Err(KeyError::NotSecret { .. })));
    }

    #[test]
    fn nothing_is_overwritten() {
        let (dir, path, secret) = scene();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(secret.create(&path), Err(KeyError::Exists { .. })));
        // A link that points nowhere is something, too.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        assert!(matches!(secret.create(&link), Err(KeyError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(!dir.path().join("nowhere").exists());
        assert!(matches!(secret.create(&dir.path().join("no/dir")), Err(KeyError::Io { .. })));
    }

    #[test]
    fn a_file_that_others_can_use_is_refused_with_the_command_that_mends_it() {
        let (_dir, path, secret) = scene();
        secret.create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = KeyFile::read(&path).unwrap_err();
            assert!(error.to_string().ends_with(&format!("run: chmod 600 '{}'", path.display())), "{mode:o}: {error}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(KeyFile::read(&path).unwrap(), secret, "{mode:o}");
        }
    }

    #[test]
    fn a_file_with_anything_else_is_refused() {
        let (_dir, path, secret) = scene();
        assert!(matches!(KeyFile::read(&path), Err(KeyError::Io { .. })));
        secret.create(&path).unwrap();
        let good = secret.text();
        let twice = format!("{0}\n{0}\n", *good);
        let long = format!("{}{}", *good, " ".repeat(MAX_FILE));
        for bad in [&b""[..], b"\xff", b"skiff-secret-1", &[b'x'; 5000], twice.as_bytes(), long.as_bytes()] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(KeyFile::read(&path), Err(KeyError::Malformed { .. })), "{}", bad.escape_ascii());
        }
        let KeyFile::Secret(device) = secret else { unreachable!() };
        let key = KeyFile::Key(device.key(KeyId::parse(b"ro.a.1").unwrap())).text();
        for (bad, why) in [
            ("hello".to_owned(), "neither a device secret"),
            (good[..30].to_owned(), "damaged: the line is not skiff-secret-1"),
            (key[..30].to_owned(), "damaged: the line is not skiff-key-1"),
            (twice, "more than one line"),
            (format!("# mine\n{}\n", *key), "more than one line"),
        ] {
            fs::write(&path, bad).unwrap();
            let message = KeyFile::read(&path).unwrap_err().to_string();
            assert!(message.contains(why) && !message.contains("BwcHBw"), "{message}");
        }
    }

    #[test]
    fn an_error_says_everything_once() {
        let (dir, path, _) = scene();
        assert!(core::error::Error::source(&KeyFile::read(&path).unwrap_err()).is_none());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let message = KeyFile::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains(": not a regular file; "), "{message}");
    }

    #[test]
    fn paths_are_quoted_as_a_shell_needs_it() {
        for (path, word) in
            [("/etc/a.key", "/etc/a.key"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("-x", "./-x"), ("$x", "'$x'")]
        {
            assert_eq!(quoted(Path::new(path)), word);
        }
    }

    #[test]
    fn no_two_secrets_are_the_same() {
        assert_ne!(new_secret().unwrap(), new_secret().unwrap());
    }
}
