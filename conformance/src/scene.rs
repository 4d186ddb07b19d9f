//! The environment of a check: the server, connections to it, and names that belong to the check.

use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use skiff_kit::sans_io::message;
use skiff_proto::crc::crc32c;
use skiff_proto::secure::Key;

use crate::conn::{Checked, Conn, Log, Verdict, fail, matches};

/// The server under test.
#[derive(Debug)]
pub struct Target {
    /// Its address.
    pub addr: SocketAddr,
    /// The key of this client.
    pub key: Option<Key>,
    /// Time limit for each reply.
    pub timeout: Duration,
}

/// The server's hello.
#[derive(Debug, Clone, Default)]
pub struct Hello {
    /// The reply.
    pub text: String,
    /// Empty for a classic server.
    pub commands: Vec<String>,
    /// The longest name.
    pub name_max: usize,
}

impl Hello {
    /// Parses a reply; `None`: the server is classic.
    #[must_use]
    pub fn parse(reply: &str) -> Option<Self> {
        let words = reply.strip_prefix("skiff/1 ")?;
        let mut hello = Self { text: reply.into(), commands: Vec::new(), name_max: 255 };
        for (key, value) in words.split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "commands" => hello.commands = value.split(',').map(Into::into).collect(),
                "name-max" => hello.name_max = value.parse().unwrap_or(255),
                _ => {}
            }
        }
        Some(hello)
    }

    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.text
            .split(' ')
            .filter_map(|word| word.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }
}

/// The server, and what is known about it.
pub struct Scene<'a> {
    /// The server.
    pub target: &'a Target,
    /// `None` for a classic server.
    pub hello: Option<Hello>,
    /// True if the server has directories.
    pub directories: bool,
    /// True if the server has data connections. A server may answer -1 to every `get` and `put`.
    pub transfers: bool,
    /// What was sent and received in the current check.
    pub log: Log,
    /// The prefix of all names that this run creates.
    prefix: String,
    names: Cell<u32>,
    created: RefCell<Vec<String>>,
    staged: RefCell<Vec<String>>,
}

impl<'a> Scene<'a> {
    /// Detects what the server supports.
    ///
    /// # Errors
    /// The peer is not a skiff server, or it does not accept the key.
    pub fn new(target: &'a Target) -> Checked<Self> {
        let mut scene = Self {
            target,
            hello: None,
            directories: false,
            transfers: false,
            log: Rc::default(),
            prefix: format!("conf{:04x}", fastrand::u16(..)),
            names: Cell::new(0),
            created: RefCell::default(),
            staged: RefCell::default(),
        };
        let reply = scene.plain()?.ask("get /skiff/1")?;
        scene.hello = Hello::parse(&reply);
        if scene.hello.is_none() && reply != "-1" {
            return fail(format!("\"get /skiff/1\": the reply is neither a hello nor -1: \"{reply}\""));
        }
        if target.key.is_some() && !scene.is_protected() {
            return fail("the server does not use keys (its hello has no noise=); run without --key-file");
        }
        if !scene.is_protected() {
            let port = scene.plain()?.ask(format!("put {}", scene.name("")))?;
            scene.transfers = port != "-1";
            if scene.transfers {
                // Nothing is stored: the stream ends before a length.
                drop(scene.data(&port)?);
            }
        }
        if scene.can_change() && scene.offers("mkdir") {
            let dir = scene.name("dir");
            let mut conn = scene.connect()?;
            if conn.ask(format!("mkdir {dir}"))? == "ok" {
                scene.directories = true;
                conn.expect(format!("rmdir {dir}"), "ok")?;
            }
        }
        Ok(scene)
    }

    /// The hello.
    ///
    /// # Errors
    /// [`Verdict::Skip`] for a classic server, which has no hello.
    pub fn hello(&self) -> Checked<&Hello> {
        self.hello.as_ref().ok_or_else(|| Verdict::Skip("a classic server".into()))
    }

