//! A process of its own for what a test wants to kill or to starve: the test's own binary, told to run one of its ignored
//! tests, which says on standard output, a line at a time, what it did.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child as Process, ChildStdin, Command, Stdio},
    sync::mpsc::Sender,
    thread::JoinHandle,
};

pub(crate) struct Child {
    process: Process,
    input: ChildStdin,
    reading: Option<JoinHandle<()>>,
}

impl Child {
    /// Sends each line that it says, with the number it was given, and `None` at its end.
    pub(crate) fn spawn(
        test: &str,
        settings: &[(&str, String)],
        number: u64,
        lines: Sender<(u64, Option<String>)>,
    ) -> Self {
        // The signal for a file that grew too large is not to end it; what is ignored stays so in what is executed.
        let mut process = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" --ignored --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .envs(settings.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let reading = std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
                let _ = lines.send((number, Some(line.trim_end().to_owned())));
                line.clear();
            }
            let _ = lines.send((number, None));
        });
        Self { process, input, reading: Some(reading) }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// kill -9; what it had said is sent before this returns.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        if let Some(reading) = self.reading.take() {
            reading.join().unwrap();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// From within such a process: a whole line at once, or none of it.
pub(crate) fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}
