//! Which clients may call the service.

use fanout_proto::{PROTOCOL_VERSION, control::PROTOCOL_KEY};
use tonic::{Request, Status, service::Interceptor};

use crate::{
    accept::{PeerInfo, RefusalLog},
    fleet::Token,
};

/// Lets clients in that show the token and speak this version's protocol.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) token: Option<Token>,
    pub(super) refusals: RefusalLog,
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<PeerInfo>();
        let refused = |reason: &'static str, detail: &str| {
            if let Some(peer) = peer {
                self.refusals.note(peer.ip(), reason, detail);
            }
        };
        Token::check(self.token.as_ref(), request.metadata())
            .inspect_err(|_| refused("a client with a wrong or missing token", ""))?;
        let theirs: u32 = request
            .metadata()
            .get(PROTOCOL_KEY)
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        if theirs != PROTOCOL_VERSION {
            let older = if theirs < PROTOCOL_VERSION { "client" } else { "coordinator" };
            let detail = format!("it speaks protocol {theirs}");
            refused("a client of another version", &detail);
            return Err(Status::failed_precondition(format!(
                "the client speaks protocol {theirs}, this coordinator is fanout {} with protocol \
                 {PROTOCOL_VERSION}: upgrade the {older}",
                fanout_program::VERSION,
            )));
        }
        if let Some(peer) = peer {
            peer.admit();
        }
        Ok(request)
    }
}
