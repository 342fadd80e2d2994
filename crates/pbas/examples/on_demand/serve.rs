//! How the timing examples take turns with other programs: they print `ready`; then, for every line on standard input, do what it
//! names once and print the milliseconds that it took, a JSON number on a line of its own. They end at the end of the input.

use std::error::Error;
use std::io::{BufRead, Write};

/// Serves standard input; `work` is given each line.
///
/// # Errors
/// Those of `work`, which refuses a line that it does not know.
pub fn serve(mut work: impl FnMut(&str) -> Result<f64, Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        println!("{}", work(line?.trim())?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
