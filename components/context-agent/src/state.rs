//! What the agent remembers of one source.

use crate::model::{Assessment, WINDOW};

/// Readings before the first verdict: enough of them to know how far the source usually moves.
pub const WARM_UP: u64 = 16;
/// After so many anomalies in a row the source has moved for good: the agent starts a new window.
pub const NEW_LEVEL_AFTER: u32 = 4;
/// Weight of the newest step in the usual step, once there are enough of them.
const FORGET: f64 = 1.0 / 64.0;
/// An anomaly counts for the usual step as at most this multiple of the mean square: a source that became livelier is
/// followed slowly, and one odd reading cannot blind the model.
const BOUND: f64 = 16.0;
/// First byte of the stored form; changes when the layout does.
const FORMAT: u8 = 1;
const LENGTH: usize = 1 + 8 * 8 + 3 * 4 + 4 * (WINDOW - 1);

#[derive(Clone, Default)]
pub struct State {
    /// Readings with a verdict, and over all of them: smallest, largest, mean, last.
    pub count: u64,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub value: f64,
    pub timestamp: u64,
    pub anomalies: u64,
    /// Mean square of the steps from the last normal reading, older ones fading.
    square: f64,
    steps: u32,
    /// Anomalies since the last normal reading.
    streak: u32,
    /// The newest normal readings, oldest first; anomalies do not become part of what is normal.
    recent: Vec<f32>,
}

impl State {
    /// The readings the model judges, `value` last; none while warming up.
    pub fn window(&self, value: f32) -> Option<[f32; WINDOW]> {
        if self.count < WARM_UP {
            return None;
        }
        let mut window = self.recent.clone();
        window.push(value);
        window.try_into().ok()
    }

    /// How far the source usually moves from one reading to the next: the root of the mean square, so that rare large
    /// steps of a bursty source count.
    pub fn usual_step(&self) -> f32 {
        self.square.sqrt() as f32
    }

    /// Take in a reading together with what the model said, if it was asked.
    pub fn record(&mut self, value: f32, timestamp: u64, assessment: Option<Assessment>) {
        let number = f64::from(value);
        self.count += 1;
        if self.count == 1 {
            (self.min, self.max) = (number, number);
        }
        self.min = self.min.min(number);
        self.max = self.max.max(number);
        self.mean += (number - self.mean) / self.count as f64;
        self.value = number;
        self.timestamp = timestamp;
        let anomaly = assessment.is_some_and(Assessment::is_anomaly);
        self.take_step(value, anomaly);
        if anomaly {
            self.anomalies += 1;
            self.streak += 1;
            if self.streak >= NEW_LEVEL_AFTER {
                self.streak = 0;
                self.recent.clear();
            }
        } else {
            self.streak = 0;
            if self.recent.len() == WINDOW - 1 {
                self.recent.remove(0);
            }
            self.recent.push(value);
        }
    }

    fn take_step(&mut self, value: f32, anomaly: bool) {
        let Some(last) = self.recent.last() else {
            return;
        };
        let mut square = (f64::from(value) - f64::from(*last)).powi(2);
        if anomaly {
            square = square.min(BOUND * self.square);
        }
        self.steps = self.steps.saturating_add(1);
        self.square += (square - self.square) * (1.0 / f64::from(self.steps)).max(FORGET);
    }

