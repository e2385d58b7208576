//! Shared by the load program and the test that runs it in pods: how the program gets the address
//! of the service, and the meaning of the files in the shared folder. Both programs include this
//! file; it holds constants only.

/// The environment variable that names the host to call.
pub(crate) const HOST: &str = "LOAD_HOST";

/// The port of our Services.
pub(crate) const PORT: u16 = 3333;

/// Where a pod finds the folder that it shares with the test.
pub(crate) const SHARED: &str = "/tests/shared";

/// The ending of the file, named after its pod, by which a pod reports that all its callers send requests.
pub(crate) const CALLS: &str = ".calls";

/// The file by which the test stops all pods.
pub(crate) const STOP: &str = "stop";

/// The path of an instance that is ready all the time.
pub(crate) const READY: &str = "/app/stand-in/ready";
