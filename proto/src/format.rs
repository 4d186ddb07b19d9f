//! Implements `defmt::Format` for types whose content is secret or too long for a log: it prints only their name. The
//! other types derive it.

/// Implements `defmt::Format` for these types, so that it prints their names.
#[doc(hidden)]
#[macro_export]
macro_rules! format_names {
    ($($name:literal: impl[$($generics:tt)*] $type:ty;)*) => {
        $(
            impl<$($generics)*> defmt::Format for $type {
                fn format(&self, f: defmt::Formatter<'_>) {
                    defmt::write!(f, "{=str}", $name);
                }
            }
        )*
    };
}

impl defmt::Format for crate::tag::Tag {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.as_str());
    }
}

format_names! {
    "Opaque": impl[] crate::body::Opaque<'_>;
    "OpaqueIn": impl[C] crate::body::OpaqueIn<'_, C>;
    "ClientSession": impl[const BUF: usize, const QUEUE: usize, C: crate::cipher::Cipher]
        crate::client::ClientSession<BUF, QUEUE, C>;
    "Responder": impl[S: crate::store::Store] crate::responder::Responder<S>;
    "Parked": impl[C: crate::cipher::Cipher] crate::server::Parked<C>;
    "ServerSession": impl[const BUF: usize, C: crate::cipher::Cipher] crate::server::ServerSession<BUF, C>;
    "Outgoing": impl[] crate::transfer::Outgoing;
    "Incoming": impl[] crate::transfer::Incoming;
}

#[cfg(feature = "embedded-io")]
format_names! {
    "Client": impl[T, C, const BUF: usize, P: crate::cipher::Cipher, const RECORD: usize]
        crate::drive::Client<T, C, BUF, P, RECORD>;
}

#[cfg(feature = "embedded-io-async")]
format_names! {
    "AsyncClient": impl[T, C, const BUF: usize, P: crate::cipher::Cipher, const RECORD: usize]
        crate::drive::AsyncClient<T, C, BUF, P, RECORD>;
}

#[cfg(feature = "serial")]
format_names! {
    "Link": impl[const RX: usize, const TX: usize] crate::serial::Link<RX, TX>;
}

#[cfg(all(feature = "serial", feature = "embedded-io"))]
format_names! {
    "Server": impl[T, const RX: usize, const TX: usize] crate::serial::Server<T, RX, TX>;
}

/// Prints the KEYID, not the key.
#[cfg(feature = "secure")]
impl defmt::Format for crate::secure::Key {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Key({})", self.id());
    }
}

#[cfg(feature = "secure")]
format_names! {
    "Secret": impl[] crate::secure::Secret;
    "ChaChaPoly": impl[] crate::secure::ChaChaPoly;
    "Login": impl[] crate::secure::Login;
    "Client": impl[A] crate::secure::Client<A>;
    "Noise": impl[A] crate::secure::Noise<A>;
    "Pool": impl[] crate::secure::Pool;
    "Entropy": impl[] crate::secure::Entropy;
    "Security": impl[] crate::secure::Security;
    "Server": impl[A] crate::secure::Server<A>;
    "Parked": impl[] crate::secure::Parked;
}

#[cfg(feature = "secure-aes")]
format_names! {
    "Portable": impl[] crate::secure::Portable;
}
