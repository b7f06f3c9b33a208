//! `POST {base}/chat/completions`: messages in, the model's answer as server-sent events.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::timeout;

use super::{
    Endpoint, Server, SettingsError,
    calls::{CallPiece, Calls},
};
use crate::provider::{
    Chat, Fault, Message, ProviderError, Role, Streaming, Token, ToolCall, ToolSpec,
    exchange::{self, Answer, Exchange, Outlet},
    fault::{self, Secrets, error},
    http::Client,
    question::{Post, Question},
    sse::{Event, Parser},
};

/// Most text of one answer: an hour of talk.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Largest answer of a server that does not stream.
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// How long to wait for what an answer cost, once it is complete.
const TAIL_LIMIT: Duration = Duration::from_secs(1);

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub server: Server,
    /// `gpt-4o-mini` by default.
    pub model: String,
    /// 0 to 2; the model's own when it is not given.
    pub temperature: Option<f64>,
    /// Most tokens of an answer; as many as the model likes when it is not given.
    pub max_tokens: Option<u32>,
    /// The name under which the server knows that.
    pub max_tokens_field: MaxTokensField,
    /// Ask for the cost of each answer; some servers refuse a request with `stream_options`.
    pub usage: bool,
    /// Further fields of the request as they are; what is asked here goes before them.
    pub extra: Map<String, Value>,
}

/// How a server calls the most tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaxTokensField {
    /// `max_completion_tokens`, as OpenAI does now.
    #[default]
    MaxCompletionTokens,
    /// `max_tokens`, as it did before.
    MaxTokens,
}

impl MaxTokensField {
    /// The field's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxTokens => "max_tokens",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: Server::default(),
            model: "gpt-4o-mini".to_owned(),
            temperature: None,
            max_tokens: None,
            max_tokens_field: MaxTokensField::default(),
            usage: true,
            extra: Map::new(),
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.model.is_empty() {
            return Err(SettingsError::Model);
        }
        if self.temperature.is_some_and(|value| !(0.0..=2.0).contains(&value)) {
            return Err(SettingsError::Temperature);
        }
        if self.max_tokens == Some(0) { Err(SettingsError::Tokens) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(super) struct Completions {
    endpoint: Endpoint,
    settings: Settings,
}

impl Completions {
    pub(super) fn new(endpoint: Endpoint, settings: Settings) -> Self {
        Self { endpoint, settings }
    }

    fn request(&self, prompt: &[Message], tools: &[ToolSpec]) -> Value {
        let settings = &self.settings;
        let mut request = settings.extra.clone();
        request.insert("messages".to_owned(), prompt.iter().map(message).collect());
        if !tools.is_empty() {
            let tools = tools.iter().map(|ToolSpec { name, description, parameters }| {
                json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}})
            });
            request.insert("tools".to_owned(), tools.collect());
        }
        request.insert("model".to_owned(), settings.model.as_str().into());
        request.insert("stream".to_owned(), true.into());
        if settings.usage {
            request.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        if let Some(temperature) = settings.temperature {
            request.insert("temperature".to_owned(), temperature.into());
        }
        if let Some(most) = settings.max_tokens {
            request.insert(settings.max_tokens_field.name().to_owned(), most.into());
        }
        request.into()
    }
}

impl Chat for Completions {
    fn answer(&self, prompt: Vec<Message>, tools: &[ToolSpec]) -> Streaming<Token> {
        let request = self.request(&prompt, tools);
        let said = prompt.into_iter().flat_map(|Message { text, calls, .. }| {
            [text].into_iter().chain(calls.into_iter().map(|call| call.arguments))
        });
        let asked = Asked(Post::json(&self.endpoint, &request, said.collect()));
        exchange::stream(&self.endpoint.client, self.endpoint.limits, asked)
    }

    fn warm(&self) {
        self.endpoint.warm();
    }
}

fn message(message: &Message) -> Value {
    let mut sent = json!({"role": role(message.role), "content": message.text});
    if message.text.is_empty() && !message.calls.is_empty() {
        sent["content"] = Value::Null;
    }
    if message.role == Role::Tool {
        sent["tool_call_id"] = message.call_id.as_str().into();
    }
    if !message.calls.is_empty() {
        let calls = message.calls.iter().map(|ToolCall { id, name, arguments }| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        });
        sent["tool_calls"] = calls.collect();
    }
    sent
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

struct Asked(Post);

impl Exchange for Asked {
    type Piece = Token;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<Token>) -> Result<(), ProviderError> {
        let (mut answer, secrets) = self.0.ask(client, outlet).await?;
        let reader = Reader {
            secrets: &secrets,
            parser: Parser::default(),
            text: 0,
            calls: Calls::default(),
            state: State::Open,
            usage: None,
        };
        let first = match answer.content_type().as_str() {
            "text/event-stream" => None,
            "text/html" => return Err(error(Fault::Malformed, "HTML where an answer belongs")),
            // Whatever a server calls it, its first letter says what it is.
            _ => outlet.chunk(&mut answer).await?,
        };
        match first.as_deref().and_then(|bytes| bytes.trim_ascii_start().first()) {
            Some(b'{') => {
                let mut whole = first.map(Vec::from).unwrap_or_default();
                whole.extend(outlet.whole(&mut answer, MAX_ANSWER_BYTES).await?);
                reader.whole(&whole, outlet).await
            }
            Some(b'<') => Err(error(Fault::Malformed, "HTML where an answer belongs")),
            _ => reader.events(first, &mut answer, outlet).await,
        }
    }
}

