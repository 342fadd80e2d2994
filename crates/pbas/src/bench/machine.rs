//! What a run was made on, and how much memory it took.

use serde::{Deserialize, Serialize};

/// A machine in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Operating system and architecture.
    pub system: String,
    /// The processor's name, where it is told.
    pub processor: Option<String>,
    /// Threads that it runs at once.
    pub cores: usize,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        Self {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The most memory that this process has had at once, in bytes, since its start or [`forget_peak_memory`]; known on Linux alone.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let text = field("/proc/self/status", "VmHWM")?;
    text.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Lets [`peak_memory`] begin anew, where the system can do that.
pub fn forget_peak_memory() {
    // Refused in some containers: the peak is then that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The first value of a name in a file of `name: value` lines.
fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        assert!(Machine::this().cores > 0);
        if cfg!(target_os = "linux") {
            assert!(peak_memory().unwrap() > 1 << 20);
        }
    }
}
