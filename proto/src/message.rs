//! Both ways between a value and its message, field by field.

use std::time::Duration;

use bytes::Bytes;

use crate::{WireError, time::micros};

/// How a field's value stands in a message.
pub(crate) trait Field<W>: Sized {
    fn to_wire(self) -> W;

    /// Takes it from the message's field of this `name`.
    fn from_wire(wire: W, name: &'static str) -> Result<Self, WireError>;
}

macro_rules! as_they_are {
    ($($type:ty),*) => {$(
        impl Field<Self> for $type {
            fn to_wire(self) -> Self {
                self
            }

            fn from_wire(wire: Self, _: &'static str) -> Result<Self, WireError> {
                Ok(wire)
            }
        }
    )*};
}
as_they_are!(u32, u64, f64, String, Bytes);

/// In microseconds.
impl Field<u64> for Duration {
    fn to_wire(self) -> u64 {
        micros(self)
    }

    fn from_wire(wire: u64, _: &'static str) -> Result<Self, WireError> {
        Ok(Self::from_micros(wire))
    }
}

impl<W, T: Field<W>> Field<Option<W>> for Option<T> {
    fn to_wire(self) -> Option<W> {
        self.map(T::to_wire)
    }

    fn from_wire(wire: Option<W>, name: &'static str) -> Result<Self, WireError> {
        wire.map(|wire| T::from_wire(wire, name)).transpose()
    }
}

impl<W, T: Field<W>> Field<Vec<W>> for Vec<T> {
    fn to_wire(self) -> Vec<W> {
        self.into_iter().map(T::to_wire).collect()
    }

    fn from_wire(wire: Vec<W>, name: &'static str) -> Result<Self, WireError> {
        wire.into_iter().map(|wire| T::from_wire(wire, name)).collect()
    }
}

/// A value that stands in several fields of a message, beside others.
pub(crate) trait Part<W> {
    /// The message with nothing else in it.
    fn to_wire(self) -> W;

    fn from_wire(wire: &W) -> Self;
}

/// A struct whose fields each stand in one field of the message `wire::NAME`, but for a last one
/// after `..`, which is a [`Part`]. The message's own field after `+` is sent with this value.
/// What is to be checked or cleaned of the message before that is for `check`.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident = $wire:ident $(+ $beside:ident = $value:tt)? $(, $check:ident)? {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $wire_field:ident,)*
            $(.. $(#[$part_meta:meta])* pub $part:ident: $part_type:ty,)?
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            $($(#[$part_meta])* pub $part: $part_type,)?
        }

        impl From<$name> for $crate::wire::$wire {
            fn from(value: $name) -> Self {
                use $crate::message::Field;
                Self {
                    $($wire_field: Field::to_wire(value.$field),)*
                    $($beside: $value,)?
                    $(..$crate::message::Part::to_wire(value.$part))?
                }
            }
        }

        impl TryFrom<$crate::wire::$wire> for $name {
            type Error = $crate::WireError;

            fn try_from(message: $crate::wire::$wire) -> Result<Self, Self::Error> {
                use $crate::message::Field;
                $(let message = $check(message)?;)?
                Ok(Self {
                    $($part: $crate::message::Part::from_wire(&message),)?
                    $($field: Field::from_wire(message.$wire_field, stringify!($wire_field))?,)*
                })
            }
        }

        impl $crate::message::Field<$crate::wire::$wire> for $name {
            fn to_wire(self) -> $crate::wire::$wire {
                self.into()
            }

            fn from_wire(
                wire: $crate::wire::$wire,
                _: &'static str,
            ) -> Result<Self, $crate::WireError> {
                wire.try_into()
            }
        }

        impl $crate::message::Field<Option<$crate::wire::$wire>> for $name {
            fn to_wire(self) -> Option<$crate::wire::$wire> {
                Some(self.into())
            }

            fn from_wire(
                wire: Option<$crate::wire::$wire>,
                name: &'static str,
            ) -> Result<Self, $crate::WireError> {
                wire.ok_or($crate::WireError::Missing(name))?.try_into()
            }
        }
    };
}
pub(crate) use message;