/// A piece of a streamed answer, or the whole of one that is not; servers leave out what they like.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: Option<u64>,
    /// What a stream adds.
    delta: Option<Said>,
    /// What the whole is.
    message: Option<Said>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    content: Option<String>,
    /// What a model says when it will not answer.
    refusal: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// More has to come.
    Open,
    /// The model has finished; what it cost may come.
    Finished,
    /// Nothing more comes.
    Done,
}

struct Reader<'a> {
    secrets: &'a Secrets,
    parser: Parser,
    /// Bytes of text so far.
    text: usize,
    calls: Calls,
    state: State,
    usage: Option<Usage>,
}

impl Reader<'_> {
    async fn whole(mut self, body: &[u8], outlet: &mut Outlet<Token>) -> Result<(), ProviderError> {
        self.chunk(body, outlet).await?;
        self.finish(outlet).await
    }

    async fn events(
        mut self,
        first: Option<Bytes>,
        answer: &mut Answer,
        outlet: &mut Outlet<Token>,
    ) -> Result<(), ProviderError> {
        let mut next = first;
        while self.state != State::Done {
            let bytes = match (next.take(), self.state) {
                (Some(bytes), _) => Some(bytes),
                (None, State::Open) => outlet.chunk(answer).await?,
                // It is all there: whatever happens to the rest is no fault.
                (None, State::Finished | State::Done) => {
                    timeout(TAIL_LIMIT, outlet.chunk(answer)).await.ok().and_then(Result::ok).flatten()
                }
            };
            let Some(bytes) = bytes else { break };
            for event in self.parser.push(&bytes).map_err(|long| error(Fault::Malformed, &long.to_string()))? {
                self.event(&event, outlet).await?;
            }
        }
        let last = std::mem::take(&mut self.parser).finish();
        if self.state != State::Done
            && let Some(last) = last.map_err(|long| error(Fault::Malformed, &long.to_string()))?
        {
            self.event(&last, outlet).await?;
        }
        if self.state == State::Open {
            return Err(error(Fault::Malformed, "the answer has no end"));
        }
        self.finish(outlet).await
    }

    async fn finish(mut self, outlet: &mut Outlet<Token>) -> Result<(), ProviderError> {
        self.give_calls(outlet).await?;
        if let Some(usage) = self.usage {
            let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
            let usage = Token::Usage { prompt: prompt.unwrap_or_default(), completion: completion.unwrap_or_default() };
            outlet.give(usage).await;
        }
        let is_empty = self.text == 0 && !self.calls.were_any();
        if is_empty { Err(error(Fault::Empty, "an answer without text")) } else { Ok(()) }
    }

    /// They are whole once the model has finished.
    async fn give_calls(&mut self, outlet: &mut Outlet<Token>) -> Result<(), ProviderError> {
        for call in self.calls.take().map_err(|what| error(Fault::Malformed, what))? {
            outlet.give(Token::Call(call)).await;
        }
        Ok(())
    }

    async fn event(&mut self, event: &Event, outlet: &mut Outlet<Token>) -> Result<(), ProviderError> {
        if self.state == State::Done {
            return Ok(());
        }
        if event.data.trim() == "[DONE]" {
            self.state = State::Done;
            return Ok(());
        }
        if event.name == "error" {
            return Err(self.failed(event.data.as_bytes()));
        }
        self.chunk(event.data.as_bytes(), outlet).await
    }

    async fn chunk(&mut self, json: &[u8], outlet: &mut Outlet<Token>) -> Result<(), ProviderError> {
        let chunk: Chunk = serde_json::from_slice(json)
            .map_err(|_| error(Fault::Malformed, "a piece that is no JSON of an answer"))?;
        if chunk.error.is_some() {
            return Err(self.failed(json));
        }
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index.unwrap_or(0) == 0) {
            let said = choice.delta.or(choice.message).unwrap_or_default();
            for text in [said.content, said.refusal].into_iter().flatten().filter(|text| !text.is_empty()) {
                self.text += text.len();
                if self.text > MAX_TEXT_BYTES {
                    return Err(error(Fault::Malformed, "an answer of more than 64 KiB of text"));
                }
                outlet.give(Token::Text(text)).await;
            }
            for (at, piece) in said.tool_calls.into_iter().flatten().enumerate() {
                self.calls.push(at, piece).map_err(|what| error(Fault::Malformed, what))?;
            }
            // Some servers write an empty reason into every piece.
            if choice.finish_reason.is_some_and(|reason| !reason.is_empty()) {
                self.state = State::Finished;
                self.give_calls(outlet).await?;
            }
        }
        // Some servers count on with every piece: the last one counts the whole.
        self.usage = chunk.usage.or(self.usage.take());
        Ok(())
    }

    fn failed(&self, json: &[u8]) -> ProviderError {
        let message = fault::message(json, self.secrets);
        error(Fault::Failed, &message.unwrap_or_else(|| "an error in the middle of an answer".to_owned()))
    }
}
