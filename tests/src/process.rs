//! Programs that run beside a test: started, awaited by what they say or accept, ended with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

use socket2::{Domain, Socket, Type};

/// A program that runs until this is dropped. What it says is collected, so that it never blocks on a full pipe.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a program without input.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let collect = move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        };
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout, stderr: Some(std::thread::spawn(collect)) }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints; empty once it has closed its output.
    ///
    /// # Panics
    /// If the line is not UTF-8.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("stdout is taken only at the end");
        stdout.read_line(&mut line).expect("the program prints UTF-8");
        line.trim_end().to_owned()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Asks it to end (SIGTERM), and returns how it did and what it said on stderr.
    pub fn terminate(self) -> (ExitStatus, String) {
        self.end_by("TERM")
    }

    /// The same with another signal, for programs that take that one for a request to finish what they do.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn end_by(self, signal: &str) -> (ExitStatus, String) {
        let told = Command::new("kill").arg(format!("-{signal}")).arg(self.id().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()), "cannot signal process {}", self.id());
        self.wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it was waited for before.
    pub fn wait(mut self) -> (ExitStatus, String) {
        // Drain what it still prints, or it could wait for us while we wait for it.
        let _ = self.stdout.take().map(|mut stdout| stdout.read_to_end(&mut Vec::new()));
        let status = self.child.wait().expect("the program was started");
        let said = self.stderr.take().map(|stderr| stderr.join().unwrap_or_default()).unwrap_or_default();
        (status, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program that ran to its end said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command) -> Said {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")).into()
}

/// Runs a program to its end, feeding it `input` while it runs.
///
/// # Panics
/// If it cannot be started.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Said {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::thread::scope(|scope| {
        // Beside the reading, or both sides could wait with full pipes. A program may end before it has read everything.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("the program was started").into()
    })
}

/// A port that was free a moment ago, for programs that cannot be told to take any. Another may get it first: try again then.
///
/// # Panics
/// If the loopback interface has no port left.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// A port of loopback's that refuses connections for as long as this lives: bound, so that nobody else gets it, and not listening.
#[derive(Debug)]
pub struct RefusingPort {
    _socket: Socket,
    /// The address that refuses.
    pub address: SocketAddr,
}

impl RefusingPort {
    /// Takes one.
    ///
    /// # Panics
    /// If the loopback interface has no port left.
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket());
        Self { _socket: socket, address: address.expect("a bound socket has an address") }
    }
}

impl Default for RefusingPort {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts a server that must be told its port, and waits until it accepts connections; takes another port if that one was lost.
///
/// # Panics
/// If the server ends by itself, with five ports.
pub fn start_on_a_free_port(mut command: impl FnMut(SocketAddr) -> Command) -> (Running, SocketAddr) {
    let mut complaints = String::new();
    for _ in 0..5 {
        let address = free_port();
        let mut running = Running::start(&mut command(address));
        loop {
            if running.has_ended() {
                complaints += &running.wait().1;
                break;
            }
            if TcpStream::connect(address).is_ok() && !running.has_ended() {
                return (running, address);
            }
            std::thread::yield_now();
        }
    }
    panic!("the server does not start: {complaints}");
}
