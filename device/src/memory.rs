//! Types for the memory that a server borrows.
//!
//! [`server_memory!`](crate::server_memory) declares them for the usual case: a number of sessions and data
//! connections, and socket buffers of one size. The total size of a server in bytes on a Cortex-M3 (IPv4 and DHCP,
//! names of 64 bytes, socket buffers of 2 KiB, of 1 KiB for the spare listener; without the interface's frames and the
//! store):
//!
//! | sessions | data connections | buffers and sockets | server and stack | total |
//! |---|---|---|---|---|
//! | 1 | 1 | 11,584 | 1,544 | 13,128 |
//! | 2 | 1 | 16,016 | 2,248 | 18,264 |
//! | 4 | 2 | 29,312 | 3,872 | 33,184 |

/// Declares types for the memory of a [`DeviceServer`](crate::server::DeviceServer).
///
/// ```
/// # #[cfg(feature = "smoltcp")] mod server {
/// skiff_device::server_memory! {
///     /// Memory for two sessions and one classic data connection. Names have up to 64 bytes.
///     pub struct Memory { sessions: 2, data: 1, name: 64 }
///     /// Socket buffers of 2 KiB, and of 1 KiB for the spare listener.
///     pub struct Buffers { buffer: 2048, spare: 1024 }
///     /// The server.
///     pub type Server;
/// }
/// # }
/// ```
///
/// | type | content |
/// |---|---|
/// | `Memory<S>` | `new()`; `lend(&mut self, &mut Buffers)`, the parameter of [`DeviceServer::new`] |
/// | `Buffers` | `new()`, all zeros, so that a `static` takes no flash; `SOCKETS`, the number of sockets that the server adds to a set |
/// | `Server<'m, S>` | the type of the server, if you have to name it |
///
/// `S` is the [`Store`](skiff_proto::store::Store). Both can be statics or on the stack.
///
/// [`DeviceServer::new`]: crate::server::DeviceServer::new
#[macro_export]
macro_rules! server_memory {
    (
        $(#[$memory_doc:meta])*
        $memory_vis:vis struct $memory:ident { sessions: $sessions:expr, data: $data:expr, name: $name:expr $(,)? }
        $(#[$buffers_doc:meta])*
        $buffers_vis:vis struct $buffers:ident { buffer: $buffer:expr, spare: $spare:expr $(,)? }
        $(#[$server_doc:meta])*
        $server_vis:vis type $server:ident;
    ) => {
        $(#[$memory_doc])*
        $memory_vis struct $memory<S: $crate::proto::store::Store> {
            sessions: [
                ::core::option::Option<
                    $crate::server::Session<S, { $name }, { $crate::server::command_buffer($name) }>,
                >;
                $sessions
            ],
            control: [$crate::server::ControlSocket; $sessions + 1],
            data: [$crate::server::DataSocket<S, { $name }>; $data],
        }

        $(#[$buffers_doc])*
        $buffers_vis struct $buffers {
            sockets: [[u8; $buffer]; 2 * ($sessions + $data)],
            spare: [[u8; $spare]; 2],
            record: [u8; $crate::server::RECORD],
        }

        $(#[$server_doc])*
        $server_vis type $server<'m, S> = $crate::server::DeviceServer<
            'm,
            S,
            { $name },
            { $crate::server::command_buffer($name) },
        >;

        #[allow(dead_code, reason = "not every user needs all of it")]
        impl<S: $crate::proto::store::Store> $memory<S> {
            /// Memory that is not in use.
            #[must_use]
            $memory_vis fn new() -> Self {
                Self {
                    sessions: [const { ::core::option::Option::None }; $sessions],
                    control: ::core::array::from_fn(|_| ::core::default::Default::default()),
                    data: ::core::array::from_fn(|_| ::core::default::Default::default()),
                }
            }

            /// The memory that a server borrows.
            $memory_vis fn lend<'m>(
                &'m mut self,
                buffers: &'m mut $buffers,
            ) -> $crate::server::Memory<'m, S, { $name }, { $crate::server::command_buffer($name) }> {
                $crate::server::Memory {
                    sessions: &mut self.sessions,
                    control: &mut self.control,
                    data: &mut self.data,
                    buffers: buffers.sockets.as_flattened_mut(),
                    spare: buffers.spare.as_flattened_mut(),
                    record: &mut buffers.record,
                }
            }
        }

        #[allow(dead_code, reason = "not every user needs all of it")]
        impl $buffers {
            /// The sockets that a server with this memory adds to a set.
            $buffers_vis const SOCKETS: usize = $sessions + 1 + $data;

            /// Empty buffers.
            #[must_use]
            $buffers_vis const fn new() -> Self {
                Self {
                    sockets: [[0; $buffer]; 2 * ($sessions + $data)],
                    spare: [[0; $spare]; 2],
                    record: [0; $crate::server::RECORD],
                }
            }
        }
    };
}

/// Two sessions fit in 18 KiB wherever the figures above apply; the feature `secure` takes 1.25 KiB more.
#[cfg(all(target_pointer_width = "32", feature = "dhcp", not(feature = "ipv6")))]
const _: () = {
    use crate::ram::RamStore;
    use crate::stack::Stack;
    use smoltcp::iface::SocketStorage;
    server_memory! {
        struct Two { sessions: 2, data: 1, name: 64 }
        struct TwoBuffers { buffer: 2048, spare: 1024 }
        type Server;
    }
    type Store = RamStore<'static, 64, 256>;
    let server = size_of::<Server<'static, Store>>() + size_of::<Two<Store>>() + size_of::<TwoBuffers>();
    let stack =
        size_of::<Stack<'static>>() + (Stack::SOCKETS + TwoBuffers::SOCKETS) * size_of::<SocketStorage<'static>>();
    let secure = if cfg!(feature = "secure") { 1280 } else { 0 };
    assert!(server + stack <= 18 * 1024 + secure);
};
