//! What a fetcher of another maker says of itself.

use crate::{
    FETCHER_PROTOCOL, WireError,
    arm::{Client, ClientProperties, Model},
    in_range,
    limits::NAME_MAX_BYTES,
    message::{Field, message},
    text::plain,
    wire,
};

/// Most clients that a fetcher may have.
const CLIENTS_MAX: u64 = 64;
/// Longest name of a fetcher or of a client, in bytes.
const SHORT_NAME_MAX_BYTES: usize = 32;

message! {
    /// A fetcher that is not fanout's own.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct NamedFetcher = NamedFetcher, named {
        /// How the worker's operator called it.
        pub name: String = name,
        /// What it says of itself.
        pub declaration: Declaration = declaration,
    }
}

fn named(fetcher: wire::NamedFetcher) -> Result<wire::NamedFetcher, WireError> {
    match is_short_name(&fetcher.name) {
        true => Ok(fetcher),
        false => Err(WireError::Invalid("name", SHORT_NAME)),
    }
}

message! {
    /// Its clients, and in which version of the protocol it speaks.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Declaration = Declaration + protocol = FETCHER_PROTOCOL, declared {
        /// Program, language and versions, for people.
        pub about: String = about,
        /// What it fetches with; at least one.
        pub clients: Vec<DeclaredClient> = clients,
    }
}

fn declared(mut declaration: wire::Declaration) -> Result<wire::Declaration, WireError> {
    let ours = u64::from(FETCHER_PROTOCOL);
    in_range("protocol", declaration.protocol.into(), ours..=ours, "this version's")?;
    let clients = declaration.clients.len() as u64;
    in_range("clients", clients, 1..=CLIENTS_MAX, "1 to 64 clients")?;
    declaration.about = plain(&declaration.about, NAME_MAX_BYTES);
    Ok(declaration)
}

/// One of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredClient {
    /// As in arms.
    pub name: String,
    /// Those under which it runs; at least one.
    pub models: Vec<Model>,
    /// In everyday words, after the model's.
    pub label: String,
    /// It completes without fetching.
    pub fetches_nothing: bool,
    /// It may open a connection for every request.
    pub closes_connections: bool,
}

impl DeclaredClient {
    /// The client that arms name, of the fetcher of that name. Stays in memory until the process
    /// ends.
    #[must_use]
    pub fn client(&self, fetcher: &str) -> Client {
        let leaked = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        Client::declared(ClientProperties {
            name: leaked(&self.name),
            models: Box::leak(self.models.clone().into_boxed_slice()),
            fetches: !self.fetches_nothing,
            owns_connections: false,
            closes_connections: self.closes_connections,
            fetcher: Some(leaked(fetcher)),
            label: leaked(&self.label),
        })
    }
}

impl Field<wire::DeclaredClient> for DeclaredClient {
    fn to_wire(self) -> wire::DeclaredClient {
        wire::DeclaredClient {
            name: self.name,
            models: self.models.iter().map(ToString::to_string).collect(),
            label: self.label,
            fetches_nothing: self.fetches_nothing,
            closes_connections: self.closes_connections,
        }
    }

    fn from_wire(client: wire::DeclaredClient, _: &'static str) -> Result<Self, WireError> {
        if !is_short_name(&client.name) {
            return Err(WireError::Invalid("client", SHORT_NAME));
        }
        if Client::BUILT_IN.iter().any(|own| own.name() == client.name) {
            return Err(WireError::Invalid("client", "fanout has a client of that name itself"));
        }
        let models = client.models.iter().map(|name| name.parse());
        let models: Result<Vec<Model>, _> = models.collect();
        let models = models.ok().filter(|models| !models.is_empty()).ok_or(WireError::Invalid(
            "models",
            "each client needs some of sequential, threads, async and async-mt",
        ))?;
        Ok(Self {
            name: client.name,
            models,
            label: plain(&client.label, NAME_MAX_BYTES),
            fetches_nothing: client.fetches_nothing,
            closes_connections: client.closes_connections,
        })
    }
}

const SHORT_NAME: &str =
    "1 to 32 small letters, digits and hyphens are needed, a letter first, as in http-client";

/// Whether a fetcher or a client may be called that: it stands in arms, file names and JSON.
#[must_use]
pub fn is_short_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    name.len() <= SHORT_NAME_MAX_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration() -> wire::Declaration {
        wire::Declaration {
            protocol: FETCHER_PROTOCOL,
            about: "mine 1.0 (CPython 3.11)".into(),
            clients: vec![wire::DeclaredClient {
                name: "urllib".into(),
                models: vec!["threads".into(), "sequential".into()],
                label: "urllib".into(),
                fetches_nothing: false,
                closes_connections: true,
            }],
        }
    }

    #[test]
    fn a_declaration_survives_the_wire_and_becomes_clients() {
        let ours = Declaration::try_from(declaration()).unwrap();
        assert_eq!(wire::Declaration::from(ours.clone()), declaration());
        let client = ours.clients[0].client("py");
        assert_eq!((client.name(), client.properties().fetcher), ("urllib", Some("py")));
        assert!(client.runs_under(Model::Threads) && !client.runs_under(Model::Async));
        assert!(client.properties().closes_connections);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_field() {
        let refused = |change: fn(&mut wire::Declaration)| {
            let mut message = declaration();
            change(&mut message);
            Declaration::try_from(message).unwrap_err().to_string()
        };
        assert_eq!(refused(|d| d.protocol = 7), "protocol is 7, outside this version's");
        assert_eq!(refused(|d| d.clients.clear()), "clients is 0, outside 1 to 64 clients");
        assert!(refused(|d| d.clients[0].models.clear()).starts_with("models is not valid"));
        assert!(refused(|d| d.clients[0].models = vec!["fibers".into()]).contains("async-mt"));
        for name in ["", "9p", "A", "a b", "a@b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            let mut message = declaration();
            message.clients[0].name = name.into();
            let error = Declaration::try_from(message).unwrap_err().to_string();
            assert!(error.contains("small letters"), "{name}: {error}");
        }
        assert!(refused(|d| d.clients[0].name = "core".into()).contains("itself"));
    }
}
