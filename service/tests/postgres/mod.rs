//! A real PostgreSQL for tests, of this process alone, gone with it. It must not know what is kept in it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

pub(crate) struct Postgres {
    folder: PathBuf,
    script: Mutex<Script>,
    databases: AtomicU32,
}

struct Script {
    #[expect(dead_code, reason = "it ends when its standard input does")]
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Script {
    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected, "PostgreSQL's own words stand above");
    }

    fn order(&mut self, order: &str, answer: &str) {
        writeln!(self.orders, "{order}").unwrap();
        self.hear(answer);
    }
}

impl Postgres {
    /// One for all tests of this process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One that a test may stop.
    pub(crate) fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let setup = Command::new(root.join("tests/lab/setup/postgres.sh"))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(
            setup.status.success(),
            "there is no PostgreSQL; the reason stands above"
        );
        let programs = String::from_utf8(setup.stdout).unwrap();
        // Its owner is another user, who removes it too.
        let folder = tempfile::Builder::new()
            .prefix("user-service-")
            .tempdir_in("/tmp")
            .unwrap()
            .keep();
        let mut child = Command::new(root.join("service/tests/postgres/run.sh"))
            .args([Path::new(programs.trim()), &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        let mut script = Script { child, orders, answers };
        script.hear("ready");
        Self {
            folder,
            script: Mutex::new(script),
            databases: AtomicU32::new(0),
        }
    }

    /// A new empty database's URL.
    pub(crate) async fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(create).await.unwrap();
        connection.close().await.unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:secret@localhost/{database}?host={}",
            self.folder.display()
        )
    }

    #[allow(dead_code, reason = "not every test breaks it")]
    pub(crate) fn down(&self) {
        self.script.lock().unwrap().order("stop", "stopped");
    }

    #[allow(dead_code, reason = "not every test breaks it")]
    pub(crate) fn up(&self) {
        self.script.lock().unwrap().order("start", "ready");
    }
}
