//! The processes that attacks need, started as each of them asks: the filled API server, the service
//! in its memory group, the well-behaved client.

use crate::arena::{self, Outcome, Target};
use crate::environment::{self, Cluster, Launch};
use crate::memory_group::MemoryGroup;
use crate::strikes::table::SHARED;
use crate::strikes::{Aim, Auth, Setup, Start, Strike, tokens};
use crate::{ALONE, prepare_medium_response};
use std::path::PathBuf;
use std::time::Duration;

/// How long a service of its own may take until it is ready.
const READY_MAX: Duration = Duration::from_secs(30);

/// The service that most attacks share, and what others are started over.
#[derive(Debug)]
pub(crate) struct Field {
    aim: Aim,
    groups: usize,
    /// Why this machine has no memory groups, once that is known.
    groupless: Option<String>,
    /// The file of `AUTH_TOKENS_FILE`.
    tokens: PathBuf,
    standing: Option<Target>,
    shared: Cluster,
    /// The API server of the strike before, if that has left it as it was.
    kept: Option<(&'static [&'static str], Cluster)>,
}

impl Field {
    /// Starts the API server that most attacks share.
    pub(crate) fn new(aim: &Aim) -> Result<Self, String> {
        let tokens = std::env::temp_dir().join(format!("attack-tokens-{}", std::process::id()));
        std::fs::write(&tokens, tokens::file())
            .map_err(|error| format!("cannot write {}: {error}", tokens.display()))?;
        Ok(Self {
            aim: aim.clone(),
            groups: 0,
            groupless: None,
            tokens,
            standing: None,
            shared: Cluster::holding(SHARED)?,
            kept: None,
        })
    }

    /// A new memory group; says so, once, where this machine has none.
    fn group(&mut self) -> Option<MemoryGroup> {
        self.groups += 1;
        match MemoryGroup::new(self.groups) {
            Ok(group) => Some(group),
            Err(why) => {
                if self.groupless.is_none() {
                    eprintln!("no memory cgroup ({why}): only resident memory is bounded");
                }
                self.groupless.get_or_insert(why);
                None
            }
        }
    }

    /// Why there were no memory groups, if so.
    pub(crate) fn groupless(&self) -> Option<&str> {
        self.groupless.as_deref()
    }

    fn launch(start: Start, group: Option<&MemoryGroup>) -> Result<Launch, String> {
        let mut wrapper = group.map(MemoryGroup::wrapper).unwrap_or_default();
        wrapper.0.extend(arena::wrapper(start)?.0);
        Ok(Launch {
            wrapper,
            ..Launch::default()
        })
    }

    fn over_shared(&mut self, start: Start) -> Result<Target, String> {
        let group = self.group();
        let launch = Self::launch(start, group.as_ref())?;
        let served = environment::launched(&self.shared.kubeconfig, &launch)?;
        Target::local(served, group, &self.aim)
    }

    /// The service that most attacks share: started when it is first needed, and when it has died.
    pub(crate) fn standing(&mut self) -> Result<&mut Target, String> {
        if self.standing.is_none() {
            let mut target = self.over_shared(Start::Plain)?;
            prepare_medium_response(target.aim.address)?;
            // What the process holds for good is there before the first attack.
            target.probe.watch(ALONE)?;
            self.standing = Some(target);
        }
        self.standing
            .as_mut()
            .ok_or_else(|| "no service".to_owned())
    }

    /// Runs a strike on the service; an error is the reason why it could not be run.
    pub(crate) fn strike(&mut self, strike: &Strike) -> Result<Outcome, String> {
        match strike.start {
            Start::Plain => {
                let outcome = arena::strike(self.standing()?, strike)?;
                if outcome.after != arena::After::Healthy {
                    self.standing = None;
                }
                Ok(outcome)
            }
            Start::FewFiles | Start::FewThreads => {
                arena::strike(&mut self.over_shared(strike.start)?, strike)
            }
            Start::Over(setup) => self.strike_over(strike, &setup),
        }
    }

    fn strike_over(&mut self, strike: &Strike, setup: &Setup) -> Result<Outcome, String> {
        let kept = self
            .kept
            .take()
            .filter(|(words, _)| *words == setup.cluster);
        let mut cluster = match kept {
            Some((_, cluster)) => cluster,
            None => Cluster::holding(setup.cluster)?,
        };
        let group = self.group();
        let mut launch = Self::launch(strike.start, group.as_ref())?;
        launch.log = true;
        launch.longest = READY_MAX;
        launch.flags = setup.flags.iter().map(|&flag| flag.to_owned()).collect();
        launch.flags.extend(match setup.auth {
            Auth::None => vec![],
            Auth::Token => vec![
                "--auth=token".to_owned(),
                format!("--auth-tokens-file={}", self.tokens.display()),
            ],
            Auth::Kubernetes => vec![
                "--auth=kubernetes".to_owned(),
                "--auth-allow=default/portal".to_owned(),
            ],
        });
        let outcome = match environment::launched(&cluster.kubeconfig, &launch) {
            Err(why) => Outcome::not_ready(why, group.as_ref()),
            Ok(served) => {
                let mut aim = self.aim.clone();
                aim.lines = tokens::lines(setup.auth);
                let mut target = Target::local(served, group, &aim)?;
                arena::strike_over(&mut target, strike, setup, &mut cluster)?
            }
        };
        if setup.keeps {
            self.kept = Some((setup.cluster, cluster));
        }
        Ok(outcome)
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        // Left over in the folder for temporary files at worst.
        let _ = std::fs::remove_file(&self.tokens);
    }
}
