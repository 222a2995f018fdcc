//! The codec under hand-made and arbitrary input.

use proptest::prelude::*;

use super::*;
use crate::control::protocol::{MAX_LINE, Op};

fn frames(codec: &mut LineCodec, chunks: &[&[u8]]) -> Vec<Frame> {
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        while let Some(frame) = codec.decode(&mut buffer).unwrap() {
            frames.push(frame);
        }
    }
    frames
}

fn line(text: &str) -> Frame {
    Frame::Line(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_line_may_come_in_any_number_of_pieces() {
    let mut codec = LineCodec::new(10);
    assert_eq!(frames(&mut codec, &[b"a", b"b\nc", b"\n\n"]), [line("ab"), line("c"), line("")]);
}

#[test]
fn the_longest_line_is_taken_and_one_byte_more_is_not() {
    assert_eq!(
        frames(&mut LineCodec::new(4), &[b"abc\nabcd\nx\n"]),
        [line("abc"), Frame::TooLong, line("x")]
    );
}

#[test]
fn a_too_long_line_is_refused_before_it_ends_and_the_next_one_is_read() {
    let mut codec = LineCodec::new(4);
    assert_eq!(frames(&mut codec, &[b"abcdef", b"ghi", b"jkl"]), [Frame::TooLong]);
    assert_eq!(frames(&mut codec, &[b"mno\nok\n"]), [line("ok")]);
}

fn refusal(text: &str) -> (u64, Refusal) {
    match parse_call(text.as_bytes()) {
        Err(Reply { seq, result: ReplyResult::Error(refusal) }) => (seq, refusal),
        other => panic!("{text} gave {other:?}"),
    }
}

#[test]
fn calls_are_read() {
    let call = parse_call(br#"{"v":1,"seq":7,"op":"status"}"#).unwrap();
    assert_eq!(call, Call { v: 1, seq: 7, op: Op::Status });
    assert!(parse_call(b" {\"v\":1,\"op\":{\"explain\":{}}}\r").is_ok());
}

#[test]
fn a_refusal_names_the_field_at_fault() {
    for (text, seq, field, part) in [
        (r#"{"v":1,"seq":3,"op":{"register":{"pid":"x"}}}"#, 3, Some("op.register.pid"), "invalid type"),
        (
            r#"{"v":1,"seq":3,"op":{"register":{"pid":1,"kind":"task"}}}"#,
            3,
            Some("op.register.start_time"),
            "missing",
        ),
        (
            r#"{"v":1,"op":{"register":{"pid":1,"start_time":1,"kind":"x"}}}"#,
            0,
            Some("op.register.kind"),
            "unknown variant",
        ),
        (r#"{"v":1,"op":"status","color":1}"#, 0, Some("color"), "unknown field"),
        (r#"{"v":1,"seq":1,"seq":2,"op":"status"}"#, 0, Some("seq"), "duplicate field"),
        (r#"{"v":1,"op":"dance"}"#, 0, Some("op"), "dance"),
        (r#"{"seq":2,"op":"status"}"#, 2, Some("v"), "missing"),
        (r#"{"v":1,"seq":-2,"op":"status"}"#, 0, Some("seq"), "-2"),
        (r#"{"v":1,"op":{"unregister":{"worker":"x9"}}}"#, 0, Some("op.unregister.worker"), "w17"),
        (r#"{"v":1,"op":"status"} {}"#, 0, None, "trailing"),
        (r#"{"v":1,"#, 0, None, "EOF"),
        ("[1,2,\"status\"]", 0, None, "JSON object"),
        ("", 0, None, "JSON object"),
    ] {
        let (got_seq, refusal) = refusal(text);
        assert_eq!((got_seq, refusal.field.as_deref()), (seq, field), "{text}: {}", refusal.message);
        assert!(refusal.message.contains(part), "{text}: {}", refusal.message);
        assert_eq!(refusal.code, RefusalCode::Malformed);
    }
}

#[test]
fn another_version_is_refused_by_name_even_if_its_operations_are_unknown() {
    let (seq, refusal) = refusal(r#"{"v":2,"seq":9,"op":{"teleport":1}}"#);
    assert_eq!((seq, refusal.field.as_deref()), (9, Some("v")));
    assert!(refusal.message.contains("version 2") && refusal.message.contains("version 1"));
}

#[test]
fn what_a_refusal_quotes_is_cut() {
    let (_, refusal) = refusal(&format!(r#"{{"v":1,"op":"{}"}}"#, "é".repeat(20_000)));
    assert!(refusal.message.chars().count() <= MAX_MESSAGE + 1);
}

/// Text around the interesting places: newlines, the limit, pieces of calls.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        Just(b"\n".to_vec()),
        Just(br#"{"v":1,"seq":1,"op":"status"}"#.to_vec()),
        Just(br#"{"v":1,"op":{"register":{"pid":1}}}"#.to_vec()),
        (0usize..80).prop_map(|n| vec![b'['; n]),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// What the lines of a whole stream are: the specification of the codec, without chunks.
fn expected(stream: &[u8], max: usize) -> Vec<Frame> {
    let mut rest = stream;
    let mut frames = Vec::new();
    while let Some(end) = newline(rest) {
        let whole = &rest[..end];
        frames.push(if end < max { Frame::Line(Bytes::copy_from_slice(whole)) } else { Frame::TooLong });
        rest = &rest[end + 1..];
    }
    if rest.len() >= max {
        frames.push(Frame::TooLong);
    }
    frames
}

proptest! {
    #[test]
    fn chunks_do_not_matter_and_memory_is_bounded(
        stream in stream(), cuts in proptest::collection::vec(1usize..40, 1..20), max in 1usize..70,
    ) {
        let mut codec = LineCodec::new(max);
        let (mut buffer, mut got, mut rest, mut cut) = (BytesMut::new(), Vec::new(), &stream[..], 0);
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(cuts[cut % cuts.len()].min(rest.len()));
            buffer.extend_from_slice(chunk);
            while let Some(frame) = codec.decode(&mut buffer).unwrap() {
                got.push(frame);
            }
            prop_assert!(buffer.len() < max, "{} bytes held back, the limit is {max}", buffer.len());
            (rest, cut) = (later, cut + 1);
        }
        prop_assert_eq!(got, expected(&stream, max));
    }

    #[test]
    fn no_line_makes_the_parser_panic(bytes in stream()) {
        for line in bytes.split(|&byte| byte == b'\n') {
            if let Err(reply) = parse_call(line) {
                prop_assert!(encode_line(&reply).unwrap().len() < MAX_LINE);
            }
        }
    }

    #[test]
    fn a_call_is_read_as_it_was_written(seq in any::<u64>(), domain in proptest::option::of(".*")) {
        let call = Call { v: VERSION, seq, op: Op::Explain { domain } };
        let line = encode_line(&call).unwrap();
        prop_assert_eq!(parse_call(&line[..line.len() - 1]), Ok(call));
    }
}
