//! Enums whose variants are words on the wire.

/// Defines such an enum: each variant with its word and one more property, in the order of PROTOCOL.
macro_rules! words {
    (
        $(#[$meta:meta])* pub enum $name:ident;
        $(#[$about:meta])* pub const fn $property:ident -> $type:ty;
        $($(#[$doc:meta])* $variant:ident $word:literal $value:literal;)*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All of version 1, in the order of PROTOCOL.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value of a word; `None` if this version does not define it.
            #[must_use]
            pub fn parse(word: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|meaning| meaning.as_str().as_bytes() == word)
            }

            $(#[$about])*
            #[must_use]
            pub const fn $property(self) -> $type {
                match self { $(Self::$variant => $value,)* }
            }
        }
    };
}
