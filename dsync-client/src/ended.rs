//! The result of one user's run, wherever it was done.

use serde_json::Value;

use crate::failure::Failure;
use crate::json;
use crate::report::Report;

/// How the run of one user ended. Everything for people has been said already.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) exit_code: u8,
    /// What failed, in one line.
    pub(crate) error: Option<String>,
    /// The state for the next run, if it was asked for.
    pub(crate) state: Option<String>,
    /// The whole result as a JSON object.
    pub(crate) json: String,
}

impl Ended {
    /// A run that was not even started.
    pub(crate) fn failed(user: Option<&str>, failure: &Failure) -> Self {
        Self {
            exit_code: failure.exit_code,
            error: Some(failure.message.clone()),
            state: None,
            json: json::failure(user, &failure.message, failure.exit_code),
        }
    }

    /// A run in this process.
    pub(crate) fn reported(user: &str, report: &Report) -> Self {
        Self {
            exit_code: report.exit_code,
            error: report.error(),
            state: report.state.clone(),
            json: json::report(user, report),
        }
    }

    /// A run that a doveadm server did.
    pub(crate) fn elsewhere(
        user: &str,
        exit_code: u8,
        error: Option<String>,
        state: Option<String>,
    ) -> Self {
        Self {
            json: json::elsewhere(user, exit_code, error.as_deref(), state.as_deref()),
            exit_code,
            error,
            state,
        }
    }

    /// A run in a worker, which printed its result; `code` is how it ended, `stopped` the signal
    /// that was passed on to it. An error if there is no result.
    pub(crate) fn of_worker(
        user: &str,
        printed: &str,
        code: Option<i32>,
        stopped: Option<&str>,
    ) -> Result<Self, Failure> {
        let printed = printed.trim_end();
        let Ok(object) = serde_json::from_str::<Value>(printed) else {
            return Err(Failure::temporary(match (stopped, code) {
                // It had not come so far that it could say so itself.
                (Some(signal), _) => format!("stopped by {signal} before the run began"),
                (None, Some(code)) => {
                    format!("the process for {user} ended with {code} without a result")
                }
                (None, None) => format!("the process for {user} was killed"),
            }));
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let exit_code = object["exit_code"]
            .as_u64()
            .and_then(|code| u8::try_from(code).ok());
        let exit_code = exit_code.unwrap_or(75);
        Ok(Self {
            exit_code,
            error: text(&object["error"]["message"])
                .or_else(|| text(&object["run_again"]))
                .or_else(|| (exit_code != 0).then(|| "problems, see above".to_owned())),
            state: text(&object["state"]),
            json: printed.to_owned(),
        })
    }
}

/// The worst of all exit codes: failures over "run it again" over success, 75 over other failures,
/// the first of equals.
pub(crate) fn worst(codes: impl Iterator<Item = u8>) -> u8 {
    let badness = |code: u8| match code {
        0 => 0,
        2 => 1,
        75 => 3,
        _ => 2,
    };
    codes.fold(0, |worst, code| {
        if badness(code) > badness(worst) {
            code
        } else {
            worst
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_worst_wins() {
        for (codes, expected) in [
            (&[][..], 0),
            (&[0, 0], 0),
            (&[0, 2, 0], 2),
            (&[2, 67, 77], 67),
            (&[67, 75, 2, 0], 75),
        ] {
            assert_eq!(worst(codes.iter().copied()), expected);
        }
    }

    #[test]
    fn what_workers_print() {
        let printed = "{\"exit_code\":2,\"run_again\":\"x\",\"state\":\"AQ\"}\n";
        let ended = Ended::of_worker("joe", printed, Some(2), None).unwrap();
        assert_eq!((ended.exit_code, ended.error.as_deref()), (2, Some("x")));
        assert_eq!(ended.state.as_deref(), Some("AQ"));
        for (code, stopped, text) in [
            (Some(101), None, "the process for joe ended with 101"),
            (None, None, "the process for joe was killed"),
            (None, Some("SIGTERM"), "stopped by SIGTERM"),
        ] {
            let failure = Ended::of_worker("joe", "", code, stopped).unwrap_err();
            assert!(failure.message.starts_with(text), "{}", failure.message);
            assert_eq!(failure.exit_code, 75);
        }
    }
}
