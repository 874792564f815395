//! Progress of something long: a bar on a terminal, now and then a line otherwise. Always on standard error, so that
//! standard output can be piped on.

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use tokio::time::Instant;

const LINE_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Progress {
    what: String,
    total: AtomicU64,
    done: AtomicU64,
    bar: Option<ProgressBar>,
    began: Instant,
    last_line: Mutex<Instant>,
}

impl Progress {
    /// A total of 0 is one that is not known.
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, total));
        Self {
            what: what.to_owned(),
            total: total.into(),
            done: 0.into(),
            bar,
            began: Instant::now(),
            last_line: Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn add(&self, more: u64) {
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        self.show(done);
    }

    pub(crate) fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.show(done);
    }

    /// The total grew.
    pub(crate) fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// Takes the bar away, or says how far it came.
    pub(crate) fn finish(self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            // What took no time needs no line.
            None if self.began.elapsed() < LINE_EVERY => {}
            None => self.line(self.done.load(Ordering::Relaxed)),
        }
    }

    fn show(&self, done: u64) {
        if let Some(bar) = &self.bar {
            return bar.set_position(done);
        }
        let due = self.last_line.try_lock().is_some_and(|mut last| {
            let due = last.elapsed() >= LINE_EVERY;
            if due {
                *last = Instant::now();
            }
            due
        });
        if due {
            self.line(done);
        }
    }

    fn line(&self, done: u64) {
        match self.total.load(Ordering::Relaxed) {
            0 => eprintln!("{}: {}", self.what, grouped(done)),
            total => eprintln!("{}: {} of {}", self.what, grouped(done), grouped(total)),
        }
    }
}

fn bar(what: &str, total: u64) -> ProgressBar {
    let template = match total {
        0 => "{msg} {spinner} {human_pos} ({per_sec})",
        _ => "{msg} {wide_bar} {human_pos}/{human_len} {eta}",
    };
    let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.set_message(what.to_owned());
    bar
}

/// `1234567` as people read it.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (22_697, "22,697"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