    /// The stored form: format, then every field in the order below, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(FORMAT);
        for number in [self.count, self.timestamp, self.anomalies] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [self.min, self.max, self.mean, self.value, self.square] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [self.steps, self.streak, self.recent.len() as u32] {
            bytes.extend(number.to_le_bytes());
        }
        for reading in &self.recent {
            bytes.extend(reading.to_le_bytes());
        }
        bytes
    }

    /// None if `bytes` is not what `to_bytes` makes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORMAT])?;
        let [count, timestamp, anomalies] = [0; 3].map(|_| take(&mut rest).map(u64::from_le_bytes));
        let [min, max, mean, value, square] = [0; 5].map(|_| take(&mut rest).map(f64::from_le_bytes));
        let [steps, streak, length] = [0; 3].map(|_| take(&mut rest).map(u32::from_le_bytes));
        let (recent, []) = rest.as_chunks::<4>() else {
            return None;
        };
        if recent.len() != length? as usize || recent.len() >= WINDOW {
            return None;
        }
        Some(Self {
            count: count?,
            min: min?,
            max: max?,
            mean: mean?,
            value: value?,
            timestamp: timestamp?,
            anomalies: anomalies?,
            square: square?,
            steps: steps?,
            streak: streak?,
            recent: recent.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect(),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMAL: Option<Assessment> = Some(Assessment { score: 0.5, threshold: 1.0 });
    const ANOMALY: Option<Assessment> = Some(Assessment { score: 1.5, threshold: 1.0 });

    fn after(values: impl IntoIterator<Item = f32>) -> State {
        let mut state = State::default();
        for (second, value) in values.into_iter().enumerate() {
            state.record(value, second as u64, None);
        }
        state
    }

    #[test]
    fn the_first_verdict_comes_after_the_warm_up() {
        assert!(after((0..15).map(|i| i as f32)).window(1.0).is_none());
        let window = after((0..16).map(|i| i as f32)).window(99.0);
        assert_eq!(window, Some([9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 99.0]));
    }

    #[test]
    fn the_summary_covers_every_reading() {
        let mut state = after([2.0, 4.0]);
        state.record(-3.0, 7, ANOMALY);
        assert_eq!((state.count, state.anomalies, state.timestamp), (3, 1, 7));
        assert_eq!((state.min, state.max, state.mean, state.value), (-3.0, 4.0, 1.0, -3.0));
    }

    #[test]
    fn an_anomaly_does_not_become_normal_at_once() {
        let mut state = after((0..16).map(|_| 5.0));
        state.record(500.0, 0, ANOMALY);
        assert_eq!(state.window(5.0), Some([5.0; WINDOW]));
        assert_eq!(state.usual_step(), 0.0);
    }

    #[test]
    fn four_anomalies_in_a_row_start_a_new_window() {
        let mut state = after((0..16).map(|_| 5.0));
        for _ in 0..3 {
            state.record(50.0, 0, ANOMALY);
        }
        state.record(5.0, 0, NORMAL);
        assert!(state.window(5.0).is_some(), "a normal reading ends the row");
        for _ in 0..4 {
            state.record(50.0, 0, ANOMALY);
        }
        assert!(state.window(50.0).is_none());
        for _ in 0..WINDOW - 1 {
            state.record(50.0, 0, None);
        }
        assert_eq!(state.window(50.0), Some([50.0; WINDOW]));
    }

    #[test]
    fn the_usual_step_is_the_root_mean_square() {
        assert_eq!(after([0.0, 3.0, -1.0]).usual_step(), 12.5f32.sqrt());
    }

    #[test]
    fn an_anomaly_counts_as_four_usual_steps_at_most() {
        let mut state = after([0.0, 1.0]);
        state.record(1e6, 0, ANOMALY);
        assert_eq!(state.usual_step(), ((1.0 + 16.0) / 2.0f32).sqrt());
    }

    #[test]
    fn the_stored_form_brings_everything_back() {
        let mut state = after((0..16).map(|i| (i * i) as f32 / 7.0));
        state.record(1e9, u64::MAX, ANOMALY);
        let bytes = state.to_bytes();
        assert_eq!(bytes.len(), LENGTH);
        let back = State::from_bytes(&bytes).expect("own format");
        assert_eq!(back.to_bytes(), bytes);
        assert_eq!(back.window(3.0), state.window(3.0));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let bytes = after([1.0, 2.0]).to_bytes();
        let mut other_format = bytes.clone();
        other_format[0] = 2;
        let mut wrong_length = bytes.clone();
        wrong_length.extend([0; 4]);
        for foreign in [&[][..], b"{}", &bytes[..bytes.len() - 1], &other_format, &wrong_length] {
            assert!(State::from_bytes(foreign).is_none());
        }
    }
}
