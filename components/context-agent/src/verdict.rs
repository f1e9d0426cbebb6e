//! What the agent answers and what it leaves in the store for others, as compact JSON.

use std::fmt::Write;

use crate::model::Assessment;
use crate::state::State;

pub struct Verdict<'a> {
    source: &'a str,
    assessment: Option<Assessment>,
    count: u64,
    mean: f64,
}

impl<'a> Verdict<'a> {
    pub fn new(source: &'a str, assessment: Option<Assessment>, state: &State) -> Self {
        Self { source, assessment, count: state.count, mean: state.mean }
    }

    pub fn is_anomaly(&self) -> bool {
        self.assessment.is_some_and(Assessment::is_anomaly)
    }

    fn word(&self) -> &'static str {
        match self.assessment {
            None => "warming-up",
            Some(_) if self.is_anomaly() => "anomaly",
            Some(_) => "normal",
        }
    }

    pub fn to_json(&self) -> String {
        let (score, threshold) = match self.assessment {
            Some(found) => (format!("{:.4}", found.score), format!("{:.4}", found.threshold)),
            None => ("null".to_string(), "null".to_string()),
        };
        format!(
            r#"{{"source":{},"verdict":"{}","score":{score},"threshold":{threshold},"count":{},"mean":{:.4}}}"#,
            quote(self.source),
            self.word(),
            self.count,
            self.mean
        )
    }
}

/// The answer to a reading without a verdict; `word` is `invalid` or `error`.
pub fn refusal(source: &str, word: &str, reason: &str) -> String {
    format!(r#"{{"source":{},"verdict":"{word}","reason":{}}}"#, quote(source), quote(reason))
}

/// The summary of a source that others may read.
pub fn summary(verdict: &Verdict, state: &State) -> String {
    format!(
        concat!(
            r#"{{"source":{},"count":{},"min":{:.4},"max":{:.4},"mean":{:.4},"anomalies":{},"#,
            r#""verdict":"{}","value":{:.4},"timestamp":{}}}"#
        ),
        quote(verdict.source),
        state.count,
        state.min,
        state.max,
        state.mean,
        state.anomalies,
        verdict.word(),
        state.value,
        state.timestamp
    )
}

/// `text` as a JSON string (RFC 8259 section 7).
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_one_line_of_json() {
        let mut state = State::default();
        state.record(1.5, 7, None);
        let warming_up = Verdict::new("hall", None, &state);
        assert_eq!(
            warming_up.to_json(),
            r#"{"source":"hall","verdict":"warming-up","score":null,"threshold":null,"count":1,"mean":1.5000}"#
        );
        assert_eq!(
            summary(&warming_up, &state),
            concat!(
                r#"{"source":"hall","count":1,"min":1.5000,"max":1.5000,"mean":1.5000,"anomalies":0,"#,
                r#""verdict":"warming-up","value":1.5000,"timestamp":7}"#
            )
        );
        for (score, word) in [(3.0, "normal"), (3.5, "anomaly")] {
            let json = Verdict::new("hall", Some(Assessment { score, threshold: 3.0 }), &state).to_json();
            assert!(json.contains(&format!(r#""verdict":"{word}","score":{score:.4},"threshold":3.0000,"#)), "{json}");
        }
    }

    #[test]
    fn text_from_outside_cannot_break_out_of_the_json() {
        assert_eq!(
            refusal("a\"b\\c\n\u{1}é", "invalid", "no"),
            "{\"source\":\"a\\\"b\\\\c\\u000a\\u0001é\",\"verdict\":\"invalid\",\"reason\":\"no\"}"
        );
    }
}
