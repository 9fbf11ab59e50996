"""The table of requests that make_renderings.py puts through the templates of real models.

Each is a name and the variables that a template is given. Some are refused by many templates, on purpose: then our error has to
be Jinja's.
"""
import copy

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Wetter für \"Orte\" <b>&amp;</b>\nby city's name",
    "parameters": {"type": "object",
                   "properties": {
                       "city": {"type": "string", "description": "Stadt, e.g. 'Zürich' \u2028 👩\u200d🚀"},
                       "unit": {"type": "string", "enum": ["celsius", "fahrenheit"],
                                "default": "celsius"},
                       "days": {"type": ["integer", "null"], "minimum": 0, "maximum": 14}},
                   "required": ["city"]}}}
NESTED = {"type": "function", "function": {
    "name": "book", "description": "Books a trip.",
    "parameters": {"type": "object", "additionalProperties": False,
                   "properties": {
                       "who": {"type": "array", "items": {
                           "type": "object", "required": ["name"], "properties": {
                               "name": {"type": "string"}, "age": {"type": "number"},
                               "tags": {"type": "array", "items": {"type": "string"}}}}},
                       "when": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                       "fast": {"type": "boolean", "description": ""},
                       "x": {"$ref": "#/defs/x"}, "weights": [1, 2.5, -0.0, 1e22, 1e-7, True, None, {}, []]}},
    "return": {"type": "object", "properties": {"id": {"type": "string"}}, "description": "what was booked"}}}
BARE = {"type": "function", "function": {"name": "now", "parameters": {}}}
FLAT = {"name": "flat_tool", "description": "without a frame",
        "parameters": {"type": "object", "properties": {}}}
TOOLS = [WEATHER, NESTED, BARE]


def system(content):
    return {"role": "system", "content": content}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def tool(content, **more):
    return {"role": "tool", "content": content, **more}


def call(name, arguments, place=0):
    return {"id": f"call{place:05d}", "type": "function",
            "function": {"name": name, "arguments": arguments}}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def request(*messages, generate=True, tools=None, **more):
    return {"messages": list(messages), "add_generation_prompt": generate, "tools": tools, **more}


ASK = user("Wie ist das Wetter in Zürich?")
CALL = call("get_weather", {"city": "Zürich", "days": 2, "deep": {"a": [1, None, True, 2.5]}})
TEXT_CALL = call("get_weather", "{\"city\": \"Oslo\", \"days\": 1}", 1)
EMPTY_CALL = call("now", {}, 2)
ANSWER = "{\"temperature\": 21.5, \"sky\": \"clear\"}"
ANSWERED = [ASK, assistant("", tool_calls=[CALL]),
            tool(ANSWER, tool_call_id="call00000", name="get_weather")]
TALK = [user("one"), assistant("two"), user("three"), assistant("four"), user("five")]
MARKS = "typed <|im_end|>\n<|im_start|>system\n</s>[INST]<|eot_id|> {{ 1 + 1 }} {% if %} <think>x</think>"
PLACES = {"bos_token": "<BOS>", "eos_token": "<EOS>"}

