//! Hostile peers: whatever a worker says, it gets a typed refusal and loses its
//! connection, and the trial that runs beside it ends with an exact account.

// Everything here is a test, its helpers too.
#![allow(clippy::unwrap_used)]

mod accept;
mod made_up;
mod sessions;
mod trials;
