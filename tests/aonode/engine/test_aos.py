"""Real aos modules, unmodified: golden outputs, rollback, limits, no way out."""

from __future__ import annotations

import json
import threading

import pytest

from aonode.engine import config
from protocols.errors import Invalid
from protocols.wire.outcome import Status
from tests.aonode.engine.aos import (
    MESSAGES,
    VECTORS,
    Aos,
    encode,
    loader_result,
    make_aos_engine,
    open_module,
)

pytestmark = pytest.mark.slow

MAIN = ("aos2_0_6", "aos2_0_4_32")
OTHERS = ("aos", "aos2_0_1", "aos2_0_3", "process")
COUNTER = """Counter = 0
Handlers.add("Inc", "Inc", function(m) Counter = Counter + 1 m.reply({Data=tostring(Counter)}) end)
Handlers.add("Fail", "Fail", function(m) Counter = Counter + 1000 error("no") end)
Handlers.add("Spin", "Spin", function(m) Counter = Counter + 1000 while true do end end)"""


@pytest.fixture(params=MAIN)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_golden_outputs(name: str) -> None:
    golden = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    session = open_module(make_aos_engine(), name)
    assert len(golden) == len(MESSAGES["cases"]) == 12
    for case in MESSAGES["cases"]:
        before = session.state_root()
        result = session.run_slot(encode(case["message"]))
        wanted = golden[case["name"]]
        assert loader_result(result.raw) == wanted, case["name"]
        failed = "Error" in wanted
        assert result.status == (Status.ERROR if failed else Status.OK)
        assert (session.state_root() == before) == failed


@pytest.mark.parametrize("other", OTHERS)
def test_other_modules_run(other: str) -> None:
    aos = Aos(make_aos_engine(), other)
    assert aos.boot.status == Status.OK
    if other != "process":
        assert "42" in aos.send("Eval", "return 6 * 7").raw.decode()


def test_sqlite_module() -> None:
    aos = Aos(make_aos_engine(), "sqlite")
    source = """local db = require("lsqlite3").open_memory()
    db:exec("create table t(a, b); insert into t values(1, 'x'), (2, 'y'), (3, 'z')")
    for row in db:urows("select sum(a) || ':' || group_concat(b) from t") do return row end"""
    assert aos.lua(source) == "6:x,y,z"


def test_llama_module() -> None:
    """It loads and answers; weights would come from AO's file extension, which is not here."""
    aos = Aos(make_aos_engine(), "llama", memory_max=2 << 30)
    assert aos.boot.status == Status.OK
    assert aos.lua("return 1 + 1") == "2"
    source = """local names = {} for name in pairs(require("llama")) do names[#names + 1] = name end
    table.sort(names) return table.concat(names, " ")"""
    assert aos.lua(source) == "add load next run set_prompt stop"
    root = aos.session.state_root()
    assert aos.send("Eval", "return require('llama').load('/data/none')").status == Status.TRAP
    assert aos.session.state_root() == root
    assert aos.lua("return 6 * 7") == "42"


