//! `bench-vad`: how well and how fast the worker tells speech from the rest, on the corpus of the tree.

use ::tests::hearing::report;

#[expect(clippy::print_stdout, reason = "the report is what it is for")]
fn main() -> anyhow::Result<()> {
    print!("{}", report()?);
    Ok(())
}
