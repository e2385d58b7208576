//! [`Schedule`]: which template is tried next, and what is known of each.
//!
//! Pure: time is an argument. A template is tried when it is new or has changed, again with back-off
//! while nothing follows from the result, and now and then in any case, since policies and quotas change,
//! too. Who makes the calls is in [`super`], what follows from them in [`super::judgement`].

use super::report::{Report, Verdict};
use crate::app::catalog::{Catalog, Offer};
use crate::model::names::AppType;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many templates are tried at the same time: each takes one call at a time.
pub const AT_ONCE: usize = 2;

/// A template that the API server accepts is tried again after this time.
const RECHECK: Duration = Duration::from_secs(1800);

/// One that it does not accept, or warns of, after this time: what its fault is may be elsewhere.
const RECHECK_FAULTY: Duration = Duration::from_secs(120);

/// The first pause of one from which nothing followed; it doubles up to [`RECHECK_FAULTY`].
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// How much of a pause is random, so that replicas do not try at the same time: one part in so many.
const JITTER: u32 = 5;

/// The bytes of all reports. What does not fit is shortened.
pub const REPORTS_BYTES_MAX: usize = 1024 * 1024;

/// The templates and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    records: BTreeMap<AppType, Record>,
    in_flight: usize,
    /// How many there were.
    tasks: u64,
    /// Since no pod may be tried; it is asked again at that time.
    no_pods: Option<NoPods>,
    bytes: usize,
    /// Differs from replica to replica.
    random: RandomState,
}

#[derive(Debug)]
struct NoPods {
    /// The words of Kubernetes.
    why: Box<str>,
    asked: u32,
    ask_at: Instant,
}

#[derive(Debug)]
struct Record {
    offer: Arc<Offer>,
    /// When it is tried next; never, if it cannot be read.
    due: Option<Instant>,
    /// How often in a row nothing followed.
    unchecked: u32,
    /// The number of the task that tries it, or has tried the one before.
    running: Option<u64>,
    /// Whether it was tried since it has changed.
    is_tried: bool,
    report: Arc<Report>,
}

/// What is to be tried.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Among all tasks: the type may have gone and come again meanwhile.
    pub(super) number: u64,
    pub(super) app_type: AppType,
    pub(super) offer: Arc<Offer>,
    /// Why its pod is not tried, if it is not.
    pub(super) no_pod: Option<Box<str>>,
}

/// The result of a task.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) report: Report,
    /// Whether a pod may be tried, if that was found out: else the words of Kubernetes.
    pub(super) pods: Option<Result<(), Box<str>>>,
}

/// What is new, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The report of a template is another than that before.
    Report(AppType, Arc<Report>),
    /// Pods may not be tried, as Kubernetes has said in these words.
    NoPods(Box<str>),
    /// They may again.
    Pods,
}

impl Schedule {
    /// Takes over the templates on offer: those that are new or have changed are due.
    pub(super) fn sync(&mut self, catalog: &Catalog, now: Instant) {
        self.records.retain(|app_type, record| {
            let is_kept = catalog.get(app_type).is_some();
            if !is_kept {
                self.bytes -= record.report.bytes();
            }
            is_kept
        });
        for (app_type, offer) in catalog.offers() {
            let known = self.records.get(app_type);
            if known.is_some_and(|known| Arc::ptr_eq(&known.offer, offer)) {
                continue;
            }
            let report = Arc::new(read(offer));
            let running = known.and_then(|known| known.running);
            let is_readable = report.verdict != Verdict::Invalid;
            let before = known.map_or(0, |known| known.report.bytes());
            self.bytes = self.bytes - before + report.bytes();
            let record = Record {
                offer: Arc::clone(offer),
                due: is_readable.then_some(now),
                unchecked: 0,
                running,
                is_tried: false,
                report,
            };
            self.records.insert(app_type.clone(), record);
        }
    }

