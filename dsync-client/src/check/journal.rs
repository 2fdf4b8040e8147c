//! Writes down what is found, and shows each line at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::session::with_heard;
use super::steps::{Finding, Findings, Step, Trouble};
use crate::console::Console;

/// Lines of others that are kept, and how long each of them may be, in characters.
const MAX_HEARD: usize = 20;
const LONGEST_HEARD: usize = 500;

/// What is found, and who wants to see it.
pub(super) struct Journal<'a> {
    pub(super) findings: Findings,
    plan: Vec<Step>,
    /// Shows each line, unless a machine reads the result.
    console: Option<&'a Console>,
}

impl<'a> Journal<'a> {
    pub(super) fn new(plan: Vec<Step>, console: Option<&'a Console>) -> Self {
        Self {
            findings: Findings::default(),
            plan,
            console,
        }
    }

    pub(super) fn passed(&mut self, step: Step, text: impl Into<String>) {
        self.findings.passed(step, text);
        self.show(self.findings.steps.len().saturating_sub(1));
    }

    /// Nothing more is tried.
    pub(super) fn end(&mut self, result: Result<(), Trouble>) {
        let shown = self.findings.steps.len();
        self.findings.end(&self.plan, result);
        self.show(shown);
    }

    /// Takes over what another process has found; `heard` is what it could not hear.
    pub(super) fn explain(&mut self, findings: Findings, heard: &str) {
        let shown = self.findings.steps.len();
        let findings = with_heard(&self.plan, findings, heard);
        let others = findings.steps.into_iter();
        // The steps that are known already are none of its business.
        let known: Vec<Step> = self.findings.steps.iter().map(|it| it.step).collect();
        self.findings
            .steps
            .extend(others.filter(|it| !known.contains(&it.step)));
        self.findings.fix = findings.fix;
        self.findings.exit_code = findings.exit_code;
        self.show(shown);
    }

    fn show(&self, from: usize) {
        let Some(console) = self.console else { return };
        for finding in self.findings.steps.iter().skip(from).map(Finding::line) {
            console.result(&finding);
        }
    }
}

/// What the other side says for people, its last lines.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<VecDeque<String>>>);

impl Heard {
    pub(super) fn add(&self, line: &str) {
        let line: String = line
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST_HEARD)
            .collect();
        if line.is_empty() {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MAX_HEARD {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// All that is kept, in one line.
    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect::<Vec<_>>().join("; ")
    }
}
