//! The pair, the simulated account that it dials through, and a client of its calls API, started together. Helpers
//! panic with what went wrong.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    calls_api::{Answer, ApiClient},
    scripted::Notes,
    sim::rest::{Exchange, Line, PlacedCall, Rate, RestPlan},
    stack::{AUTH_TOKEN, Stack, StackPlan, eventually},
};

/// The token of [`World::api`].
pub const TOKEN: &str = "token-of-the-calls-api-test";
/// A number that may be called.
pub const TO: &str = "+15550100";
/// The account.
pub const ACCOUNT: &str = "AC00000000000000000000000000000000";

/// All that there is.
pub struct World {
    /// The pair.
    pub stack: Stack,
    /// The account that it dials through.
    pub exchange: Exchange,
    /// A client of its API.
    pub api: ApiClient,
    /// What its scripted agents were told.
    pub notes: Notes,
}

impl World {
    /// Starts it with everything at its default.
    pub async fn start() -> Self {
        Self::with(|plan| plan, |plan| plan).await
    }

    /// Starts it with other settings of the gateway, and another account.
    pub async fn with(
        gateway: impl FnOnce(StackPlan) -> StackPlan,
        account: impl FnOnce(RestPlan) -> RestPlan,
    ) -> Self {
        let plan = RestPlan { rate: Rate::UNLIMITED, ..RestPlan::new(AUTH_TOKEN) };
        let exchange = Exchange::start(account(plan)).await.expect("a free port");
        let notes = Notes::default();
        let plan = StackPlan::default()
            .gateway("API_TOKENS", TOKEN)
            .gateway("TWILIO_ACCOUNT_SID", ACCOUNT)
            .gateway("TWILIO_PHONE_NUMBER", "+15550199")
            .gateway("TWILIO_API_URL", &exchange.api_url())
            .gateway("OUTBOUND_ALLOW", "+1555")
            .gateway("OUTBOUND_CALLS_PER_SECOND", "100")
            .gateway("API_REQUESTS_PER_SECOND", "1000")
            .agents(notes.agents());
        let stack = Stack::start(gateway(plan)).await;
        exchange.set_gateway(stack.for_exchange());
        let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
        Self { stack, exchange, api, notes }
    }

    /// Asks for a call.
    pub async fn call(&self, body: &Value) -> Answer {
        self.api.post("/v1/calls", body).await
    }

    /// Places a call to `agent` on a line that stays open, and waits until its stream is live.
    pub async fn talking(&self, agent: &str) -> Answer {
        self.exchange.set_line(None, Line { hangup_after: Some(Duration::from_secs(60)), ..Line::default() });
        let placed = self.call(&json!({"to": TO, "agent": agent})).await;
        assert_eq!(placed.status, 201, "{}", placed.json);
        self.until(placed.text("id"), |call| call["stream"] == "live").await;
        placed
    }

    /// The call as the API shows it.
    pub async fn get(&self, id: &str) -> Value {
        let answer = self.api.get(&format!("/v1/calls/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        answer.json
    }

    /// The same once it is as wanted.
    pub async fn until(&self, id: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        eventually("the call gets there", async || {
            last = self.get(id).await;
            holds(&last)
        })
        .await;
        last
    }

    /// The account's call once nothing more happens on it.
    pub async fn settled(&self, sid: &str) -> PlacedCall {
        self.exchange.wait_for_call(|call| call.sid == sid && call.is_settled).await.expect("the call ends")
    }

    /// Tells a call to do something.
    pub async fn patch(&self, id: &str, change: Value) -> Answer {
        self.api.patch(&format!("/v1/calls/{id}"), &change).await
    }

    /// Ends everything.
    pub async fn stop(self) {
        self.exchange.stop().await;
        self.stack.stop().await;
    }
}
