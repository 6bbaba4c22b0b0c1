//! What holds for child processes.

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Program {
    Program::new("sh").args(["-c", script])
}

#[tokio::test]
async fn output_has_both_streams_and_the_status() {
    let output = shell("cat; echo bad >&2; exit 3")
        .output_with_input(b"good", LONG)
        .await
        .unwrap();
    assert_eq!(
        (output.status.code(), &*output.stdout, &*output.stderr),
        (Some(3), &b"good"[..], &b"bad\n"[..])
    );
    assert_eq!(output.text().unwrap_err().to_string(), "exit status: 3: bad");
}

#[tokio::test]
async fn a_process_that_ignores_term_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let child = shell("trap '' TERM; sleep 600 & echo $!; wait; wait")
        .log(&log)
        .spawn()
        .await
        .unwrap();
    let grandchild = loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if text.ends_with('\n') {
            break text.trim().to_owned();
        }
        tokio::task::yield_now().await;
    };
    let status = child.stop(Duration::from_millis(100)).await;
    assert!(!status.success());
    let stat = format!("/proc/{grandchild}/stat");
    let gone = || fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
    timeout(LONG, async {
        while !gone() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_at_once() {
    let error = Program::new("/nowhere/program").spawn().await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/program"));
}

#[tokio::test]
async fn a_clean_environment_has_only_what_is_set() {
    let output = Program::new("env")
        .clean_env()
        .env("A", "b")
        .output(LONG)
        .await
        .unwrap()
        .text()
        .unwrap();
    // Some shells add words of their own.
    let expected = |line: &str| line == "A=b" || ["PATH=", "PWD=", "SHLVL=", "_="].iter().any(|p| line.starts_with(p));
    assert!(output.lines().all(expected), "{output}");
}
