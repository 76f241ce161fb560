//! The secrets of a run, which differ at each start.

use anyhow::Result;

/// 256 random bits, in hexadecimal digits.
pub fn random_token() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