    /// The template that is due, if one more may be tried. [`Schedule::finish`] must follow.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Task> {
        if self.in_flight >= AT_ONCE {
            return None;
        }
        let asks_for_pods = self
            .no_pods
            .as_ref()
            .is_some_and(|no_pods| no_pods.ask_at <= now);
        let is_due = |record: &Record| {
            let due = record.due.filter(|_| record.running.is_none());
            // Any that was found to be valid will do.
            let asks = asks_for_pods && record.report.verdict == Verdict::Valid;
            let asks = asks && due.is_some();
            asks || due.is_some_and(|due| due <= now)
        };
        let due = self.records.iter_mut().filter(|(_, record)| is_due(record));
        // What was never tried comes first: somebody waits for it.
        let (app_type, record) = due.min_by_key(|(_, record)| (record.is_tried, record.due))?;
        self.tasks += 1;
        record.running = Some(self.tasks);
        self.in_flight += 1;
        let mut no_pod = None;
        if let Some(no_pods) = &mut self.no_pods {
            if asks_for_pods {
                no_pods.ask_at = now + RECHECK_FAULTY;
            } else {
                no_pod = Some(no_pods.why.clone());
            }
        }
        Some(Task {
            number: self.tasks,
            app_type: app_type.clone(),
            offer: Arc::clone(&record.offer),
            no_pod,
        })
    }

    /// When [`Schedule::take_due`] has something next, as far as that depends on the time.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.in_flight >= AT_ONCE {
            return None;
        }
        let waiting = self
            .records
            .values()
            .filter(|record| record.running.is_none());
        let due = waiting.clone().filter_map(|record| record.due).min();
        let mut askable =
            waiting.filter(|it| it.due.is_some() && it.report.verdict == Verdict::Valid);
        let ask_at = self.no_pods.as_ref().map(|no_pods| no_pods.ask_at);
        let ask_at = ask_at.filter(|_| askable.next().is_some());
        due.into_iter().chain(ask_at).min()
    }

    /// A task has ended. If its template has changed meanwhile, its result counts for nothing.
    pub(super) fn finish(&mut self, task: &Task, outcome: Outcome, now: Instant) -> Vec<News> {
        self.in_flight -= 1;
        let mut news = self.learn_of_pods(outcome.pods, now);
        let Some(record) = self.records.get_mut(&task.app_type) else {
            return news;
        };
        if record.running == Some(task.number) {
            record.running = None;
        }
        if !Arc::ptr_eq(&record.offer, &task.offer) {
            return news;
        }
        let full = Arc::new(outcome.report);
        let is_unchecked = full.verdict == Verdict::Unchecked;
        record.unchecked = if is_unchecked {
            record.unchecked + 1
        } else {
            0
        };
        let pause = match full.verdict {
            Verdict::Unchecked => back_off(record.unchecked),
            Verdict::Valid if full.warnings.is_empty() => RECHECK,
            _ => RECHECK_FAULTY,
        };
        // An example may come with the next change only.
        let has_next = full.verdict != Verdict::NeedsValues;
        let jitter = jitter(&self.random, &task.app_type, now, pause);
        record.due = has_next.then(|| now + pause + jitter);
        let others = self.bytes - record.report.bytes();
        let kept = if others + full.bytes() <= REPORTS_BYTES_MAX {
            Arc::clone(&full)
        } else {
            Arc::new(full.shortened())
        };
        self.bytes = others + kept.bytes();
        let is_news = !record.is_tried || record.report != kept;
        record.is_tried = true;
        record.report = kept;
        if is_news {
            news.push(News::Report(task.app_type.clone(), full));
        }
        news
    }

    fn learn_of_pods(&mut self, pods: Option<Result<(), Box<str>>>, now: Instant) -> Vec<News> {
        match (pods, &mut self.no_pods) {
            (Some(Err(why)), Some(known)) => {
                known.asked = known.asked.saturating_add(1);
                known.ask_at = now + back_off(known.asked);
                known.why = why;
                Vec::new()
            }
            (Some(Err(why)), None) => {
                self.no_pods = Some(NoPods {
                    why: why.clone(),
                    asked: 1,
                    ask_at: now + back_off(1),
                });
                vec![News::NoPods(why)]
            }
            (Some(Ok(())), Some(_)) => {
                self.no_pods = None;
                // All are tried again, with their pods.
                for record in self.records.values_mut() {
                    record.due = record.due.map(|due| due.min(now));
                }
                vec![News::Pods]
            }
            (Some(Ok(())), None) | (None, _) => Vec::new(),
        }
    }

    /// What is known of this template; nothing before [`Schedule::sync`] has brought it.
    pub(super) fn report(&self, app_type: &AppType, offer: &Arc<Offer>) -> Option<&Arc<Report>> {
        let record = self.records.get(app_type);
        let record = record.filter(|record| Arc::ptr_eq(&record.offer, offer));
        record.map(|record| &record.report)
    }
}

#[cfg(test)]
impl Schedule {
    /// The report of this type, of whichever template.
    pub(super) fn last_report(&self, app_type: &AppType) -> Option<&Arc<Report>> {
        self.records.get(app_type).map(|record| &record.report)
    }
}

/// What is known of a template before it is tried.
fn read(offer: &Offer) -> Report {
    match offer.problem() {
        Some(problem) => Report {
            place: offer.place().map(Into::into),
            ..Report::new(Verdict::Invalid).saying(&problem)
        },
        None => Report::untried(),
    }
}

/// The pause after so many results in a row from which nothing followed.
fn back_off(count: u32) -> Duration {
    let factor = 1_u32 << count.saturating_sub(1).min(16);
    RETRY_FIRST.saturating_mul(factor).min(RECHECK_FAULTY)
}

fn jitter(random: &RandomState, app_type: &AppType, now: Instant, pause: Duration) -> Duration {
    let part = u32::try_from(random.hash_one((app_type.as_str(), now)) % 1024).unwrap_or(0);
    pause / JITTER * part / 1024
}