CHATS = {
    "user": request(user("Hello!")),
    "no generation prompt": request(user("Hello!"), generate=False),
    "system": request(system("Be brief."), user("Hello!")),
    "spaces": request(system("  \n Be brief. \n"), user("  spaces around \n\n"), assistant("\n yes \t"),
                      user("\t")),
    "empty": request(user("")),
    "empty system": request(system(""), user("q")),
    "empty answer": request(user("q"), assistant(""), user("r")),
    "many turns": request(*TALK),
    "many turns after system": request(system("S"), *TALK),
    "ends with assistant": request(system("S"), user("q"), assistant("a"), generate=False),
    "ends with assistant and goes on": request(user("q"), assistant("a")),
    "unicode": request(system("日本語で。"), user("請用一句話介紹北京。 👩\u200d🚀 e\u0301 \u00a0\u3000 ﷺ")),
    "marks": request(system(MARKS), user(MARKS), assistant(MARKS), user(MARKS)),
    "long": request(user("lorem ipsum dolor\n" * 300)),
    "no eos": request(*TALK, eos_token=""),
    # what some templates refuse
    "two users": request(user("a"), user("b")),
    "two assistants": request(user("a"), assistant("b"), assistant("c")),
    "assistant first": request(assistant("I begin."), user("a")),
    "system only": request(system("S")),
    "system in the middle": request(user("a"), system("S"), user("b")),
    "two systems": request(system("S"), system("T"), user("b")),
    "system last": request(user("b"), assistant("c"), system("S")),
    "unknown role": request(user("a"), {"role": "critic", "content": "c"}, user("b")),
    "developer": request({"role": "developer", "content": "D"}, user("b")),
    "no messages": request(),
    "no content": request({"role": "user"}),
    "content none": request(user(None)),
    "assistant none": request(user("a"), assistant(None), user("b")),
    # tools
    "tools": request(ASK, tools=TOOLS),
    "tools and system": request(system("Be brief."), ASK, tools=TOOLS),
    "one tool, many turns": request(system("S"), *TALK, tools=[WEATHER]),
    "no tools, but a list": request(ASK, tools=[]),
    "flat tool": request(ASK, tools=[FLAT]),
    "call": request(ASK, assistant("", tool_calls=[CALL]), tools=TOOLS, generate=False),
    "call none": request(ASK, assistant(None, tool_calls=[CALL]), tools=TOOLS, generate=False),
    "call with text": request(ASK, assistant("Let me see.", tool_calls=[CALL]), tools=TOOLS,
                              generate=False),
    "call with text arguments": request(ASK, assistant("", tool_calls=[TEXT_CALL]), tools=TOOLS,
                                        generate=False),
    "call without arguments": request(ASK, assistant("", tool_calls=[EMPTY_CALL]), tools=TOOLS,
                                      generate=False),
    "two calls": request(ASK, assistant("", tool_calls=[CALL, TEXT_CALL]), tools=TOOLS,
                         generate=False),
    "empty calls": request(ASK, assistant("a", tool_calls=[]), user("b"), tools=TOOLS),
    "null calls": request(ASK, assistant("a", tool_calls=None), user("b"), tools=TOOLS),
    "answered": request(*ANSWERED, tools=TOOLS),
    "answered without tools": request(*ANSWERED),
    "answered and told": request(*ANSWERED, assistant("Sunny."), user("thanks"), tools=TOOLS),
    "answered after system": request(system("S"), *ANSWERED, assistant("Sunny."), user("thanks"),
                                     tools=TOOLS, generate=False),
    "two answers": request(
        ASK, assistant("", tool_calls=[CALL, TEXT_CALL]),
        tool("1", tool_call_id="call00000", name="get_weather"),
        tool("2", tool_call_id="call00001", name="get_weather"), tools=TOOLS),
    "two steps": request(
        ASK, assistant("", tool_calls=[CALL]), tool("1", tool_call_id="call00000"),
        assistant("and", tool_calls=[TEXT_CALL]), tool("2", tool_call_id="call00001"),
        tools=TOOLS),
    "answer as object": request(ASK, assistant("", tool_calls=[CALL]),
                                tool({"temperature": 21.5, "x": [1, "a"]}, tool_call_id="call00000"),
                                tools=TOOLS),
    "answer without call": request(tool("1", tool_call_id="call00000"), tools=TOOLS),
    "ipython": request(ASK, {"role": "ipython", "content": ANSWER}, tools=TOOLS),
    "long call id": request(
        ASK, assistant("", tool_calls=[{**CALL, "id": "call_0123456789abcdef"}]),
        tool("1", tool_call_id="call_0123456789abcdef"), tools=TOOLS),
    "call without id": request(
        ASK, assistant("", tool_calls=[{"type": "function", "function": CALL["function"]}]),
        tool("1"), tools=TOOLS),
    "bare call": request(ASK, assistant("", tool_calls=[CALL["function"]]), tool("1"), tools=TOOLS),
    # reasoning
    "thinking off": request(user("q"), enable_thinking=False),
    "thinking on": request(user("q"), enable_thinking=True),
    "thinking off after system": request(system("S /think"), *TALK, enable_thinking=False),
    "no_think": request(system("S /no_think"), user("q")),
    "reasoning": request(user("q"), assistant("a", reasoning_content="because\n"), user("r")),
    "reasoning last": request(user("q"), assistant("a", reasoning_content="\nbecause"),
                              generate=False),
    "reasoning in text": request(user("q"), assistant("<think>\nhm\n</think>\n\nanswer"), user("r"),
                                 assistant("<think>x</think>y"), generate=False),
    "reasoning and call": request(
        ASK, assistant("", reasoning_content="I must ask.", tool_calls=[CALL]),
        tool("1", tool_call_id="call00000"), assistant("Done.", reasoning_content="ok"), user("r"),
        tools=TOOLS),
    "thinking": request(user("q"), assistant("a", thinking="because"), user("r")),
    "effort": request(user("q"), reasoning_effort="high"),
    # content in parts
    "parts": request(system(parts("S")), user(parts("one", "two")), assistant(parts("a")),
                     user(parts("b"))),
    "image": request(user([{"type": "image"}, {"type": "text", "text": "what is it?"}])),
    # variables that some templates know
    "date": request(system("S"), user("q"), date_string="01 Jan 2025"),
    "tools with system": request(system("S"), ASK, tools=TOOLS, tools_in_user_message=False),
    "custom tools": request(ASK, custom_tools=TOOLS),
    "built-in tools": request(ASK, tools=TOOLS, builtin_tools=["code_interpreter", "brave_search"]),
    "documents": request(user("q"), documents=[{"title": "T", "text": "one"},
                                               {"title": "Ü", "text": "two\n", "doc_id": 7}]),
    "identity": request(system("S"), user("q"), model_identity="You are X."),
    "python tools": request(ASK, python_tools=["def f(x): pass"], xml_tools=TOOLS[:1]),
    "vision ids": request(user([{"type": "image"}, {"type": "text", "text": "x"}]), add_vision_id=True),
}


def chats():
    """The table, with the tokens that a template may name in front."""
    return {name: {**PLACES, **copy.deepcopy(variables)} for name, variables in CHATS.items()}
