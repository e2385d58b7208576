//! What the sandbox is asked for: its arguments, as values. Pure.
//!
//! Arguments become [`Options`] here or are refused in one sentence; what the
//! options do is decided where they are used. The settings of the service are
//! not repeated here: the sandbox is for a first look, not for tuning.

/// The port of the service where none is asked for, which is the one it has in a cluster.
const PORT_DEFAULT: u16 = 3333;

/// How it is called, for `--help` and beside a refusal.
pub(crate) const USAGE: &str = "\
Usage: cargo run --example sandbox -- [--port N] [--one-address] [--templates FILE]...

  --port N          port of the service on 127.0.0.1 [3333]; 0 lets the system choose
  --one-address     use no address but 127.0.0.1, as on machines that have no other
                    (macOS): all pods share it, and one page names those that run
  --templates FILE  serve one's own templates in place of the demo's: a manifest with
                    ConfigMaps, or a pod template, whose type is then the file's name;
                    several times for several files. Images are not run: a page stands
                    in for each app, and is ready a moment later. ConfigMaps get the
                    label that they need on a cluster; `config-controller check FILE`
                    finds what else differs there
  --help            print this

Ctrl-C stops it. Nothing is written to disk, and nothing leaves this machine.
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Print the usage.
    Help,
    /// Run.
    Run(Options),
}

/// How to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The service's port; 0 lets the system choose.
    pub(crate) port: u16,
    /// Whether only 127.0.0.1 is used.
    pub(crate) one_address: bool,
    /// Files with templates; none means those of the demo.
    pub(crate) templates: Vec<String>,
}

/// Reads the arguments, without the program's name. An error is one sentence.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Asked, String> {
    let mut options = Options {
        port: PORT_DEFAULT,
        one_address: false,
        templates: Vec::new(),
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        match (flag, attached) {
            ("--help" | "-h", None) => return Ok(Asked::Help),
            ("--one-address", None) => options.one_address = true,
            ("--port", attached) => {
                let value = attached.or_else(|| arguments.next());
                options.port = port(value.as_deref())?;
            }
            ("--templates", attached) => {
                let file = attached.or_else(|| arguments.next());
                let file = file.ok_or("--templates needs a file after it.")?;
                options.templates.push(file);
            }
            _ => return Err(format!("'{argument}' is no argument of the sandbox.")),
        }
    }
    Ok(Asked::Run(options))
}

fn port(value: Option<&str>) -> Result<u16, String> {
    let value = value.ok_or("--port needs a number from 0 to 65535 after it.")?;
    value
        .parse()
        .map_err(|_| format!("--port needs a number from 0 to 65535, and '{value}' is none."))
}
