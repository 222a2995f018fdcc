//! What other subcommands print of an agent's answers.

use super::*;

#[tokio::test]
async fn the_answers_of_the_agent_are_printed() {
    let mut stage = Stage::new();
    for (arguments, answer, expected) in [
        (&["workers", "--json"][..], json!([{"id": "w1"}]), "[{\"id\":\"w1\"}]\n"),
        (&["workers"], json!([]), "No workers are registered. Start one: monitor run -- CMD\n"),
        (&["kills", "--json"], json!([]), "[]\n"),
    ] {
        let mut command = monitor();
        command.args(arguments).env("MONITOR_SOCKET", stage.agent.path()).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        stage.agent.call().await.answer(Ok(answer));
        let output = output(child).await;
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
            (Some(0), expected)
        );
    }
}

#[tokio::test]
async fn a_closed_stdout_is_no_failure() {
    let mut stage = Stage::new();
    let mut command = monitor();
    command
        .args(["watch"])
        .env("MONITOR_SOCKET", stage.agent.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let call = stage.agent.call().await;
    assert_eq!(call.op, Op::Watch);
    let peer = call.answer(Ok(Value::Null));
    let note = monitor::control::protocol::Push::Note { note: json!({"note": "hello"}) };
    peer.pushes.send(note.clone()).await.unwrap();
    assert_eq!(first_line(&mut child).await, "-  {\"note\":\"hello\"}\n");
    drop(child.stdout.take());
    peer.pushes.send(note).await.unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((soon("its end", child.wait()).await.unwrap().code(), text.as_str()), (Some(0), ""));
}
