//! The shop's synonyms: looked at, and replaced as a whole.

use souk_domain::{
    SynonymsId,
    synonyms::{SynonymsCommand, SynonymsError, SynonymsState},
};

use super::Acknowledged;
use crate::{Context, ExecuteError, Fresh, Market, executor::ReadFailure};

pub async fn read(market: &Market) -> Result<Fresh<SynonymsState>, ReadFailure> {
    market.aggregates.synonyms.read(SynonymsId::SHOP, SynonymsState::clone).await
}

pub async fn replace(
    market: &Market,
    context: &Context,
    rules: Vec<String>,
) -> Result<Acknowledged<()>, ExecuteError<SynonymsError>> {
    let command = SynonymsCommand::Replace { rules };
    let done = market.aggregates.synonyms.execute(SynonymsId::SHOP, command, context).await?;
    Ok(Acknowledged::of((), &done))
}
