//! A command run for each part, within a time limit and never through a shell.
//!
//! The verdict comes as one JSON object on its standard input and in environment variables; no word of the command line is made of a
//! file's name.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pbas::{Error, Result};

use crate::record::Part;

/// How often it is asked whether the command has ended.
const ASK: Duration = Duration::from_millis(5);

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// It is ended after so long.
    pub limit: Duration,
}

impl Program {
    /// Splits a command at white space; `'...'` and `"..."` hold words together, and nothing else is special.
    ///
    /// # Errors
    /// A quote without its end, or no word at all.
    pub fn parse(command: &str, limit: Duration) -> Result<Self> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for c in command.chars() {
            match quote {
                Some(q) if c == q => quote = None,
                None if c == '\'' || c == '"' => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                None if c.is_whitespace() => words.extend(word.take()),
                _ => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        if let Some(q) = quote {
            return Err(Error::caller(format!("command `{command}`: expected another {q}, found the end")));
        }
        if words.is_empty() {
            return Err(Error::caller("command: expected a program, found nothing"));
        }
        Ok(Self { words, limit })
    }
}

/// Runs it for a part; `json` is the line that is printed, `file` where the picture is. What the command writes to stdout is dropped,
/// since stdout carries the lines.
///
/// # Errors
/// It cannot be started, fails, or takes too long.
pub fn run(program: &Program, part: &Part, file: &Path, json: &str) -> Result<()> {
    let shown = &program.words[0];
    let mut command = Command::new(shown);
    command.args(&program.words[1..]).stdin(Stdio::piped()).stdout(Stdio::null());
    command.envs(variables(part, file));
    let cannot = |e| Error::io("cannot run", Path::new(shown), e);
    let start = Instant::now();
    let mut child = command.spawn().map_err(cannot)?;
    if let Some(mut input) = child.stdin.take() {
        let line = format!("{json}\n");
        // Beside: a command that does not read must not hold up the line. One that ends early breaks the pipe, which is no fault.
        std::thread::spawn(move || input.write_all(line.as_bytes()));
    }
    loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            return match status.success() {
                true => Ok(()),
                false => Err(Error::caller(format!("command `{shown}` failed: {status}"))),
            };
        }
        if start.elapsed() >= program.limit {
            child.kill().map_err(cannot)?;
            child.wait().map_err(cannot)?;
            return Err(Error::limits(format!(
                "command `{shown}` was ended: expected it to take at most {} s",
                program.limit.as_secs_f64()
            )));
        }
        std::thread::sleep(ASK);
    }
}

/// The variables of a part.
fn variables(part: &Part, file: &Path) -> Vec<(&'static str, OsString)> {
    let figure = |f: Option<f64>| f.map(|f| f.to_string()).unwrap_or_default();
    let said = part.said.as_ref();
    vec![
        ("PBAS_ID", part.id.to_string().into()),
        ("PBAS_TIME", part.time.to_string().into()),
        ("PBAS_VERDICT", said.map_or("error", |s| s.verdict.word()).into()),
        ("PBAS_SCORE", figure(said.map(|s| s.image_score)).into()),
        ("PBAS_THRESHOLD", figure(said.map(|s| s.threshold)).into()),
        ("PBAS_P_VALUE", figure(said.map(|s| s.p_value)).into()),
        ("PBAS_MODEL", (&part.model).into()),
        ("PBAS_NAME", (&part.name).into()),
        ("PBAS_FILE", file.into()),
        ("PBAS_SHA256", (&part.sha256).into()),
        ("PBAS_ERROR", part.error.clone().unwrap_or_default().into()),
    ]
}
