//! What the system knows of processes: processor time and memory. Relies on Linux's /proc; elsewhere nothing is known.

use std::{fs, path::Path};

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// In user and system mode together.
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) peak_resident_bytes: u64,
    /// Resident and of no file.
    pub(crate) anonymous_bytes: u64,
    pub(crate) threads: u64,
}

/// `utime`, `stime`, `cutime` and `cstime` are counted in these.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        Some(Self {
            cpu_seconds: stat.own_ticks / TICKS_PER_SECOND,
            resident_bytes: kibibytes("VmRSS").unwrap_or(0) * 1024,
            peak_resident_bytes: kibibytes("VmHWM").unwrap_or(0) * 1024,
            anonymous_bytes: kibibytes("RssAnon").unwrap_or(0) * 1024,
            threads: kibibytes("Threads").unwrap_or(0),
        })
    }

    pub(crate) fn of_this_process() -> Self {
        Self::of(std::process::id()).unwrap_or_default()
    }

    /// As Prometheus names them.
    pub(crate) fn report(self) {
        metrics::gauge!("process_cpu_seconds_total").set(self.cpu_seconds);
        metrics::gauge!("process_resident_memory_bytes").set(self.resident_bytes as f64);
        metrics::gauge!("process_threads").set(self.threads as f64);
    }
}

/// Processor time of a process and of all that it started, whether they still run or not.
pub(crate) fn family_cpu_seconds(pid: u32) -> f64 {
    let own = Stat::of(pid).map_or(0.0, |stat| stat.own_ticks + stat.ended_children_ticks);
    let children: f64 = processes()
        .filter_map(Stat::of)
        .filter(|stat| stat.parent == pid)
        .map(|stat| stat.own_ticks + stat.ended_children_ticks)
        .sum();
    (own + children) / TICKS_PER_SECOND
}

/// The postmaster that runs in a folder.
pub(crate) fn postmaster(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}

struct Stat {
    parent: u32,
    own_ticks: f64,
    ended_children_ticks: f64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; after it stand the state, the parent and the times.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: ticks(11)? + ticks(12)?,
            ended_children_ticks: ticks(13)? + ticks(14)?,
        })
    }
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let usage = Usage::of_this_process();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.peak_resident_bytes >= usage.resident_bytes, "{usage:?}");
        assert!(usage.threads >= 1, "{usage:?}");
    }

    #[test]
    fn children_are_counted_when_they_have_ended() {
        let before = family_cpu_seconds(std::process::id());
        let status = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"])
            .status()
            .expect("sh runs");
        assert!(status.success());
        assert!(family_cpu_seconds(std::process::id()) > before);
    }
}