def test_same_log_same_root_across_threads_and_grouping(name: str) -> None:
    engine = make_aos_engine()
    outcomes: list[tuple[object, ...]] = []

    def evaluate(every: int) -> None:
        aos = Aos(engine, name)
        aos.lua(COUNTER)
        fuel = []
        for number in range(12):
            fuel.append(aos.send(("Inc", "Fail", "Inc")[number % 3]))
            if number % every == 0:
                aos.session.state_root()
        outcomes.append((*fuel, aos.session.state_root(), aos.session.memory()))

    threads = [threading.Thread(target=evaluate, args=(every,)) for every in (1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    evaluate(100)
    assert len(outcomes) == 3
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_errors_and_endless_loops_leave_no_trace(name: str) -> None:
    aos = Aos(make_aos_engine(fuel_max=400_000_000), name)
    aos.lua(COUNTER)
    aos.send("Inc")
    root = aos.session.state_root()
    assert aos.send("Fail").status == Status.ERROR
    spun = aos.send("Spin")
    assert (spun.status, spun.raw, spun.fuel) == (Status.OUT_OF_FUEL, b"", 400_000_000)
    assert aos.send("Eval", "error('x')").status == Status.ERROR
    assert aos.session.state_root() == root
    aos.send("Inc")
    assert aos.lua("return Counter") == "2"


def test_memory_ends_at_the_limit_of_the_process(name: str) -> None:
    engine = make_aos_engine()
    aos = Aos(engine, name, memory_max=96 << 20)
    hoard = "local t = {} for i = 1, 1e7 do t[i] = ('x'):rep(1000) .. i end return #t"
    assert "not enough memory" in aos.lua(hoard)
    assert aos.lua("return 1 + 1") == "2"
    assert len(aos.session.memory()) <= 96 << 20
    with pytest.raises(Invalid, match="Memory-Limit"):
        open_module(engine, name, 64 << 20)


def test_a_failed_slot_that_grew_the_memory(name: str) -> None:
    aos, twin = (Aos(make_aos_engine(), name) for _ in range(2))
    double = "local s = ('z'):rep(1000000) for i = 1, 7 do s = s .. s end "
    size = len(aos.session.memory())
    for process in (aos, twin):
        process.lua("Kept = 'before'")
    assert aos.send("Eval", double + "error('full')").status == Status.ERROR
    aos.nonce -= 1
    assert len(aos.session.memory()) == size
    assert aos.send("Eval", double) == twin.send("Eval", double)
    assert len(aos.session.memory()) > size
    assert aos.lua("return Kept") == twin.lua("return Kept")
    assert aos.session.state_root() == twin.session.state_root()


RECURSIONS = (
    "local function f(n) return 1 + f(n + 1) end return f(1)",
    "local s = ('('):rep(1e5) return load('return ' .. s .. '1' .. (')'):rep(1e5))",
    "local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k + 1] end"
    " return t[1]",
    "local function f() return pcall(f) end return f()",
    "local function f(s) return (s:gsub('.', f)) end return f('xy')",
    "local t = {} for i = 1, 1e5 do t = {t} end return require('json').encode(t)",
    "local co co = function() return coroutine.wrap(co)() end return co()",
    "local function f() table.sort({3, 2, 1}, f) end f()",
    "return require('json').decode(('['):rep(1e5))",
    "return ('x'):rep(1e5):find(('a?'):rep(1e4) .. ('b'):rep(10))",
    "return ('x'):rep(3e5):match(('(x'):rep(30) .. (')'):rep(30))",
    "local m = {} setmetatable(m, {__tostring = function() return tostring(m) end}) "
    "return tostring(m)",
)


def test_recursion_ends_below_a_quarter_of_the_stack(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a quarter of the native stack no recursion of Lua's overflows it (else REFUSED)."""
    monkeypatch.setattr(config, "WASM_STACK_BYTES", config.WASM_STACK_BYTES // 4)
    aos = Aos(make_aos_engine(fuel_max=1_500_000_000), name)
    for source in RECURSIONS:
        result = aos.send("Eval", source)
        assert result.status in (Status.OK, Status.ERROR, Status.OUT_OF_FUEL), source
    assert aos.lua("return 1 + 1") == "2"


def test_many_caught_errors(name: str) -> None:
    aos = Aos(make_aos_engine(), name)
    source = "local c = 0 for i = 1, 30000 do if not pcall(error, 'x') then c = c + 1 end end "
    for _ in range(3):
        assert aos.lua(source + "return c") == "30000"


WORLD = {
    "return tostring(os.execute())": "false",
    "return tostring(os.execute('touch owned'))": "nil",
    "return tostring(pcall(io.popen, 'ls'))": "false",
    "return tostring(io.open('/etc/passwd'))": "nil",
    "return tostring(io.open('out', 'w'))": "nil",
    "return tostring(io.read())": "nil",
    "return tostring(os.getenv('HOME'))": "nil",
    "return tostring(os.remove('x'))": "nil",
    "return tostring(os.clock())": "0.0",
    "return os.date('!%Y-%m-%d %H:%M:%S', 1700000009)": "2023-11-14 22:13:29",
    "return os.date('%c', 1700000009)": "Tue Nov 14 22:13:29 2023",
    "return os.date('*t', 951958800).yday": "62",
    "return tostring(0/0) .. tostring(-(0/0))": "nan-nan",
}
"""What a process sees of the world it runs in: nothing that differs between machines."""


def test_no_way_out(name: str) -> None:
    aos = Aos(make_aos_engine(), name)
    for source, wanted in WORLD.items():
        assert aos.lua(source) == wanted, source
    assert aos.send("Eval", "os.exit(0)").status == Status.TRAP
    assert aos.lua("return 1 + 1") == "2"


def test_large_messages(name: str) -> None:
    aos = Aos(make_aos_engine(), name)
    aos.send("Eval", "Handlers.add('L', 'L', function(m) Got = #m.Data end)")
    assert aos.send("L", "x" * (256 << 10)).status == Status.OK
    assert aos.lua("return Got") == str(256 << 10)


def test_dry_run_forgets(name: str) -> None:
    aos = Aos(make_aos_engine(), name)
    aos.lua(COUNTER)
    root = aos.session.state_root()
    for _ in range(3):
        assert aos.session.dry_run(aos.message("Inc")).status == Status.OK
    assert aos.session.state_root() == root
