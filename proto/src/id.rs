//! Identifiers. Each is a type of its own, so that none stands in for another.

use std::fmt;

use crate::{WireError, message::Field};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Field<$inner> for $name {
            fn to_wire(self) -> $inner {
                self.0
            }

            fn from_wire(wire: $inner, _: &'static str) -> Result<Self, WireError> {
                Ok(Self(wire))
            }
        }
    };
}

id! {
    /// A URL's position among the list's URLs, from 0; it counts on over `--repeat`.
    UrlId(u64)
}
id! {
    /// A worker's session with the coordinator; a worker that comes back gets a new one.
    WorkerId(u32)
}
id! {
    /// A fetcher within its trial, from 0.
    FetcherId(u32)
}
id! {
    /// A trial within the coordinator's life.
    TrialId(u64)
}
id! {
    /// A study or fetch that a client has submitted, from 1; it counts on when
    /// the coordinator is started again.
    JobId(u64)
}