    /// True if the server accepts only clients with a key.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.value("noise").is_some())
    }

    /// True if this client may use extended commands.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.hello.is_some() && (!self.is_protected() || self.target.key.is_some())
    }

    /// True if this client may change the store.
    #[must_use]
    pub fn can_change(&self) -> bool {
        self.is_admitted() && self.target.key.as_ref().is_none_or(|key| key.id().role().may_write())
    }

    /// True if the server's hello lists this extended verb.
    #[must_use]
    pub fn offers(&self, verb: &str) -> bool {
        let hello = self.hello.as_ref();
        hello.is_some_and(|hello| hello.commands.is_empty() || hello.commands.iter().any(|other| other == verb))
    }

    /// Opens a connection for a typical check: sealed if the server has a secret.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect(&self) -> Checked<Conn> {
        let mut conn = self.plain()?;
        if let Some(key) = &self.target.key {
            _ = conn.protect(key)?;
        }
        Ok(conn)
    }

    /// Opens a connection without a handshake.
    ///
    /// # Errors
    /// No connection.
    pub fn plain(&self) -> Checked<Conn> {
        Conn::open(self.target.addr, self.target.timeout, "control:", &self.log)
    }

    /// Opens the data connection to an announced port.
    ///
    /// # Errors
    /// The text is not a port, or nothing listens on it.
    pub fn data(&self, port: &str) -> Checked<Conn> {
        match port.parse::<u16>() {
            Ok(number) if number > 0 && !port.starts_with('0') => {
                let mut addr = self.target.addr;
                addr.set_port(number);
                Conn::open(addr, self.target.timeout, "D", &self.log)
            }
            _ => fail(format!("not a port: \"{port}\"")),
        }
    }

    /// A new name that ends in `suffix`; it is removed at the end.
    pub fn name(&self, suffix: &str) -> String {
        let number = self.names.replace(self.names.get() + 1);
        let name = format!("{}-{number}{suffix}", self.prefix);
        self.will_exist(&name);
        name
    }

    /// Records a name that the server has chosen, for removal at the end.
    pub fn will_exist(&self, name: &str) {
        self.created.borrow_mut().push(name.into());
    }

    /// Records that an unfinished upload of this name may remain.
    pub fn will_be_staged(&self, name: &str) {
        self.staged.borrow_mut().push(name.into());
    }

    /// The longest message payload that a connection can send at once.
    #[must_use]
    pub fn longest(&self) -> usize {
        let record = self.hello.as_ref().and_then(|hello| hello.value("record-max")?.parse::<usize>().ok());
        match (&self.target.key, record) {
            (Some(_), Some(record)) => record - 16,
            _ => 65_536,
        }
    }

    /// Stores a file with any command that the server offers.
    ///
    /// # Errors
    /// It is not stored.
    pub fn store(&self, suffix: &str, content: &[u8]) -> Checked<String> {
        let name = self.name(suffix);
        if self.offers("write") {
            self.connect()?.write(&name, content)?;
        } else {
            self.put(&name, content)?;
        }
        Ok(name)
    }

    /// Stores a file with the classic command.
    ///
    /// # Errors
    /// It is not stored.
    pub fn put(&self, name: &str, content: &[u8]) -> Checked {
        let port = self.connect()?.ask(format!("put {name}"))?;
        let mut data = self.data(&port)?;
        data.send(&message(content))?;
        data.finish();
        data.expect_close()
    }

    /// The content of a file, with the classic command; `None` if there is no such file.
    ///
    /// # Errors
    /// The file does not arrive.
    pub fn get(&self, name: &str) -> Checked<Option<Vec<u8>>> {
        let port = self.connect()?.ask(format!("get {name}"))?;
        if port == "-1" {
            return Ok(None);
        }
        let mut data = self.data(&port)?;
        let content = data.hear()?;
        data.expect_close()?;
        Ok(Some(content))
    }

    /// Starts a `write` of `size` bytes, sends only `sent`, and waits until the server has closed the connection. The
    /// upload stays unfinished.
    ///
    /// # Errors
    /// The server does not accept the `write`.
    pub fn interrupt(&self, name: &str, size: usize, sent: &[u8]) -> Checked {
        self.will_be_staged(name);
        let mut conn = self.connect()?;
        conn.say(format!("write 0 {size} - {name}"))?;
        conn.say(sent)?;
        conn.finish();
        conn.expect_close()
    }

    /// The number of bytes staged for `name`. Their checksum is compared with the bytes that were sent; a server may
    /// have dropped some.
    ///
    /// # Errors
    /// A malformed reply, or a checksum of other bytes.
    pub fn staged(&self, conn: &mut Conn, size: usize, name: &str, sent: &[u8]) -> Checked<usize> {
        let reply = conn.expect(format!("resume {size} {name}"), "ok ")?;
        let mut words = reply.split(' ').skip(1);
        let offset = words.next().and_then(|word| word.parse::<usize>().ok()).filter(|offset| *offset <= sent.len());
        let Some(offset) = offset else {
            return fail(format!("more is staged than was sent ({} bytes): \"{reply}\"", sent.len()));
        };
        let crc = format!("{:08x}", crc32c(&sent[..offset]));
        if words.next() == Some(&crc) { Ok(offset) } else { fail(format!("\"{reply}\": the checksum is not {crc}")) }
    }

    /// Removes everything that this run has created. Returns the names that could not be removed.
    pub fn clean_up(&self) -> Vec<String> {
        let mut created = self.created.borrow().clone();
        // Files before their directories.
        created.sort_by_key(|name| core::cmp::Reverse(name.matches('/').count()));
        created.dedup();
        if self.hello.is_none() {
            let shown = self.plain().and_then(|mut conn| conn.ask("ls")).unwrap_or_default();
            created.retain(|name| shown.split('\n').any(|other| other == name));
            return created;
        }
        if !self.can_change() {
            return Vec::new();
        }
        let Ok(mut conn) = self.connect() else { return created };
        // A complete file takes the place of what is staged.
        for name in self.staged.borrow().iter() {
            _ = conn.write(name, b"");
        }
        created.retain(|name| {
            let mut reply = conn.ask(format!("remove {name}"));
            if reply.as_ref().is_ok_and(|reply| matches(reply, "error is-directory ")) {
                reply = conn.ask(format!("rmdir {name}"));
            }
            let is_gone =
                |reply: &String| ["ok", "error not-found ", "error bad-name "].iter().any(|end| matches(reply, end));
            !reply.as_ref().is_ok_and(is_gone)
        });
        created
    }
}
