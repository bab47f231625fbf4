//! Captures the log of a process: events and spans of `tracing` and records of `log`, at every level; and searches it
//! for the forms of a secret.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// Its source, usually a module.
    pub target: String,
    /// Its message and its fields.
    pub text: String,
}

/// The log since [`capture`].
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<Mutex<Vec<Line>>>);

/// Captures everything that this process logs from now on. A process has one logger, so a test that calls this needs
/// its own process.
///
/// # Panics
/// If the process already has a logger.
pub fn capture() -> Logs {
    let logs = Logs::default();
    tracing_subscriber::registry().with(logs.clone()).try_init().expect("a process without a logger");
    logs
}

impl Logs {
    /// Returns the log so far.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, metadata: &Metadata<'_>, text: Text) {
        let target = text.target.unwrap_or_else(|| metadata.target().to_owned());
        let line = Line { level: *metadata.level(), target, text: text.text };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut text = Text::default();
        attributes.record(&mut text);
        self.add(attributes.metadata(), text);
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        values.record(&mut text);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Line {
            level: Level::TRACE,
            target: "a span".to_owned(),
            text: text.text,
        });
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.add(event.metadata(), text);
    }
}

/// The fields of an event.
#[derive(Default)]
struct Text {
    text: String,
    /// The source of a record of `log`.
    target: Option<String>,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "log.target" => self.target = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.text, "{}={value:?} ", field.name());
    }
}

/// Returns the forms in which a secret may be logged: unchanged, as its `Debug` form, percent-encoded, and inside
/// base64 at any position. Forms of fewer than four characters are left out.
pub fn forms(secret: &str) -> Vec<String> {
    const SHORTEST: usize = 4;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let percent = secret.bytes().fold(String::new(), |mut text, byte| {
        let _ = if is_plain(byte) { write!(text, "{}", byte as char) } else { write!(text, "%{byte:02X}") };
        text
    });
    let escaped = format!("{secret:?}").trim_matches('"').to_owned();
    let mut forms = vec![secret.to_owned(), escaped, percent.to_lowercase(), percent];
    forms.extend((0..3).map(|before| within_base64(secret, before)));
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// Returns the characters of a base64 text that depend only on this secret, after `before` other bytes.
fn within_base64(secret: &str, before: usize) -> String {
    let bytes = [vec![0; before], secret.as_bytes().to_vec()].concat();
    let text = STANDARD_NO_PAD.encode(&bytes);
    // Those at both ends may contain bits of other bytes.
    text[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_secret_are_found_at_any_position() {
        let secret = "p@ss/w+rd=ü";
        let forms = forms(secret);
        let shows = |text: &str| forms.iter().any(|form| text.contains(form.as_str()));
        for user in ["", "u", "us", "use", "user", "user "] {
            let basic = STANDARD_NO_PAD.encode(format!("{user}:{secret}, and more"));
            assert!(shows(&basic), "{user}: {basic}");
        }
        assert!(shows("x p@ss/w+rd=ü y") && shows("p%40ss%2Fw%2Brd%3D%C3%BC") && shows("p%40ss%2fw%2brd%3d%c3%bc"));
        assert!(!shows("another password"));
    }
}
