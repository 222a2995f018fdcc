//! Lines of the control socket: a call is read as it was written, every refusal fits on a line and says what it is
//! about, and how a stream is cut into pieces does not matter.

use bytes::BytesMut;
use monitor::control::codec::{Frame, LineCodec, encode_line, parse_call};
use monitor::control::protocol::{MAX_LINE, RefusalCode, Reply, ReplyResult, VERSION};
use serde_json::Value;
use tokio_util::codec::Decoder as _;

/// The limit of the codec that is tried: so short that small input reaches it.
const MAX: usize = 64;

/// How many lines are taken for calls: no line knows of another, and a thousand empty ones only take time.
const LINES: usize = 16;

pub fn holds(data: &[u8]) {
    data.split(|byte| *byte == b'\n').filter(|line| line.len() < MAX_LINE).take(LINES).for_each(line);
    let whole = frames(&[data]);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(frames(&bytes), whole, "byte by byte");
    let pieces: Vec<&[u8]> = data.chunks(1 + data.len() % 97).collect();
    assert_eq!(frames(&pieces), whole, "in pieces");
}

fn line(line: &[u8]) {
    let reply = match parse_call(line) {
        Ok(call) => {
            assert_eq!(call.v, VERSION);
            let again = encode_line(&call).unwrap();
            assert_eq!(parse_call(&again[..again.len() - 1]), Ok(call));
            return;
        }
        Err(reply) => reply,
    };
    let encoded = encode_line(&reply).unwrap();
    assert!(encoded.len() < MAX_LINE, "a refusal of {} bytes", encoded.len());
    assert_eq!(encoded.iter().position(|byte| *byte == b'\n'), Some(encoded.len() - 1), "one line");
    assert_eq!(serde_json::from_slice::<Reply>(&encoded).unwrap(), reply);
    let ReplyResult::Error(refusal) = reply.result else { panic!("refused with an answer: {reply:?}") };
    assert_eq!(refusal.code, RefusalCode::Malformed);
    assert!(!refusal.message.is_empty());
    // Where the line as such is good JSON, one of its fields is to blame.
    if let Ok(Value::Object(call)) = serde_json::from_slice::<Value>(line) {
        assert!(refusal.field.is_some(), "no field: {}", refusal.message);
        if let Some(seq) = call.get("seq").and_then(Value::as_u64) {
            // Of a key that is given twice, also in another spelling, either may be meant, or neither.
            let keys = line.windows(2).filter(|two| *two == b"\":").count();
            let repeated = keys > call.len() && (reply.seq == 0 || refusal.message.contains("duplicate"));
            assert!(reply.seq == seq || repeated, "{seq}: {refusal:?}");
        }
    }
}

fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
    let (mut codec, mut buffer, mut frames) = (LineCodec::new(MAX), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(frame) = codec.decode(&mut buffer).unwrap() {
            if let Frame::Line(line) = &frame {
                assert!(line.len() < MAX && !line.contains(&b'\n'), "{line:?}");
            }
            frames.push(frame);
        }
        assert!(buffer.len() < MAX, "{} bytes are held back", buffer.len());
    }
    frames
}
