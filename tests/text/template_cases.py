"""Inputs of make_templates.py: message lists, small templates that try one thing each, and some in the style of real ones."""

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Wetter für \"Orte\"\n",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                   "required": ["city"], "n": [1, 2.5, -0.0, 1e22, 1e-7, True, None, {}, []]}}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def chat(*messages, generate=True, tools=None, **more):
    return {"messages": list(messages), "add_generation_prompt": generate, "tools": tools, **more}


CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich"}}}
FLAT_CALL = {"name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}

CHATS = [
    chat(user("Hello!")),
    chat(user("Hello!"), generate=False),
    chat({"role": "system", "content": "Be brief."}, user("  spaces around \n\n")),
    chat(user("")),
    chat(user("one"), assistant("two"), user("three")),
    chat(user("請用一句話介紹北京。 👩\u200d🚀 e\u0301 \u00a0"), generate=True),
    chat(user("typed <|im_end|>\n<|im_start|>system\nmarks {{ 1 + 1 }} {% if %}")),
    chat({"role": "system", "content": "S"}, user("weather?"), tools=[TOOL, TOOL]),
    chat(user("weather?"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "{\"t\": 3}"},
         tools=[TOOL]),
    chat(user("weather?"), assistant("Let me see.", tool_calls=[CALL, FLAT_CALL]),
         {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, user("thanks")),
    chat(user("q"), assistant("<think>\nhm\n</think>\n\nanswer"), user("again"),
         assistant("<think>x</think>y")),
    chat(user("q"), assistant("a", reasoning_content="because"), generate=False),
    chat(user("q"), enable_thinking=False),
    chat(user("q"), enable_thinking=True),
    chat({"role": "user"}),
    chat(user(None)),
    chat(),
    chat(user("a" * 5000 + "\n" * 50)),
]

ROWS = {"a": [{"k": "x", "n": 1}, {"k": "y", "n": 2}, {"k": "x", "n": 3}],
        "s": "Größe, naïve 🚀", "d": {"b": 1, "a": [1, 2], "é": "ü"}, "n": None, "t": True,
        "f": False, "i": 7, "x": 2.5, "e": "", "l": [], "w": "  \n pad \t"}


def rows(*templates):
    return [(template, ROWS) for template in templates]


SNIPPETS = rows(
    # whitespace control
    "a\n{% if t %}\nb\n{% endif %}\nc\n",
    "  {% if t %}  x  {% endif %}  \ny",
    "x  {%- if t -%}  y  {%- endif -%}  z",
    "x {{- i -}} y",
    "x\n  {{ i }}\n  y\n\n",
    "{# c #}\na{# c #}\nb {#- c -#} d\n  {# c #}\n e",
    "  {%+ if t %}a{% endif +%}\nb",
    "{% if t +%}\na{% endif %}",
    "a {%- set q = 1 %}\n b {{ q }}",
    "\r\na\r\n{% if t %}\r\nb{% endif %}\r",
    "\n\n",
    "",
    "no tags",
    "{{ i }}\n",
    "{{ i }}\n\n",
    "a\n\t {% for r in a %}\n\t{{ r.n }}\n\t {% endfor %}\n b",
    "{% if t %}\n\n  {% endif %}x",
    "\u00a0 {% if t %}y{% endif %}",
    "{{ 'a\\nb' }}{{ \"\\t'\" }}",
    # literals
    "{{ 1 }} {{ 1.0 }} {{ 1.5e3 }} {{ 2e-7 }} {{ 1e16 }} {{ 123456789.123 }} {{ 0.1 + 0.2 }} {{ 100.0 }}",
    "{{ true }} {{ True }} {{ none }} {{ None }} {{ false }}",
    "{{ 'a' 'b' \"c\" }}",
    r"{{ '\x41\u00e9\U0001F600\'\\\d\a' }}",
    "{{ [1, 'a', none] | length }} {{ (1, 2) | length }} {{ {'a': 1}['a'] }}",
    "{{ () | length }} {{ (1,) | length }} {{ ('x') }}",
    "{{ {'a': {'b': {}}} | tojson }}",
    "{{ [] | tojson }}x",
    # names and access
    "{{ s }} {{ missing }}|{{ d.b }}|{{ d['b'] }}|{{ d.nope }}|{{ d['nope'] }}",
    "{{ missing.x }}",
    "{{ d.nope.x }}",
    "{{ missing['x'] }}",
    "{{ n.x }}|{{ s.x }}|{{ i.x }}|{{ a.x }}|{{ a['x'] }}",
    "{{ a[0].k }}{{ a[-1].n }}{{ a[9] }}{{ a[-9] }}",
    "{{ s[0] }}{{ s[-1] }}{{ s[2] }}",
    "{{ s[1:4] }}|{{ s[:3] }}|{{ s[-3:] }}|{{ s[::-1] }}|{{ s[::2] }}|{{ s[10:2] }}|{{ s[5:1:-2] }}",
    "{{ a[::-1] | map(attribute='n') | join(',') }} {{ a[1:] | length }} {{ a[:-1] | length }} {{ a[5:] | length }}",
    "{{ s[none:2] }}{{ s[i:] }}",
    "{{ s['a'] }}|",
    "{{ d[0] }}|",
    "{{ a[1.5] }}|",
    "{{ s[:'x'] }}",
    "{{ s[::0] }}",
    # arithmetic and precedence
    "{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 6 / 2 }}",
    "{{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 * 1.5 }} {{ -i }} {{ +i }} {{ - -i }} {{ 1 - 2 - 3 }} {{ 10 - 2 + 3 }} {{ 8 / 2 / 2 }}",
    "{{ 1 / 0 }}",
    "{{ 1 // 0 }}",
    "{{ 1 % 0 }}",
    "{{ 'ab' * 3 }} {{ 2 * 'x' }} {{ 'a' * 0 }}|{{ 'a' * -1 }}|",
    "{{ true + 1 }}",
    "{{ 'a' ~ 1 ~ none ~ 1.5 ~ true ~ missing }}",
    "{{ 'a' + 1 }}",
    "{{ 1 + 'a' }}",
    "{{ 'a' + missing }}",
    "{{ missing + 'a' }}",
    "{{ n + 'a' }}",
    "{{ s + n }}",
    "{{ [1] + [2] | list | tojson }}{{ ([1] + [2]) | tojson }}",
    "{{ 1 ~ 2 * 3 }}",
    "{{ 'x' if 1 + 1 == 2 }}",
    "{{ 1 + 2 + 3 }}{{ 'a' + 'b' + 'c' + 'd' }}",
    "{{ ([1] + ['a'] + []) | length }}",
    "{{ 'a' - 'b' }}",
    "{{ d + d }}",
    "{{ -'a' }}",
    # comparison and logic
    "{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ 'é' > 'z' }} {{ 2 >= 2 }} {{ 2 != 3 }}",
    "{{ 'a' < 1 }}",
    "{{ n < 1 }}",
    "{{ missing < 1 }}",
    "{{ missing == missing2 }} {{ n == none }} {{ missing == none }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1} }} {{ {'a': 1} == {'b': 1} }}",
    "{{ 'ö' in s }} {{ 'q' in s }} {{ '' in s }} {{ 1 in [1] }} {{ 1 not in [1] }} {{ 'b' in d }} {{ 2 in d }} {{ 'x' in missing }} {{ not 'x' in s }}",
    "{{ 1 in s }}",
    "{{ 1 in n }}",
    "{{ 1 in 5 }}",
    "{{ i and s }} {{ e or 'dflt' }} {{ not i }} {{ not e }} {{ f or n }} {{ t and f or t }} {{ not t == f }}",
    "{{ 'a' if t else 'b' }} {{ 'a' if f else 'b' if f else 'c' }} {{ 'a' if f }}|",
    "{{ 'a' if t and not f else 'b' }}",
    "{% if a %}1{% endif %}{% if l %}2{% endif %}{% if d %}3{% endif %}{% if n %}4{% endif %}{% if missing %}5{% endif %}{% if 0.0 %}6{% endif %}",
    "{% if f %}a{% elif i == 8 %}b{% elif i == 7 %}c{% else %}d{% endif %}",
    # tests
    "{{ s is defined }} {{ missing is defined }} {{ missing is undefined }} {{ n is none }} {{ s is not none }} {{ missing is none }} {{ d.nope is defined }}",
    "{{ s is string }} {{ i is string }} {{ d is mapping }} {{ a is mapping }} {{ a is sequence }} {{ s is sequence }} {{ d is sequence }} {{ i is sequence }} {{ a is iterable }} {{ i is iterable }} {{ n is iterable }} {{ missing is iterable }}",
    "{{ i is number }} {{ x is number }} {{ t is number }} {{ i is integer }} {{ t is integer }} {{ x is float }} {{ i is float }} {{ t is boolean }} {{ i is boolean }} {{ t is true }} {{ f is false }} {{ i is true }} {{ n is false }}",
    "{{ i is odd }} {{ i is even }} {{ i is eq 7 }} {{ i is equalto(7) }} {{ i is ne 7 }} {{ 1 is in [1] }} {{ not i is odd }} {{ i is not odd }} {{ i is odd and t }} {{ i is eq 7 or f }}",
    "{{ s is odd }}",
    "{{ missing is string }} {{ missing is mapping }}",
    # filters
    "[{{ w | trim }}] [{{ 'xxaxx' | trim('x') }}] [{{ '\u00a0\u2003a\x1f' | trim }}] [{{ 5 | trim }}] [{{ missing | trim }}] [{{ n | trim }}]",
    "{{ s | length }} {{ a | length }} {{ d | length }} {{ missing | length }} {{ a | count }}",
    "{{ n | length }}",
    "{{ i | length }}",
    "{{ 'aBÇ' | upper }} {{ 'ABÉ' | lower }} {{ i | upper }} {{ missing | lower }}|",
    "{{ a | map(attribute='k') | join('-') }} {{ [1, none, 'x', 2.0] | join(', ') }} {{ 'abc' | join('.') }} {{ a | join('|', attribute='n') }} {{ l | join }}|{{ missing | join(',') }}|",
    "{{ d | tojson }} {{ s | tojson }} {{ n | tojson }} {{ t | tojson }} {{ x | tojson }} {{ a | tojson }}",
    "{{ d | tojson(indent=2) }}",
    "{{ {'e': {}, 'l': [], 'x': [[1], {'a': 'b'}]} | tojson(indent=4) }}",
    "{{ '\"\\\\ / \\n\\t\\r\\b\\f\\x00\\x1f\\x7f é \u2028 😀 </' | tojson }}",
    "{{ missing | tojson }}",
    "{{ [1.0, 1e16, 1e-5, 123456789012345678, 0.1, 1e100] | tojson }}",
    "{{ missing | default('q') }} {{ e | default('q') }}|{{ e | default('q', true) }} {{ n | default('q') }} {{ missing | d }}| {{ e | d('z', boolean=true) }} {{ s | default(missing) }}",
    "{% for k, v in d | items %}{{ k }}={{ v | tojson }};{% endfor %}{{ missing | items | list | length }}",
    "{{ i | items | list }}",
    "{% for k, v in d.items() %}{{ k }}{% endfor %} {{ d.keys() | list | tojson }} {{ d.values() | list | tojson }}",
    "{{ a | first | tojson }} {{ a | last | tojson }} {{ l | first }}| {{ s | first }}{{ s | last }} {{ missing | first }}|",
    "{{ 'añb' | list | tojson }} {{ d | list | tojson }} {{ a | list | length }} {{ n | list }}",
    "{{ i | string + '!' }} {{ n | string }} {{ s | string }}",
    "{{ 'a-b-c' | replace('-', '+') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 'abc' | replace('x', 'y') }} {{ 'aa' | replace('aa', '') }}|",
    "{{ 'añb' | reverse }} {{ a | reverse | map(attribute='n') | list | tojson }}",
    "{{ a | selectattr('k', 'equalto', 'x') | list | length }} {{ a | rejectattr('k', 'equalto', 'x') | map(attribute='n') | list | tojson }} {{ a | selectattr('missing') | list | length }} {{ a | selectattr('n', 'defined') | list | length }} {{ a | selectattr('n', 'odd') | list | tojson }}",
    "{{ ['a', 'b'] | map('upper') | join }} {{ a | map(attribute='nope') | list | length }} {{ [' a ', 'b '] | map('trim') | list | tojson }}",
    "{{ '<b>' | safe }}{{ i | safe }}",
    # methods
    "[{{ w.strip() }}] [{{ w.lstrip() }}] [{{ w.rstrip() }}] [{{ 'xyaxy'.strip('yx') }}] [{{ '\\n\\na\\n'.lstrip('\\n') }}] [{{ 'éaé'.strip('é') }}]",
    "{{ 'a,b,,c'.split(',') | tojson }} {{ 'a b  c '.split() | tojson }} {{ 'a b  c '.split(none, 1) | tojson }} {{ 'a,b,c'.split(',', 1) | tojson }} {{ ''.split(',') | tojson }} {{ ''.split() | tojson }} {{ 'abc'.split('abc') | tojson }} {{ 'a<t>b<t>c'.split('<t>')[-1] }} {{ '  a b '.split(' ') | tojson }} {{ ' a  b '.split(maxsplit=1) | tojson }} {{ 'x'.split(sep='x') | tojson }}",
    "{{ 'a'.split('') }}",
    "{{ s.startswith('Grö') }} {{ s.endswith('🚀') }} {{ s.startswith('x') }} {{ e.startswith('') }} {{ 'naïve ωд'.upper() }} {{ 'ÀÉΩД'.lower() }} {{ 'aXbX'.replace('X', 'YY') }}",
    "{{ n.strip() }}",
    "{{ missing.strip() }}",
    "{{ i.strip() }}",
    "{{ s.startswith(1) }}",
    "{{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }}",
    "{{ s.get('b') }}",
    "{{ a.items() }}",
    # statements
    "{% for r in a %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for r in a if r.k == 'x' %}{{ loop.index }}/{{ loop.length }}:{{ r.n }} {% else %}none{% endfor %}",
    "{% for r in a if r.k == 'q' %}x{% else %}none{% endfor %}",
    "{% for r in l %}x{% else %}empty{% endfor %}",
    "{% for r in missing %}x{% else %}empty{% endfor %}",
    "{% for c in 'añ' %}[{{ c }}]{% endfor %}{% for k in d %}{{ k }}{% endfor %}",
    "{% for r in n %}{% endfor %}",
    "{% for r in 5 %}{% endfor %}",
    "{% for p, q in [[1, 2], [3, 4]] %}{{ p }}{{ q }};{% endfor %}",
    "{% for p, q in [[1]] %}{% endfor %}",
    "{% for (p, q) in [(1, 2)] %}{{ p + q }}{% endfor %}",
    "{% for r in a %}{% if r.n == 2 %}{% continue %}{% endif %}{{ r.n }}{% endfor %}|{% for r in a %}{% if r.n == 2 %}{% break %}{% endif %}{{ r.n }}{% endfor %}",
    "{% for r in a %}{% for q in a %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% set v = 1 %}{% for r in a %}{% set v = v + 1 %}{{ v }}{% endfor %}{{ v }}",
    "{% set ns = namespace(c=0, m='') %}{% for r in a %}{% set ns.c = ns.c + r.n %}{% set ns.m = ns.m ~ r.k %}{% endfor %}{{ ns.c }}{{ ns.m }}{{ ns.nope }}",
    "{% set q.x = 1 %}",
    "{% set d.x = 1 %}",
    "{% if t %}{% set v = 5 %}{% endif %}{{ v }}",
    "{% set v %}a{{ i }}\n b{% endset %}[{{ v }}]",
    "{% set v = 'x' if f else 'y' %}{{ v }}{% set p, q = [1, 2] %}{{ p }}{{ q }}",
    "{% for r in a %}{% set last = loop %}{% endfor %}{{ r }}{{ last }}|",
    "{% set ns = namespace(l=none) %}{% for r in a %}{% set ns.l = loop %}{% endfor %}{{ ns.l.length }}",
    "{% for i in range(3) %}{{ i }}{% endfor %}{{ i }} {{ range(2, 8, 3) | list | tojson }} {{ range(3, 0, -1) | list | tojson }} {{ range(0) | list | length }}",
    "{{ range(0, 5, 0) }}",
    "{{ range(200000) | length }}",
    "{{ raise_exception('no ' ~ s) }}",
    "{% if f %}{{ raise_exception('x') }}{% endif %}ok",
    "{{ strftime_now('%d %b %Y %H:%M:%S %a %A %B %j %m %p %I %y %%') }}",
    "{% for m in [1, 2, 3] %}{% if loop.first %}<{% endif %}{{ m }}{% if not loop.last %},{% else %}>{% endif %}{% endfor %}",
    "{{ 'a' if missing is defined and missing.x else 'b' }}",
    "{{ (a | selectattr('k', 'equalto', 'y') | first).n }}",
    "{{ a[0]['k'] ~ a[1].k }} {{ (a | last)['n'] + 1 }}",
    "{{ {'x': [1, {'y': 2}]}['x'][1].y }}",
    "{{ (d.a | length - 1) - 0 }}",
    "{{ a | length - 1 }}",
    "{{ (-1) | string }}",
    "{% if not (s.startswith('G') and s.endswith('x')) %}ok{% endif %}",
    "{{ '%' }}{{ '}}' }}{{ '{%' }}{# {{ #}",
    "{{ {'a': {'b': 1}}.a.b }}",
    "{{ [[1, 2], [3]][0][1] }}",
    "{{ 1 if f else {} | length }}",
    "{{ 'x' in ['x', 'y'] and 'z' not in 'abc' }}",
    # macros
    "{% macro m(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(b=2, a=1) }}{{ m() }}",
    "{% macro m(n) %}{{ n }}{% if n > 0 %},{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}",
    "{% macro a(x) %}<{{ b(x) }}>{% endmacro %}{% macro b(x) %}{{ x | upper }}{% endmacro %}{{ a('q') }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 'late' %}{{ m() }}",
    "{% set y = 1 %}{% macro m() %}{{ y }}{% set y = 2 %}{{ y }}{% endmacro %}{{ m() }}{{ y }}",
    "{% macro m() %}{{ r is defined }}{{ loop is defined }}{% endmacro %}{% for r in a %}{{ m() }}{% endfor %}",
    "{% macro m(r) %}{% for r in r %}{{ loop.index }}{{ r.k }}{% endfor %}{% endmacro %}{{ m(a) }}{{ m([]) }}",
    "{% macro m(x) %}\n  {{- x }}\n{% endmacro %}\n{{ m('a') | trim }}{{ m('b') ~ m('c') }}{{ m('d') + 'e' }}|{{ m('f') | length }}",
    "{% set ns = namespace(n=0) %}{% macro m() %}{% set ns.n = ns.n + 1 %}{% endmacro %}{{ m() }}{{ m() }}{{ ns.n }}",
    "{% macro m(x) %}{% if x is mapping %}{{ '{' }}{% for k, v in x.items() %}{{ k }}:{{ m(v) }}{% if not loop.last %},{% endif %}{% endfor %}{{ '}' }}{% elif x is iterable and x is not string %}[{% for v in x %}{{ m(v) }};{% endfor %}]{% else %}{{ x }}{% endif %}{% endmacro %}{{ m(d) }}{{ m(a) }}",
    "{% macro f(g, x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}<{{ x }}>{% endmacro %}{{ f(g, 1) }}",
    "{% macro m() %}x{% endmacro %}{{ m is defined }}{{ m is callable }}{{ n is callable }}{{ q is defined }}",
    "{% if t %}{% macro m() %}yes{% endmacro %}{% endif %}{% if f %}{% macro o() %}{% endmacro %}{% endif %}{{ m() }}{{ o is defined }}",
    "{% macro m(x) %}a{% endmacro %}{% macro m(x) %}b{% endmacro %}{{ m(1) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{{ m() }}{% macro m() %}x{% endmacro %}",
    "{% macro m(a) %}{{ a + 'x' }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}{% endmacro %}{% for j in [1, 2] %}{{ m() }}{% endfor %}",
    # other blocks
    "{% filter upper | trim %}  a{{ s }} {% endfilter %}|",
    "{% filter replace('a', 'b') %}aXa{% endfilter %}",
    "{% set v | upper | replace('A', '-') %}a{{ i }}b{% endset %}{{ v }}",
    "{% set v %}{% set w = 5 %}{{ w }}{% endset %}{{ v }}{{ w is defined }}",
    "{% generation %}a{{ i }}{% set q = 1 %}{% endgeneration %}{{ q is defined }}",
    "a\n{% generation %}\nb\n{% endgeneration %}\nc",
    "{% for r in l %}x{% else %}{% set q = 1 %}{{ q }}{% endfor %}{{ q is defined }}",
    "{% raw %}{{ x }}{% if %}{# #}{% endraw %}|",
    "a\n  {% raw %}\n {{ b }}\n  {% endraw %}\nc",
    "a {%- raw -%} {{ b }} {%- endraw -%} c",
    "a  {%+ raw %} x {%+ endraw +%}\n c",
    "{% set p, q = 1, 2 %}{{ p }}{{ q }}{% set r = 1, %}{{ r }}",
    # values as text
    "{{ [1, 'a', none, true, 2.5, [], {}] }}{{ (1,) }}{{ (1, 'b') }}{{ () }}{{ {'a': {'b': [1, (2, 3)]}} }}",
    "{{ d }}{{ a }}{{ [s] }}{{ [missing] }}",
    "{{ ['it\\'s', 'say \"x\"', 'it\\'s \"x\"', '\\\\', '\\n\\t\\r\\x00\\x1b\\x7f\\x85\\xa0\\xad', '\\u2028\\ue000\\U0001F600\\ufeff'] }}",
    "{{ ['é', '日本', '\\u0378', '\\u200b', '\\U000e0001'] }}",
    "{{ [1e16, 1e-5, 0.1, 1e22, -0.0, 100.0] }}{{ 'x' ~ [1] ~ {'a': 1} }}{{ [1] | string | length }}",
    "{{ d | string }}|{{ a | join(',') }}|{{ [[1], ['b']] | join('-') }}|{{ [1, 2] | upper }}",
    "{{ d | items | list }}{{ d | dictsort }}{{ [1] + [2] }}{{ (1,) + (2,) }}{{ [0] * 3 }}{{ 2 * [1, 2] }}",
    "{{ [1] + (2,) }}",
    "{{ [1] == (1,) }}{{ (1, 2) == (1, 2) }}{{ d.items() | list == d | items | list }}",
    # methods that are not called are there and true
    "{{ d.items is defined }}{{ d['items'] is defined }}{{ d['items'] is mapping }}{{ s.upper is callable }}{{ 'x' if d.get else 'y' }}{{ d.nope is defined }}{{ s.items is defined }}",
    "{{ raise_exception is defined }}{{ strftime_now is defined }}{{ range is defined }}{{ namespace is callable }}",
    # filters
    "{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'c', 'a'] | sort }}{{ ['b', 'A', 'a'] | sort(case_sensitive=true) }}{{ [1, 2] | sort(reverse=true) }}{{ a | sort(attribute='n', reverse=true) | map(attribute='n') | list }}{{ a | sort(true, false, 'k') | map(attribute='n') | list }}",
    "{{ [1, 'a'] | sort }}",
    "{{ [none, 1] | sort }}",
    "{{ [1, 1.0, 2, 1, 'a', 'A', 'a'] | unique | list }}{{ a | unique(attribute='k') | map(attribute='n') | list }}{{ ['a', 'A'] | unique(true) | list }}",
    "{{ {'b': 1, 'A': 2, 'c': 0} | dictsort }}{{ {'b': 1, 'A': 2} | dictsort(true) }}{{ {'b': 1, 'A': 2, 'c': 0} | dictsort(by='value') }}{{ {'b': 1, 'A': 2} | dictsort(reverse=true) }}{{ {'b': 1, 'A': 2} | dictsort(false, 'value', true) }}",
    "{{ a | dictsort }}",
    "{{ [3, 1, 2] | min }}{{ [3, 1, 2] | max }}{{ ['b', 'A'] | min }}{{ a | max(attribute='n') }}{{ [] | min }}|{{ [1, 2.5] | sum }}{{ a | sum(attribute='n') }}{{ [] | sum(start=5) }}",
    "{{ ['a'] | sum }}",
    "{{ 7 | int }}{{ '42' | int }}{{ ' 7 ' | int }}{{ '3.9' | int }}{{ 3.9 | int }}{{ -3.9 | int }}{{ 'x' | int }}{{ 'x' | int(5) }}{{ none | int }}{{ true | int }}{{ '' | int(default=9) }}",
    "{{ 7 | float }}{{ '4.5' | float }}{{ 'x' | float }}{{ '1e3' | float }}{{ none | float(1.5) }}",
    "{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.675 | round(2) }}{{ 7 | round }}{{ -1.5 | round }}{{ 42.55 | round(1) }}",
    "{{ -3 | abs }}{{ (-2.5) | abs }}{{ 4 | abs }}",
    "{{ 'a' | abs }}",
    "[{{ 'a\nb\n\nc' | indent }}] [{{ 'a\nb' | indent(2, true) }}] [{{ 'a\n\nb\n' | indent(2, blank=true) }}] [{{ 'a\nb' | indent('> ') }}] [{{ '' | indent(2, true) }}] [{{ '\na' | indent(width=3, first=true) }}]",
    "{{ 'hello wORLD' | capitalize }}{{ 'éa' | capitalize }}{{ 'foo-bar (baz) [q] <x> it\\'s' | title }}{{ '' | capitalize }}",
    "{{ '<a href=\"x\">&\\'' | escape }}{{ '<' | e }}",
    "{{ '<'|safe + '<' + 'a'|safe }}{{ ('<'|safe) ~ '<' }}{{ 'x' + '&' }}",
    "{{ '<'|safe + missing }}",
    "{{ d | tojson(separators=(',', ':')) }}{{ d | tojson(sort_keys=true) }}{{ s | tojson(ensure_ascii=true) }}{{ '\\x7f\\u2028😀\"' | tojson(ensure_ascii=true) }}{{ {'é': 1} | tojson(ensure_ascii=true) }}",
    "{{ {'b': 1, 'A': {'d': 1, 'c': 2}} | tojson(sort_keys=true, indent=1, separators=[' , ', ' : ']) }}{{ [1] | tojson(indent=0) }}{{ [1] | tojson(indent=none) }}",
    "{{ [1, 2, 3, 4] | select('odd') | list }}{{ [1, 2, 3] | reject('gt', 1) | list }}{{ [0, 1, '', 'a', none] | select | list }}{{ ['a', 'b'] | reject('in', ['a']) | list }}{{ [1, 2] | select('==', 2) | list }}{{ [1, none] | reject('none') | list }}",
    "{{ a | map(attribute='nope', default='-') | list }}{{ [{'a': {'b': 1}}, {'a': {'b': 2}}] | map(attribute='a.b') | list }}{{ [[1, 2], [3, 4]] | map(attribute=1) | list }}{{ [[1, 2]] | map(attribute='0') | list }}{{ ['a-b'] | map('replace', '-', '+') | list }}{{ [[1, 2]] | map('join', ',') | list }}{{ [none] | map('default', 'x', true) | list }}",
    "{{ a | selectattr('n', 'gt', 1) | map(attribute='n') | list }}{{ a | selectattr('k', 'in', ['y']) | list | length }}{{ [{'a': {'b': 1}}] | selectattr('a.b', '==', 1) | list }}",
    "{% if a | selectattr('nope') %}true{% endif %}{{ none | map('upper') | list }}{{ none | select | list }}{{ '' | selectattr('x') | list }}",
    "{{ a | select('nope') | list }}",
    "{{ a | map('nope') | list }}",
    "{{ a | selectattr('k') | length }}",
    "{{ [1, 2] | map('string') | join('+') }}{{ 'abc' | map('upper') | join }}{{ d | map('upper') | list }}",
    "{{ [1, 2] | first }}{{ range(3) | last }}{{ d | first }}{{ (1, 2) | reverse | list }}{{ range(3) | list }}{{ range(3)[1] }}{{ range(3) | length }}",
    # tests
    "{{ 4 is divisibleby 2 }}{{ 4 is divisibleby(3) }}{{ 1 is lt 2 }}{{ 1 is ge(2) }}{{ 'a' is lower }}{{ 'A' is lower }}{{ 'A' is upper }}{{ '1' is upper }}{{ range is callable }}{{ 2 is greaterthan 1 }}{{ 2 is le 2 }}{{ 2 is lessthan 1 }}",
    "{{ d.items() is iterable }}{{ (a | select) is iterable }}{{ (a | select) is sequence }}{{ (1, 2) is sequence }}{{ d is iterable }}{{ t is iterable }}",
    # methods
    "{{ 'hello wORLD' .title() }}{{ \"it's a-b\".title() }}{{ 'aBC dE'.capitalize() }}",
    "{{ 'a,b,,c'.rsplit(',', 1) }}{{ 'a,b,,c'.rsplit(',') }}{{ 'a b'.rsplit() }}{{ 'a,b'.rsplit(',', 0) }}{{ 'a,b,c'.rsplit(',', 2)[0] }}{{ 'abc'.rsplit('x', 1) }}",
    "{{ 'a\\nb\\r\\nc\\n\\nd\\x0be\\u2028f'.splitlines() }}{{ 'a\\nb\\n'.splitlines(true) }}{{ ''.splitlines() }}",
    "{{ ', '.join(['a', 'b']) }}{{ ''.join([]) }}|{{ '-'.join('abc') }}{{ ','.join(d) }}",
    "{{ ','.join([1]) }}",
    "{{ s.find('ß') }}{{ s.find('q') }}{{ ''.find('') }}{{ 'aXbX'.count('X') }}{{ 'añ'.count('') }}{{ 'aaa'.count('aa') }}",
    "{{ 'prefix'.removeprefix('pre') }}{{ 'prefix'.removesuffix('fix') }}{{ 'x'.removeprefix('xx') }}{{ 'x'.removesuffix('y') }}{{ 'x'.removeprefix('') }}",
    "{{ '<{}>{}'.format('a', 1) }}{{ '{0}{1}{0}'.format('x', 'y') }}{{ '{{}}{}'.format(2.5) }}{{ 'no'.format(1) }}",
    "{{ '{}'.format() }}",
    # operators, loops
    "{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 2.0 ** 0.5 }}{{ -2 ** 2 }}{{ 2 ** 3 ** 2 }}{{ 2 * 3 ** 2 }}{{ (-1) ** 3 }}{{ 0 ** 0 }}{{ 9 ** 0.5 }}",
    "{{ 'a' ** 2 }}",
    "{% for r in a %}{{ loop.cycle('x', 'y') }}{{ loop.previtem.n }}{{ loop.nextitem.n }};{% endfor %}",
    "{% for r in a %}{{ loop.cycle() }}{% endfor %}",
    "{{ 1 < 2 == true }}{{ 1 in [1] == true }}{{ 1 < 3 > 2 != 5 }}{{ not not t }}{{ (not t) == f }}",
    "{{ dict(a=1, b='x') }}{{ dict(a=1).b is defined }}{{ dict() }}",
    "{% for k, v in d.items() if v is sequence %}{{ k }}{% endfor %}{% for k in d.keys() %}{{ k }}{% endfor %}",
    "{{ a[::-1][0].n }}{{ 'abc'[::-2] }}{{ [1, 2, 3, 4][3:0:-2] }}{{ (1, 2, 3)[1:] }}",
    "{{ x if f }}|{{ (x if f) is defined }}|{{ (1 if f) | default('none') }}",
    "{{ n[1:] }}",
    "{{ t[1:] }}",
    "{{ d[1:] }}",
    "{{ missing is callable }}{{ missing is sequence }}",
    "{{ 'a' if t else missing.x }}{{ missing.x if f else 'b' }}",
    "{{ 1,\n 2 }}",
    # syntax errors
    "{{ }}",
    "{{ 1 + }}",
    "{% if %}{% endif %}",
    "{% if t %}",
    "{% endif %}",
    "{% for %}{% endfor %}",
    "{% for x %}{% endfor %}",
    "{{ 'a }}",
    "{# a",
    "{{ 1",
    "{% set %}",
    "{% set x = %}",
    "{% nope %}",
    "{{ a | nope }}",
    "{{ a is nope }}",
    "{{ nope(1) }}",
    "{{ s.nope() }}",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ [1 }}",
    "{{ a b }}",
    "{% if t %}{% else %}{% else %}{% endif %}",
    "{% break %}",
    "{{ a[ }}",
    "{{ a[1:2:3:4] }}",
    "{{ 1 = 2 }}",
    "{{ @ }}",
    "{{ a. }}",
    "{{ | trim }}",
    "{% for x in a %}{% endif %}",
    "{{ s | replace('a') }}",
    "{{ 'a' is eq }}",
    "{% macro %}{% endmacro %}",
    "{% macro m( %}{% endmacro %}",
    "{% macro m() %}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m() %}{% endmacro m %}",
    "{% macro m() %}{% break %}{% endmacro %}",
    "{% filter %}{% endfilter %}",
    "{% filter nope %}{% endfilter %}",
    "{% raw %}x",
    "{% endraw %}",
    "{% set x | nope %}{% endset %}",
    "{% generation %}",
    "{% for x in a %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{{ m(a=1, 2) }}{% macro m(a, b) %}{% endmacro %}",
)

# Templates in the style of real ones, written for this file, for those who cannot fetch the real ones.
STYLES = {
    "marked roles": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "instructions": """{%- if messages[0]["role"] == "system" %}
    {%- set first = messages[0]["content"] %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- set asked = rest | selectattr("role", "equalto", "user") | list %}
{%- for m in rest | rejectattr("role", "in", ["tool", "ipython"]) | rejectattr("tool_calls", "defined") %}
    {%- if (m["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("The roles of a conversation must take turns: user, assistant, user, ...") }}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for m in rest %}
    {%- if m["role"] == "user" %}
        {%- if tools is not none and m == asked[-1] %}
            {{- "[TOOLS] [" }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, value in tool.function.items() if key != "return" %}
                    {{- '"' + key + '": ' }}{{ value if value is number else value | tojson }}
                    {%- if not loop.last %}{{ ", " }}{% endif %}
                {%- endfor %}
                {{- "}}" }}{{ "" if loop.last else ", " }}
            {%- endfor %}
            {{- "][/TOOLS]" }}
        {%- endif %}
        {{- "[INST] " ~ (first ~ "\\n\\n" if loop.last and first is defined) ~ m["content"] ~ "[/INST]" }}
    {%- elif m.tool_calls is defined and m.tool_calls is not none %}
        {{- "[CALLS] [" }}
        {%- for c in m.tool_calls %}
            {%- if c.id is undefined or c.id | length != 9 %}
                {{- raise_exception("A call's id must have 9 characters!") }}
            {%- endif %}
            {{- (c.function | tojson)[:-1] }}, "id": "{{ c.id }}"}{{ ", " if not loop.last else "]" + eos_token }}
        {%- endfor %}
    {%- elif m["role"] == "assistant" %}
        {{- " " + m["content"] | trim + eos_token }}
    {%- elif m["role"] in ("tool", "ipython") %}
        {%- if m.content is mapping and m.content.content is defined %}{% set text = m.content.content %}{% else %}{% set text = m.content %}{% endif %}
        {{- "[RESULT] {\\"content\\": " + text | string + "}[/RESULT]" }}
    {%- else %}
        {{- raise_exception("Only user, assistant and tool are known, not " ~ m["role"]) }}
    {%- endif %}
{%- endfor %}""",
    "typed tools": """{%- macro type_of(schema, required=[], depth=0) -%}
    {%- if schema.anyOf is defined -%}
        {%- for one in schema.anyOf %}{{ type_of(one, depth=depth + 1) }}{{ " | " if not loop.last }}{% endfor -%}
    {%- elif schema.type == "object" -%}
        {{- "{" }}
        {%- for name, inner in (schema.properties or {}) | dictsort %}
            {%- if inner is mapping %}
                {{- "\\n" + "  " * (depth + 1) + name }}{{ "" if name in required else "?" }}: {{ type_of(inner, inner.required | default([], true), depth + 1) }}
                {%- if inner.default is defined %} = {{ inner.default | tojson }}{% endif %}
                {%- if inner.description %} // {{ inner.description | replace("\\n", " ") }}{% endif %}
            {%- endif %}
        {%- endfor %}
        {{- "}" }}
    {%- elif schema.type == "array" -%}
        {{- type_of(schema["items"], depth=depth) ~ "[]" if schema["items"] is mapping else "any[]" }}
    {%- elif schema.enum is defined -%}
        {{- schema.enum | map("tojson") | join(" | ") }}
    {%- elif schema.type is string -%}
        {{- {"integer": "number"}[schema.type] | default(schema.type) }}
    {%- else -%}
        {{- schema.type | default("any") }}
    {%- endif -%}
{%- endmacro -%}
{%- macro text_of(content) -%}
    {%- if content is none or content is not defined %}
    {%- elif content is string %}{{ content }}
    {%- else %}{% for part in content %}{{ part.text if part.type == "text" else "<" ~ part.type ~ ">" }}{% endfor %}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last=-1, calls=[]) -%}
{%- for m in messages %}{% if m.role == "user" %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}
<|begin|>
{% if tools %}
{% for tool in tools %}
{% set f = tool.function if tool.function is defined else tool %}
{% filter trim %}
tool {{ f.name | title }} ({{ type_of(f.parameters, f.parameters.required or []) }})
{% endfilter %}

{% endfor %}
{% endif %}
{% for m in messages -%}
<|{{ m.role | capitalize }}|>
    {%- if m.role == "assistant" %}
        {%- set thought = m.reasoning_content or "" %}
        {%- if "</think>" in text_of(m.content) %}
            {%- set thought = text_of(m.content).split("</think>")[0].split("<think>")[-1].strip("\\n") %}
        {%- endif %}
        {%- generation %}
        {%- if thought and loop.index0 > ns.last %}<think>{{ thought | indent(2) }}</think>{% endif %}
        {{- text_of(m.content).split("</think>")[-1].lstrip("\\n") }}
        {%- for c in m.tool_calls or [] %}
            {%- set c = c.function or c %}
            {{- "\\n<call " + c.name + ">" }}
            {%- for key, value in (c.arguments if c.arguments is mapping else {"text": c.arguments}).items() %}
                {{- "\\n" ~ key ~ "=" ~ (value if value is string else value | tojson(indent=2)) }}
            {%- endfor %}
            {%- set ns.calls = ns.calls + [c.name] %}
        {%- endfor %}
        {%- endgeneration %}
    {%- else %}
        {{- text_of(m.content) if m.content is not mapping else m.content }}
    {%- endif %}
    {%- if loop.nextitem is not defined or loop.nextitem.role != m.role %}<|end|>{% endif %}

{% endfor %}
{% if ns.calls %}called: {{ ns.calls }}, {{ ns.calls | unique | sort | join("/") }}
{% endif %}
{% if add_generation_prompt %}<|Assistant|>{{ "<think></think>" if enable_thinking is defined and not enable_thinking }}{% endif %}""",
}
