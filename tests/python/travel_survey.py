"""The survey that callers of several tests take: what it says, and the agents file that asks it."""

SECRET = "SURVEY_SECRET"

WELCOME = "Welcome to the travel survey."
ADULT = "Are you eighteen or older?"
TRANSPORT = "Do you come by car, by bus, or by bike?"
TRANSPORT_AGAIN = "Please name a vehicle."
DISTANCE = "How many miles is that?"
FAR = "You live far away, so we will send you a letter."
NEAR = "You can take part tomorrow."
GOODBYE = "Thank you and goodbye."

# All that it says in one go.
UTTERANCES = [
    f"{WELCOME} {ADULT}", TRANSPORT, TRANSPORT_AGAIN, DISTANCE, f"{FAR} {GOODBYE}", f"{NEAR} {GOODBYE}", GOODBYE,
]
# What its callers say, and more, so that a recogniser can be wrong.
CALLER_RULE = "yes please | no thank you | i come by car | i come by bus | i come by bike | stop please | where is breakfast"


def defaults(base):
    """The stages of all agents that do not say otherwise: a server that speaks OpenAI's protocol."""
    return f"""
[defaults]
language = "en-US"

[defaults.speech_to_text]
url = "{base}"
model = "callers"

[defaults.text_to_speech]
url = "{base}"
model = "flite"
"""


def survey(name, webhook=None, speech_to_text=None, text_to_speech=None):
    """An agent of this name; the stages as inline tables, and who is sent the results."""
    stages = {"speech_to_text": speech_to_text, "text_to_speech": text_to_speech}
    own = "\n".join(f"{stage} = {table}" for stage, table in stages.items() if table)
    results = f'[agent.{name}.results]\nurl = "{webhook}"\nsecret = "{SECRET}"' if webhook else ""
    return f"""
[agent.{name}]
kind = "survey"
greeting = "{WELCOME}"
goodbye = "{GOODBYE}"
{own}

[[agent.{name}.question]]
id = "adult"
kind = "yes_no"
ask = "{ADULT}"
ends = {{ no = "too_young" }}

[[agent.{name}.question]]
id = "transport"
kind = "choice"
ask = "{TRANSPORT}"
reprompt = "{TRANSPORT_AGAIN}"
options = ["car", "bus", "bike"]

[[agent.{name}.question]]
id = "distance"
kind = "number"
ask = "{DISTANCE}"
max = 500

[[agent.{name}.rule]]
all = {{ transport = "bus", distance = "40.." }}
outcome = "far"

[agent.{name}.outcome.far]
say = "{FAR}"

[agent.{name}.outcome.too_young]

[agent.{name}.outcome.completed]
say = "{NEAR}"

{results}
"""
