//! The worker's contract over raw gRPC: statuses with their details, the unary services, health and reflection.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]
#![expect(clippy::disallowed_methods, reason = "the lead is measured in real time")]

use std::time::Duration;

use proto::v1::{
    CallerAudio, Close, ConverseRequest, ConverseResponse, DecodeRequest, Dtmf, EncodeRequest, Open, ResampleRequest,
    converse_request::Message, converse_response::Message as Answer,
};
use tests::{
    scripted::Notes,
    stack::{Stack, StackPlan, eventually},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn a_conversation_that_begins_wrong_is_refused_with_its_reason() {
    let stack = Stack::start_default().await;
    for first in [
        Some(Message::Audio(CallerAudio::default())),
        Some(Message::Dtmf(Dtmf { digit: "1".into() })),
        Some(Message::Close(Close::default())),
        None,
    ] {
        let refused = converse(&stack, [ConverseRequest { message: first }]).await.1.unwrap_err();
        assert_status(&refused, Code::InvalidArgument, "OPEN_EXPECTED");
    }
    let codec = Open { codec: 99, ..Open::default() };
    let refused = converse(&stack, [request(Message::Open(codec.into()))]).await.1.unwrap_err();
    assert_status(&refused, Code::InvalidArgument, "UNKNOWN_CODEC");
    let info = stack.info().await;
    assert_eq!((info.live, info.opened_total, info.refused_total), (0, 0, 5), "{info:?}");
    stack.stop().await;
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_refused_after_five_seconds() {
    let stack = Stack::start_default().await;
    let began = Instant::now();
    let refused = converse(&stack, []).await.1.unwrap_err();
    assert_status(&refused, Code::DeadlineExceeded, "OPEN_LATE");
    assert!((4900..7000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    stack.stop().await;
}

#[tokio::test]
async fn what_breaks_the_contract_later_ends_the_conversation_with_its_reason() {
    let stack = Stack::start_default().await;
    let long = CallerAudio { seq: 1, media_time_ms: 0, mulaw: vec![0xff; 8001].into() };
    for (message, reason) in [(Message::Open(Box::default()), "SECOND_OPEN"), (Message::Audio(long), "AUDIO_TOO_LONG")]
    {
        let (_requests, answers) = converse(&stack, [opening("echo"), request(message)]).await;
        let status = status_of(answers.unwrap()).await;
        assert_status(&status, Code::InvalidArgument, reason);
    }
    // A second is taken, and a newer gateway's message passed over.
    let audio = CallerAudio { seq: 1, media_time_ms: 0, mulaw: vec![0xff; 8000].into() };
    let unknown = ConverseRequest { message: None };
    let close = request(Message::Close(Close::default()));
    let requests = [opening("echo"), unknown, request(Message::Audio(audio)), close];
    let (_requests, answers) = converse(&stack, requests).await;
    let mut answers = answers.unwrap();
    while answers.message().await.unwrap().is_some() {}
    eventually("no conversation is left", async || stack.info().await.live == 0).await;
    stack.stop().await;
}

#[tokio::test]
async fn the_first_answer_says_what_the_worker_takes() {
    let stack = Stack::start(StackPlan::default().worker("WORKER_MAX_CALLS", "7")).await;
    let (_requests, answers) = converse(&stack, [opening("")]).await;
    let Some(Answer::Ready(ready)) = answers.unwrap().message().await.unwrap().unwrap().message else {
        panic!("not ready")
    };
    let told = (ready.frame_samples, ready.max_audio_bytes, ready.lead_ms, ready.live, ready.capacity);
    assert_eq!(told, (160, 8000, 200, 1, 7));
    let info = stack.info().await;
    assert_eq!((&info.worker_id, &info.version), (&ready.worker_id, &ready.version));
    assert_eq!((info.capacity, info.draining, &info.agents[..]), (7, false, &["echo".to_owned()][..]));
    stack.stop().await;
}

#[tokio::test]
async fn no_more_than_the_lead_is_sent_ahead_of_real_time() {
    let notes = Notes::default();
    let stack = Stack::start(StackPlan::default().agents(notes.agents())).await;
    let key = request(Message::Dtmf(Dtmf { digit: "3".into() }));
    let asked = Instant::now();
    let (_requests, answers) = converse(&stack, [opening("scripted"), key]).await;
    let (mut answers, mut began, mut sent) = (answers.unwrap(), None, 0.0);
    // The worker's clock starts after we asked and before its first frame is here: however late that is on a busy machine,
    // the one measure is never too much and the other never too little.
    let (mut at_least, mut at_most) = (0.0_f64, 0.0_f64);
    let finished = loop {
        let answer = answers.message().await.unwrap().unwrap().message.unwrap();
        match answer {
            Answer::Ready(_) => {}
            Answer::Audio(audio) => {
                let began = *began.get_or_insert_with(Instant::now);
                sent += audio.mulaw.len() as f64 / 8.0;
                at_least = at_least.max(sent - asked.elapsed().as_secs_f64() * 1000.0);
                at_most = at_most.max(sent - began.elapsed().as_secs_f64() * 1000.0);
            }
            Answer::UtteranceEnd(end) => break end.utterance,
            Answer::Interrupt(_)
            | Answer::Hangup(_)
            | Answer::Transfer(_)
            | Answer::Speech(_)
            | Answer::Transcript(_)
            | Answer::TurnMetrics(_)
            | Answer::Checkpoint(_)
            | Answer::Instructed(_)
            | Answer::Costs(_)
            | Answer::Draining(_) => panic!("{answer:?}"),
        }
    };
    assert_eq!((finished, sent), (1, 3000.0));
    // The lead, and the frame that fills it.
    assert!(at_least <= 221.0 && at_most >= 150.0, "{at_least} to {at_most} ms");
    stack.stop().await;
}

#[tokio::test]
async fn clips_keep_their_length() {
    let stack = Stack::start_default().await;
    let mut audio = stack.audio().await;
    for n in [0_usize, 1, 2, 159, 160, 161, 8000, 12_345, 480_000] {
        let decode = DecodeRequest { mulaw: vec![0x55; n].into(), sample_rate: 0 };
        let decoded = audio.decode(decode).await.unwrap().into_inner();
        assert_eq!((decoded.pcm.len(), decoded.sample_rate), (4 * n, 16_000), "{n}");
        let encode = EncodeRequest { pcm: decoded.pcm.clone(), sample_rate: 0 };
        assert_eq!(audio.encode(encode).await.unwrap().into_inner().mulaw.len(), n);
        let resample = ResampleRequest { pcm: decoded.pcm, from_rate: 16_000, to_rate: 8000 };
        assert_eq!(audio.resample(resample).await.unwrap().into_inner().pcm.len(), 2 * n);
        for (rate, times) in [(8000, 1), (16_000, 2), (24_000, 3), (48_000, 6)] {
            let resample = ResampleRequest { pcm: vec![0; 2 * n].into(), from_rate: 8000, to_rate: rate };
            let wide = audio.resample(resample).await.unwrap().into_inner();
            assert_eq!((wide.pcm.len(), wide.sample_rate), (2 * n * times, rate), "{n}");
        }
    }
    let plain = DecodeRequest { mulaw: vec![0xff, 0x00, 0x80].into(), sample_rate: 8000 };
    let plain = audio.decode(plain).await.unwrap().into_inner();
    assert_eq!((plain.pcm.as_ref(), plain.sample_rate), (&[0, 0, 0x84, 0x82, 0x7c, 0x7d][..], 8000));
    stack.stop().await;
}

#[tokio::test]
async fn clips_that_cannot_be_used_name_the_field() {
    let stack = Stack::start_default().await;
    let mut audio = stack.audio().await;
    let decode = |length: usize, sample_rate| DecodeRequest { mulaw: vec![0xff; length].into(), sample_rate };
    let encode = |pcm: Vec<u8>, sample_rate| EncodeRequest { pcm: pcm.into(), sample_rate };
    assert_field(&audio.decode(decode(10, 24_000)).await.unwrap_err(), "sample_rate");
    assert_field(&audio.decode(decode(10, 11_025)).await.unwrap_err(), "sample_rate");
    assert_field(&audio.decode(decode(480_001, 0)).await.unwrap_err(), "mulaw");
    assert_field(&audio.encode(encode(vec![0; 3], 0)).await.unwrap_err(), "pcm");
    assert_field(&audio.encode(encode(vec![0; 4], 1)).await.unwrap_err(), "sample_rate");
    assert_field(&audio.encode(encode(b"RIFF....WAVE".to_vec(), 0)).await.unwrap_err(), "pcm");
    assert_field(&audio.encode(encode(vec![0; 960_002], 8000)).await.unwrap_err(), "pcm");
    let resample = ResampleRequest { pcm: vec![0; 4].into(), from_rate: 11_025, to_rate: 0 };
    assert_field(&audio.resample(resample).await.unwrap_err(), "from_rate");
    let huge = audio.decode(decode(8 << 20, 0)).await.unwrap_err();
    assert!(matches!(huge.code(), Code::OutOfRange | Code::ResourceExhausted), "{huge}");
    // The service is as good as before.
    audio.decode(decode(160, 0)).await.unwrap();
    stack.stop().await;
}

#[tokio::test]
async fn reflection_names_the_services_in_both_versions() {
    let stack = Stack::start_default().await;
    let channel = stack.channel().await;
    let expected = ["grpc.health.v1.Health", "tandem.voice.v1.AudioService", "tandem.voice.v1.VoiceService"];
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(expected.iter().all(|name| names.iter().any(|n| n == name)), "{names:?}");
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "tandem.voice.v1.VoiceService".into(),
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(
        matches!(&answer, v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(file)
            if !file.file_descriptor_proto.is_empty()),
        "{answer:?}"
    );
    stack.stop().await;
}

#[tokio::test]
async fn health_follows_the_drain() {
    let stack = Stack::start(StackPlan::default().worker("DRAIN_SECONDS", "60")).await;
    let mut health = HealthClient::new(stack.channel().await);
    let mut status = async |service: &str| {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await;
        answer.map(|answer| answer.into_inner().status())
    };
    for service in ["", "tandem.voice.v1.VoiceService", "tandem.voice.v1.AudioService"] {
        assert_eq!(status(service).await.unwrap(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(status("tandem.voice.v1.Nothing").await.unwrap_err().code(), Code::NotFound);
    // A live conversation keeps the worker there for a while.
    let (_requests, answers) = converse(&stack, [opening("echo")]).await;
    let _answers = answers.unwrap();
    stack.shut_worker_down();
    eventually("it serves no more", async || {
        matches!(status("tandem.voice.v1.VoiceService").await, Ok(ServingStatus::NotServing))
    })
    .await;
    assert_eq!(status("").await.unwrap(), ServingStatus::NotServing);
}

/// Opens a stream and sends `requests`; it stays open while the sender lives.
async fn converse<const N: usize>(
    stack: &Stack,
    requests: [ConverseRequest; N],
) -> (mpsc::Sender<ConverseRequest>, Result<Streaming<ConverseResponse>, Status>) {
    let (sender, receiver) = mpsc::channel(16);
    for request in requests {
        sender.send(request).await.unwrap();
    }
    let answers = stack.voice().await.converse(ReceiverStream::new(receiver)).await;
    (sender, answers.map(tonic::Response::into_inner))
}

async fn status_of(mut answers: Streaming<ConverseResponse>) -> Status {
    loop {
        match tokio::time::timeout(Duration::from_secs(10), answers.message()).await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a status"),
            Err(status) => return status,
        }
    }
}

fn request(message: Message) -> ConverseRequest {
    ConverseRequest { message: Some(message) }
}

fn opening(agent: &str) -> ConverseRequest {
    request(Message::Open(Box::new(Open { call_id: "CA1".into(), agent: agent.into(), ..Open::default() })))
}

fn assert_status(status: &Status, code: Code, reason: &str) {
    let info = status.get_details_error_info();
    let reason_given = info.map(|info| (info.reason, info.domain));
    assert_eq!((status.code(), reason_given), (code, Some((reason.into(), "tandem.voice.v1".into()))), "{status}");
}

fn assert_field(status: &Status, field: &str) {
    assert_status(status, Code::InvalidArgument, "BAD_FIELD");
    let request = status.get_details_bad_request().unwrap();
    assert_eq!(request.field_violations[0].field, field, "{status}");
}
