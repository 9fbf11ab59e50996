"""Help, man pages, completion and installation: what the programs say about themselves is true."""
import os
import re
import shlex
import shutil
import subprocess

import pytest

from cluster import BIN, ROOT
from terminal import Terminal

PROGRAMS = ["tandem", "tandem-router", "tandem-scheduler", "tandem-prefill", "tandem-decode"]
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}


def run(*words, **options):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120,
                          env=ENVIRONMENT, **options)


def commands(*words):
    """Every command line that has a help of its own, found by asking."""
    yield list(words)
    offered = run(*words, "--complete", "").stdout
    if re.search(r"^help\t", offered, re.M):
        for name in re.findall(r"^(\w+)\t", offered, re.M):
            if name != "help":
                yield from commands(*words, name)


def is_menu(words):
    return words in (["tandem"], ["tandem", "bench"])


ALL = [line for program in PROGRAMS for line in commands(program)] if (BIN / "tandem").is_file() else []
NAMES = [" ".join(line) for line in ALL]


def test_all_commands_are_found():
    assert {"tandem serve", "tandem chat", "tandem bench engine", "tandem-router", "tandem sim"} <= set(NAMES)


@pytest.mark.parametrize("words", ALL, ids=NAMES)
def test_help_teaches(words):
    result = run(*words, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: {' '.join(words)}")
    assert max(len(line) for line in result.stdout.splitlines()) <= 100
    if not is_menu(words):
        for part in ("\nEnvironment:\n", "\nExit status:\n", "\nSee also: "):
            assert part in result.stdout, part
        assert ("\nValues:\n" in result.stdout) == ("\n  --" in result.stdout), "where there are flags"
        assert "\nExamples:\n" in result.stdout or words == ["tandem", "version"]


def pasted(text):
    """The command lines in a text, as words; comments behind them and what follows a pipe are cut off."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        line = re.split(r"\s{2,}", line.strip())[0]
        line = re.sub(r"^([A-Z_]+=\S+ )+", "", line)
        # a sentence may begin with a command as well, and have an apostrophe
        if line.split(" ")[0] in PROGRAMS and not re.search("COMMAND|TOPIC|[a-z]'[a-z]", line):
            yield shlex.split(re.split(r" [|>] |<\(", line)[0])


@pytest.mark.parametrize("words", ALL, ids=NAMES)
def test_examples_work_when_pasted(words):
    text = run(*words, "--help").stdout
    examples = list(pasted(re.split(r"\n(?:Values|Environment):\n", text.split("\nExamples:\n")[-1])[0]))
    assert examples or words == ["tandem", "version"] or "\nExamples:\n" not in text
    for example in examples:
        if example[1:2] != ["help"]:  # all flags are read before the last word asks for help
            result = run(*example, "--help")
            assert result.returncode == 0, (example, result.stderr)


def test_topics_are_listed_and_their_commands_work():
    listed = re.findall(r"^  (\w+) ", run("tandem", "help").stdout.split("\nTopics:\n")[1].split("\n\n")[0], re.M)
    assert len(listed) >= 4
    seen = 0
    for topic in listed:
        result = run("tandem", "help", topic)
        assert result.returncode == 0 and result.stdout.startswith(topic + ": ")
        for words in pasted(result.stdout):
            if len(words) > 2 and not re.match("[a-z]+$", words[2]):  # else it is a sentence
                seen += 1
                assert run(*words, "--help").returncode == 0, words
    assert seen > 5


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    result = run(ROOT / "scripts/man", folder, BIN)
    assert result.returncode == 0, result.stderr
    return folder


def test_every_command_has_a_page(pages):
    assert {page.stem for page in pages.iterdir()} == {"-".join(words) for words in ALL}
    text = (pages / "tandem-serve.1").read_text()
    for part in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"):
        assert part in text
    assert run("tandem", "help", "--man", "serve").stdout == text


def test_pages_refer_to_pages(pages):
    for page in pages.iterdir():
        see_also = page.read_text().split('.SH "SEE ALSO"')[-1].replace("\\-", "-")
        for name in re.findall(r"(tandem[a-z-]*)\(1\)", see_also):
            assert (pages / f"{name}.1").is_file(), (page.name, name)


@pytest.mark.parametrize("tool", ["man", "mandoc"])
def test_pages_are_well_formed(pages, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    for page in sorted(pages.iterdir()):
        if tool == "man":
            result = run("man", "-l", "--warnings", "-Tutf8", page)
            assert result.returncode == 0 and "warning" not in result.stderr, result.stderr
        else:  # a page has no date: the same sources give the same page
            found = [line for line in run("mandoc", "-Tlint", "-Wwarning", page).stdout.splitlines()
                     if "missing date" not in line]
            assert not found, found


# ---- completion ----

BASH = """
source <({bin}/tandem completion bash)
options=
compopt() {{ options="$*"; }}
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_tandem "${{COMP_WORDS[0]}}"; printf '%s\\n' "${{COMPREPLY[@]}}" "options $options"
"""


def complete(*words):
    """What bash would offer for the last of the words."""
    script = BASH.format(bin=BIN, words=" ".join(map(shlex.quote, words)))
    result = run("bash", "--norc", "-c", script)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    return [line for line in lines[:-1] if line], lines[-1].removeprefix("options").strip()


@pytest.mark.parametrize("words, expected", [
    (["tandem", "se"], ["serve"]),
    (["tandem", "ch"], ["chat", "check"]),
    (["tandem", "bench", ""], ["engine", "tokenizer", "sampling", "steps", "transfer", "index", "help"]),
    (["tandem", "help", "pro"], ["processes"]),
    (["tandem", "serve", "--kv-t"], ["--kv-transport"]),
    (["tandem", "serve", "--kv-transport", ""], ["auto", "ucx", "map"]),
    (["tandem", "serve", "--kv-transport", "=", "u"], ["ucx"]),  # as bash parts --kv-transport=u
    (["tandem", "serve", "--kv-transport", "="], ["auto", "ucx", "map"]),
    (["tandem", "demo", "--json", "=", "f"], ["false"]),
    (["tandem", "serve", "--port", "8000", "--port"], []),  # it was given already
    (["tandem-router", "--scheduler", "a:1", "--schedul"], ["--scheduler"]),  # may be repeated
    (["tandem-decode", "--log-level", "w"], ["warn"]),
    (["tandem", "completion", ""], ["bash", "zsh", "fish"]),
    (["tandem", "frobnicate", ""], []),
    (["tandem", "serve", "--frobnicate", "--kv-tr"], ["--kv-transport"]),
    ([str(BIN / "tandem"), "ver"], ["version"]),
])
def test_bash_offers(words, expected):
    assert complete(*words)[0] == expected


@pytest.mark.parametrize("words, otherwise", [
    (["tandem", "serve", ""], "-o default"),
    (["tandem", "serve", "model.gguf", ""], ""),
    (["tandem", "chat", "--api-key-file", ""], "-o default"),
    (["tandem-router", "--certs", ""], "-o dirnames"),
    (["tandem", "certs", ""], "-o dirnames"),
    (["tandem", "serve", "--port", ""], ""),
])
def test_bash_leaves_files_to_readline(words, otherwise):
    assert complete(*words) == ([], otherwise)


def test_completion_by_hand_in_bash(tmp_path):
    (tmp_path / "my model.gguf").write_text("")
    with Terminal(["bash", "--norc", "--noprofile"], {"PS1": "$ ", "PATH": ENVIRONMENT["PATH"]}) as screen:
        screen.wait_for(r"\$ ")
        screen.type(f"cd {tmp_path}; source <(tandem completion bash); echo rea''dy\r")
        screen.wait_for("ready")
        screen.type("tandem ser\t")
        screen.wait_for("tandem serve ")
        screen.type("m\t")
        screen.wait_for(r"my\\ model\.gguf ")
        screen.type("--kv-transport=u\t")
        screen.wait_for("--kv-transport=ucx ")
        screen.type("\x03")
        screen.wait_for(r"\$ $")
        screen.type("exit\r")
        screen.wait_end()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_of_their_shell(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(run("tandem", "completion", shell).stdout)
    result = run(shell, "-n", script)
    assert (result.returncode, result.stderr) == (0, "")


def test_fish_offers():
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")

    def offers(line):
        result = run("fish", "--no-config", "-c", f"tandem completion fish | source; complete -C {shlex.quote(line)}")
        return [found.split("\t")[0] for found in result.stdout.splitlines()]

    assert offers("tandem se") == ["serve"]
    assert set(offers("tandem serve --kv-transport=")) == {f"--kv-transport={word}" for word in ("auto", "ucx", "map")}
    assert set(offers("tandem-router --log-level w")) == {"warn"}


def test_zsh_offers():
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    # _describe is zsh's own; what it would be given is looked at instead
    script = ("compdef() { }; source <(tandem completion zsh); _describe() { print -l -- $found }; "
              "_files() { print files $@ }; words=(%s); CURRENT=$#words; _tandem")
    assert run("zsh", "-f", "-c", script % "tandem ser").stdout.startswith("serve:serves a model")
    assert run("zsh", "-f", "-c", script % "tandem serve ''").stdout == "files\n"
    assert run("zsh", "-f", "-c", script % "tandem certs ''").stdout == "files -/\n"


def test_a_wrong_shell_is_named_with_the_right_ones():
    for words in ([], ["tcsh"], ["bash", "zsh"]):
        result = run("tandem", "completion", *words)
        assert result.returncode == 2 and "bash, zsh or fish" in result.stderr


# ---- installation ----

def test_what_is_installed_works(tmp_path, tiny):
    if shutil.which("cmake") is None or not (BIN.parent / "cmake_install.cmake").is_file():
        pytest.skip(f"{BIN.parent} is no build folder of cmake")
    # as a package is made: nothing may be written outside of the folder
    result = subprocess.run(["cmake", "--install", str(BIN.parent), "--prefix", "/opt/tandem"], capture_output=True,
                            text=True, env={**ENVIRONMENT, "DESTDIR": str(tmp_path)}, timeout=300)
    assert result.returncode == 0, result.stderr
    root = tmp_path / "opt/tandem"
    for program in PROGRAMS:
        assert (root / "bin" / program).is_file()
        assert (root / f"share/man/man1/{program}.1").is_file()
        assert "complete" in (root / f"share/bash-completion/completions/{program}").read_text()
        assert "complete" in (root / f"share/fish/vendor_completions.d/{program}.fish").read_text()
    assert (root / "share/zsh/site-functions/_tandem").read_text().startswith("#compdef tandem ")
    assert list(tmp_path.iterdir()) == [tmp_path / "opt"]
    result = subprocess.run([root / "bin/tandem", "chat", tiny.path, "--set", "max_tokens=2"], input="Why?\n",
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and result.stdout != "", result.stderr
