//! The client and its node. The client never finds another node by itself once its own is gone, so it is built again.

use std::time::Duration;

use eventstore::{
    Client, ClientSettings, Error, ReadAllOptions, ReadStream, ReadStreamOptions, StreamPosition,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::{Position, StreamName};

/// How long a call that may be repeated is tried: a server that is started again is back by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Connection {
    settings: ClientSettings,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// How many there were before.
    number: u64,
    client: Option<Client>,
}

/// Whether a call that failed may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// However it failed.
    Safe,
    /// Only if the server cannot have got it.
    IfNotSent,
}

impl Connection {
    pub(super) fn new(settings: ClientSettings) -> Self {
        Self { settings, current: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    pub(super) fn tries(&self, repeat: Repeat, patience: Duration) -> Tries<'_> {
        Tries {
            connection: self,
            repeat,
            deadline: Instant::now() + patience,
            pause: FIRST_PAUSE,
            number: 0,
            open: None,
        }
    }

    /// The last position of all, those of the system's own events included: readers' checkpoints may be there.
    pub(super) async fn head(&self) -> eventstore::Result<Option<Position>> {
        let options = ReadAllOptions::default().position(StreamPosition::End).max_count(1);
        let mut tries = self.tries(Repeat::Safe, PATIENCE);
        loop {
            let last = match tries.client()?.read_all(&options).await {
                Ok(mut events) => events.next().await,
                Err(error) => Err(error),
            };
            match last {
                Ok(event) => return Ok(event.map(|event| event.get_original_event().position.commit)),
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    pub(super) async fn read_all(&self, options: &ReadAllOptions) -> eventstore::Result<ReadStream> {
        let mut tries = self.tries(Repeat::Safe, PATIENCE);
        loop {
            match tries.client()?.read_all(options).await {
                Ok(events) => return Ok(events),
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    pub(super) async fn read_stream(
        &self,
        stream: &StreamName,
        options: &ReadStreamOptions,
    ) -> eventstore::Result<ReadStream> {
        let mut tries = self.tries(Repeat::Safe, PATIENCE);
        loop {
            match tries.client()?.read_stream(stream.as_str(), options).await {
                Ok(events) => return Ok(events),
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    fn client(&self) -> eventstore::Result<(u64, Client)> {
        let mut current = self.current.lock();
        if let Some(client) = &current.client {
            return Ok((current.number, client.clone()));
        }
        let client = build(&self.settings)?;
        current.client = Some(client.clone());
        Ok((current.number, client))
    }

    /// Lets go of a client whose node is gone, unless another has taken its place.
    fn forget(&self, number: u64) {
        let mut current = self.current.lock();
        if current.number == number {
            *current = Current { number: number + 1, client: None };
        }
    }
}

/// One call, made on another client and again while its node is gone.
pub(super) struct Tries<'a> {
    connection: &'a Connection,
    repeat: Repeat,
    deadline: Instant,
    pause: Duration,
    number: u64,
    /// Of an earlier try that may have been carried out: then nobody can say that the call was not.
    open: Option<Error>,
}

impl Tries<'_> {
    pub(super) fn client(&mut self) -> eventstore::Result<Client> {
        let (number, client) = self.connection.client().map_err(|error| self.outcome(error))?;
        self.number = number;
        Ok(client)
    }

    /// What the call comes to after its last try. A conflict settles it: what an earlier try wrote, a repeat is told of.
    fn outcome(&mut self, error: Error) -> Error {
        match error {
            conflict @ Error::WrongExpectedVersion { .. } => conflict,
            error => self.open.take().unwrap_or(error),
        }
    }

    /// Waits for the next try, or says that there is none.
    pub(super) async fn failed(&mut self, error: Error) -> eventstore::Result<()> {
        if !is_gone(&error) && !matches!(error, Error::NotLeaderException(_)) {
            return Err(self.outcome(error));
        }
        self.connection.forget(self.number);
        let open = may_be_carried_out(&error);
        if open {
            self.open = Some(error.clone());
        }
        if (open && self.repeat == Repeat::IfNotSent) || Instant::now() >= self.deadline {
            return Err(self.outcome(error));
        }
        sleep(self.pause).await;
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        Ok(())
    }
}

/// A client on the runtime of the caller.
pub(super) fn build(settings: &ClientSettings) -> eventstore::Result<Client> {
    Client::new(settings.clone()).map_err(|error| Error::InitializationError(error.to_string()))
}

/// Whether the client is of no more use.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::ConnectionClosed | Error::GrpcConnectionError(_)) || may_be_carried_out(error)
}

/// Whether nobody knows if the server has done what was asked.
pub(super) fn may_be_carried_out(error: &Error) -> bool {
    match error {
        Error::ServerError(_) | Error::DeadlineExceeded => true,
        Error::Grpc { code, .. } => [CANCELLED, ABORTED].contains(&(*code as i32)),
        _ => false,
    }
}

/// What an event server whose log is damaged says of it.
pub(super) fn damage(error: &Error) -> Option<&str> {
    match error {
        Error::Grpc { code, message } if *code as i32 == FAILED_PRECONDITION => message.strip_prefix(DAMAGED),
        _ => None,
    }
}

/// As event servers begin to tell of it.
const DAMAGED: &str = "the event log is damaged: ";

/// Codes of gRPC that the client does not tell apart, by number, so that its version of the library stays its own.
const CANCELLED: i32 = 1;
const FAILED_PRECONDITION: i32 = 9;
const ABORTED: i32 = 10;
