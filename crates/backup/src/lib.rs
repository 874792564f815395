//! Backups of the event log and the vault, taken while the market runs.
