//! Imports: what another system wrote becomes commands here. Everything is derived from what stands in the file, so that
//! importing it again adds nothing.

pub(crate) mod catalog;
mod ends;
mod file;
pub(crate) mod invoices;
pub(crate) mod product;

use uuid::Uuid;

/// Accounts that imports make derive their ids from this and their own name.
const NAMESPACE: Uuid = Uuid::from_u128(0x736f_756b_2d69_6d70_8f72_7421_2d76_3100);
