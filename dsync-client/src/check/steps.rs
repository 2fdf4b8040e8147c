//! What is checked, in which order, and what came of it. Nothing is done here.

use dsync_client::Destination;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// One thing that has to be right before mail can be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// The user is known here.
    User,
    /// The host's name has addresses.
    Name,
    /// The port of the host answers.
    Port,
    /// TLS, with the certificate.
    Tls,
    /// The command that stands for the other side starts and says something.
    Command,
    /// The doveadm server lets us in.
    Login,
    /// The user is known there.
    UserThere,
    /// The mail here can be opened.
    Mail,
    /// Nobody else syncs this user here.
    Lock,
    /// The mail location that is the destination can be used.
    Destination,
    /// Both sides speak the same protocol.
    Version,
    /// Nobody else syncs this user there.
    LockThere,
    /// The other side can list its mailboxes.
    MailThere,
}

impl Step {
    /// The word before the result.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Name => "name",
            Self::Port => "port",
            Self::Tls => "TLS",
            Self::Command => "command",
            Self::Login => "login",
            Self::UserThere => "user there",
            Self::Mail => "mail",
            Self::Lock => "lock",
            Self::Destination => "destination",
            Self::Version => "version",
            Self::LockThere => "lock there",
            Self::MailThere => "mail there",
        }
    }
}

/// The steps to a destination. `by_ssh`: a host that is reached by ssh, whose name and port are
/// known.
pub(crate) fn plan(destination: &Destination, by_ssh: bool) -> Vec<Step> {
    use Step::{
        Command, Destination as Local, Lock, LockThere, Login, Mail, MailThere, Name, Port, Tls,
        User, UserThere, Version,
    };
    let road: &[Step] = match destination {
        Destination::OfUser => &[],
        Destination::Location(_) => return vec![User, Mail, Lock, Local],
        Destination::Command(_) => &[Command, UserThere],
        Destination::Host { .. } if by_ssh => &[Name, Port, Command, UserThere],
        Destination::Host { .. } => &[Command, UserThere],
        Destination::Doveadm { tls, target } => match (tls, target.contains('/')) {
            (_, true) => &[Port, Login, UserThere],
            (true, _) => &[Name, Port, Tls, Login, UserThere],
            (false, _) => &[Name, Port, Login, UserThere],
        },
    };
    let both: &[Step] = &[Mail, Lock, Version, LockThere, MailThere];
    [&[User], road, both].concat()
}

/// What is wrong, and the one thing to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) step: Step,
    pub(crate) what: String,
    pub(crate) fix: String,
    pub(crate) exit_code: u8,
}

impl Trouble {
    pub(crate) fn new(step: Step, failure: Failure, fix: impl Into<String>) -> Self {
        Self {
            step,
            what: failure.message,
            fix: fix.into(),
            exit_code: failure.exit_code,
        }
    }

    /// "Try again" is what a sync would end with.
    pub(crate) fn temporary(step: Step, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(step, Failure::temporary(what), fix)
    }
}

/// A step and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) step: Step,
    /// Tried and good, tried and bad, or not tried.
    pub(crate) good: Option<bool>,
    pub(crate) text: String,
}

impl Finding {
    /// One line.
    pub(crate) fn line(&self) -> String {
        let result = match self.good {
            Some(true) => "ok",
            Some(false) => "FAILED",
            None => "-",
        };
        // What others said may have several lines.
        let text = self.text.replace(['\n', '\r'], " ");
        format!("{result:7} {:12} {text}", self.step.label())
    }
}

/// All findings so far, in the order of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) steps: Vec<Finding>,
    pub(crate) fix: Option<String>,
    pub(crate) exit_code: u8,
}

impl Findings {
    /// A step is good.
    pub(crate) fn passed(&mut self, step: Step, text: impl Into<String>) {
        self.steps.push(Finding {
            step,
            good: Some(true),
            text: text.into(),
        });
    }

    /// Everything was tried, or something failed: then the rest of the plan is not tried.
    pub(crate) fn end(&mut self, plan: &[Step], result: Result<(), Trouble>) {
        let Err(trouble) = result else { return };
        let done: Vec<Step> = self.steps.iter().map(|finding| finding.step).collect();
        let mut reached = false;
        for step in plan.iter().filter(|step| !done.contains(step)) {
            let is_it = *step == trouble.step;
            reached |= is_it;
            self.steps.push(Finding {
                step: *step,
                good: is_it.then_some(false),
                text: match (is_it, reached) {
                    (true, _) => trouble.what.clone(),
                    (false, true) => "not tried".to_owned(),
                    (false, false) => "not known".to_owned(),
                },
            });
        }
        self.fix = Some(trouble.fix);
        self.exit_code = trouble.exit_code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let labels = |destination: Destination, by_ssh| {
            let steps = plan(&destination, by_ssh);
            let labels: Vec<&str> = steps.iter().map(|step| step.label()).collect();
            labels.join(", ")
        };
        let doveadm = |target: &str, tls| Destination::Doveadm {
            target: target.into(),
            tls,
        };
        let rest = "mail, lock, version, lock there, mail there";
        for (destination, by_ssh, road) in [
            (
                doveadm("h:1", true),
                false,
                "name, port, TLS, login, user there",
            ),
            (
                doveadm("h:1", false),
                false,
                "name, port, login, user there",
            ),
            (doveadm("/run/x", false), false, "port, login, user there"),
            (
                dsync_client::parse_location("remote:h"),
                true,
                "name, port, command, user there",
            ),
            (
                dsync_client::parse_location("remote:h"),
                false,
                "command, user there",
            ),
        ] {
            assert_eq!(labels(destination, by_ssh), format!("user, {road}, {rest}"));
        }
        let local = Destination::Location("maildir:~/x".into());
        assert_eq!(labels(local, false), "user, mail, lock, destination");
    }

    #[test]
    fn what_follows_a_failure_is_not_tried() {
        let plan = [Step::Name, Step::Port, Step::Login];
        let mut findings = Findings::default();
        findings.passed(Step::Name, "h is 10.0.0.1");
        let trouble = Trouble::temporary(Step::Port, "refused\nby h", "start it");
        findings.end(&plan, Err(trouble));
        let lines: Vec<String> = findings.steps.iter().map(Finding::line).collect();
        assert_eq!(
            lines,
            [
                "ok      name         h is 10.0.0.1",
                "FAILED  port         refused by h",
                "-       login        not tried",
            ]
        );
        assert_eq!(findings.fix.as_deref(), Some("start it"));
        assert_eq!(findings.exit_code, 75);
        findings = Findings::default();
        findings.end(&plan, Ok(()));
        assert_eq!(findings, Findings::default());
    }
}
