//! `souk events`: the log for those who want to look into it. Nothing here needs PostgreSQL, and all of it works beside a
//! running server: the file is opened as a second process may open it, and a server's log is asked as by any client.

mod export;
mod history;
mod read;
mod state;
mod tail;
mod verify;

use std::io;

use anyhow::{Context, bail};
use souk_event_log::{Filter, StreamName};

pub(crate) use self::export::{Format, Partition, time};
use crate::{
    anchors,
    cli::{EventsCommand, FilterArgs},
    config::{Config, EventLogChoice},
    data_dir::DataDir,
    wiring::open_log,
};

pub(crate) async fn run(config: Config, command: EventsCommand) -> anyhow::Result<()> {
    let data = DataDir::new(&config.data_dir);
    let embedded = config.event_log == EventLogChoice::Sqlite;
    if embedded && !data.log().is_file() {
        bail!("there is no event log at {}", data.log().display());
    }
    if let EventsCommand::Verify { from, .. } = command {
        if !embedded {
            bail!("the chain of hashes is in the file of an embedded log: verify it where the file is");
        }
        let path = data.log();
        tokio::task::spawn_blocking(move || verify::verify(&path, from)).await??;
    }
    let log = open_log(config.event_log, data).await?;
    let result = match command {
        EventsCommand::Read { filter, from, limit, backward, json } => {
            let filter = filter.try_into()?;
            read::read(&*log, read::Wanted { filter, from, backward, limit, json }).await
        }
        EventsCommand::Tail { filter, after, json } => {
            tail::tail(&*log, filter.try_into()?, after, json).await
        }
        EventsCommand::Export(args) => export::export(&*log, args).await,
        EventsCommand::State { stream, at } => state::state(&*log, &stream, at).await,
        EventsCommand::History { stream } => history::history(&*log, &stream).await,
        EventsCommand::Verify { anchors: Some(anchors), .. } => anchors::check(&*log, &anchors).await,
        EventsCommand::Verify { anchors: None, .. } | EventsCommand::Serve { .. } => Ok(()),
        EventsCommand::Anchor { target } => anchors::anchor(&*log, &target).await,
    };
    match result {
        // Whoever read has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result,
    }
}

impl TryFrom<FilterArgs> for Filter {
    type Error = anyhow::Error;

    fn try_from(args: FilterArgs) -> anyhow::Result<Self> {
        let stream = args.stream.as_deref().map(StreamName::parse).transpose().context("--stream")?;
        Ok(Self { stream, categories: args.category, event_types: args.event_type })
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
