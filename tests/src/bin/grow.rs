//! The log of a stopped `chancery dev`, grown to a size: `SOFTHSM2_CONF=DIR/signing/softhsm2.conf grow DIR SIZE`. DIR is
//! an absolute path.

use anyhow::{Context, Result};
use std::path::Path;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, size] = args.as_slice() else { anyhow::bail!("grow DIR SIZE") };
    let size = size.parse().context("SIZE is a number of entries")?;
    println!("{}", tests::grow(Path::new(dir), size)?);
    Ok(())
}
