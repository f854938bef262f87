//! A slot's own connections between two requests.

use std::time::Instant;

use super::connection::{Connection, TrySocket};
use crate::exchange::target::Target;

/// A few kept connections to as many origins, the least recently used first.
#[derive(Debug)]
pub(crate) struct IdleConnections<S> {
    kept: Vec<Connection<S>>,
    max: usize,
}

impl<S> IdleConnections<S> {
    /// Room for `max` connections, the one in use included.
    pub(crate) fn new(max: usize) -> Self {
        Self { kept: Vec::with_capacity(max.min(1)), max: max.max(1) }
    }

    fn take(&mut self, target: &Target) -> Option<Connection<S>> {
        let index = self.kept.iter().rposition(|connection| target.is_at(&connection.origin))?;
        Some(self.kept.remove(index))
    }

    /// The same, if it still lives, as far as can be told.
    pub(crate) fn take_alive(&mut self, target: &Target, now: Instant) -> Option<Connection<S>>
    where
        S: TrySocket,
    {
        let mut connection = self.take(target)?;
        connection.is_alive(now).then_some(connection)
    }

    /// Keeps a connection; one that was not used for long gives way.
    pub(crate) fn put(&mut self, connection: Connection<S>) {
        self.make_room();
        self.kept.push(connection);
    }

    /// Closes what is one too many for another connection.
    pub(crate) fn make_room(&mut self) {
        if self.kept.len() >= self.max {
            self.kept.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_gives_way() {
        let target = |url: &str| {
            let mut target = Target::default();
            target.set(url.as_bytes()).unwrap();
            target
        };
        let mut idle = IdleConnections::new(2);
        let urls = ["http://a/", "https://a/", "http://a:81/"];
        for (number, url) in urls.iter().enumerate() {
            idle.put(Connection::plain(target(url).origin(), number));
        }
        assert!(idle.take(&target(urls[0])).is_none());
        let used = idle.take(&target(urls[1])).unwrap();
        assert_eq!(used.socket, 1);
        idle.put(used);
        idle.make_room();
        assert!(idle.take(&target(urls[2])).is_none());
        assert_eq!(idle.take(&target(urls[1])).unwrap().socket, 1);
    }
}
