//! The one place where the vault takes randomness: the operating system's generator, asked anew each time. Keys, nonces,
//! salts and tokens cannot be handed in as other random values are: a caller that repeats one would break the seal.

use rand::{
    TryRng,
    rngs::{SysError, SysRng},
};

#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct NoRandomness(SysError);

pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}
