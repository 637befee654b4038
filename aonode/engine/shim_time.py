"""Calendar functions of the C library as WebAssembly text: UTC only, no clock.

emscripten leaves `gmtime`, `mktime` and `strftime` to JavaScript; these shims are the same
functions on the proleptic Gregorian calendar in 64-bit integers. Outside JavaScript's range of
dates (100 million days around 1970) `gmtime` gives zeros and `mktime` -1, as the reference does.

`PTR` stands for the module's pointer type. `struct tm`: nine i32 (sec min hour mday mon
year-1900 wday yday isdst), then `long` gmtoff and a pointer to the zone's name.
"""

from __future__ import annotations

SECONDS_MAX = 8_640_000_000_000
"""Largest distance from 1970 in seconds (ECMA-262, time values)."""
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_FIELDS = {
    name: 4 * place
    for place, name in enumerate(("sec", "min", "hour", "mday", "mon", "year", "wday", "yday"))
}
_ZONE = {"i32": 40, "i64": 48}

CALENDAR = """
(func $floor_div (param $a i64) (param $b i64) (result i64)
  (i64.sub (i64.div_s (local.get $a) (local.get $b))
    (i64.extend_i32_u (i64.lt_s (i64.rem_s (local.get $a) (local.get $b)) (i64.const 0)))))
(func $floor_mod (param $a i64) (param $b i64) (result i64)
  (i64.sub (local.get $a)
    (i64.mul (call $floor_div (local.get $a) (local.get $b)) (local.get $b))))

;; days from 1970-01-01 to the first day of month $m (0..11) of year $y; counts from March
(func $days_to (param $y i64) (param $m i64) (result i64)
  (if (i64.lt_s (local.get $m) (i64.const 2))
    (then (local.set $y (i64.sub (local.get $y) (i64.const 1)))))
  (local.set $m (i64.rem_s (i64.add (local.get $m) (i64.const 10)) (i64.const 12)))
  (i64.mul (local.get $y) (i64.const 365))
  (i64.add (call $floor_div (local.get $y) (i64.const 4)))
  (i64.sub (call $floor_div (local.get $y) (i64.const 100)))
  (i64.add (call $floor_div (local.get $y) (i64.const 400)))
  (i64.add (i64.div_s (i64.add (i64.mul (local.get $m) (i64.const 153)) (i64.const 2))
    (i64.const 5)))
  (i64.sub (i64.const 719468)))

;; the year that day $d lies in: by the mean length, then corrected by at most one
(func $year_of (param $d i64) (result i64) (local $y i64)
  (local.set $y (i64.add (i64.const 1970) (call $floor_div
    (i64.mul (local.get $d) (i64.const 400)) (i64.const 146097))))
  (if (i64.lt_s (local.get $d) (call $days_to (local.get $y) (i64.const 0)))
    (then (return (i64.sub (local.get $y) (i64.const 1)))))
  (i64.add (local.get $y) (i64.extend_i32_u (i64.ge_s (local.get $d)
    (call $days_to (i64.add (local.get $y) (i64.const 1)) (i64.const 0))))))

(func $year_length (param $y i64) (result i64)
  (i64.sub (call $days_to (i64.add (local.get $y) (i64.const 1)) (i64.const 0))
    (call $days_to (local.get $y) (i64.const 0))))

(func $in_range (param $t i64) (result i32)
  (i32.and (i64.ge_s (local.get $t) (i64.const -SECONDS_MAX))
    (i64.le_s (local.get $t) (i64.const SECONDS_MAX))))

(func $gmtime (param $t i64) (param $tm PTR)
  (local $d i64) (local $s i64) (local $y i64) (local $m i64)
  (if (i32.eqz (call $in_range (local.get $t))) (then
    (memory.fill (local.get $tm) (i32.const 0) (PTR.const 32)) (return)))
  (local.set $d (call $floor_div (local.get $t) (i64.const 86400)))
  (local.set $s (call $floor_mod (local.get $t) (i64.const 86400)))
  (local.set $y (call $year_of (local.get $d)))
  (local.set $m (i64.const 11))
  (block $found (loop $down
    (br_if $found (i64.ge_s (local.get $d) (call $days_to (local.get $y) (local.get $m))))
    (local.set $m (i64.sub (local.get $m) (i64.const 1)))
    (br $down)))
  (i64.store32 offset=0 (local.get $tm) (i64.rem_s (local.get $s) (i64.const 60)))
  (i64.store32 offset=4 (local.get $tm)
    (i64.rem_s (i64.div_s (local.get $s) (i64.const 60)) (i64.const 60)))
  (i64.store32 offset=8 (local.get $tm) (i64.div_s (local.get $s) (i64.const 3600)))
  (i64.store32 offset=12 (local.get $tm) (i64.add (i64.const 1)
    (i64.sub (local.get $d) (call $days_to (local.get $y) (local.get $m)))))
  (i64.store32 offset=16 (local.get $tm) (local.get $m))
  (i64.store32 offset=20 (local.get $tm) (i64.sub (local.get $y) (i64.const 1900)))
  (i64.store32 offset=24 (local.get $tm)
    (call $floor_mod (i64.add (local.get $d) (i64.const 4)) (i64.const 7)))
  (i64.store32 offset=28 (local.get $tm)
    (i64.sub (local.get $d) (call $days_to (local.get $y) (i64.const 0)))))

(func $localtime (param $t i64) (param $tm PTR)
  (call $gmtime (local.get $t) (local.get $tm))
  (i32.store offset=32 (local.get $tm) (i32.const 0))
  (PTR.store offset=OFFSET (local.get $tm) (PTR.const 0)))

(func $mktime (param $tm PTR) (result i64) (local $t i64) (local $y i64) (local $m i64)
  (local.set $m (i64.load32_s offset=16 (local.get $tm)))
  (local.set $y (i64.add (i64.load32_s offset=20 (local.get $tm)) (i64.const 1900)))
  ;; a quirk of JavaScript's Date: the years 0..99 mean 1900..1999
  (if (i64.lt_u (local.get $y) (i64.const 100))
    (then (local.set $y (i64.add (local.get $y) (i64.const 1900)))))
  (local.set $y (i64.add (local.get $y) (call $floor_div (local.get $m) (i64.const 12))))
  (local.set $m (call $floor_mod (local.get $m) (i64.const 12)))
  (local.set $t (i64.add (call $days_to (local.get $y) (local.get $m))
    (i64.sub (i64.load32_s offset=12 (local.get $tm)) (i64.const 1))))
  (local.set $t (i64.add (i64.mul (local.get $t) (i64.const 24))
    (i64.load32_s offset=8 (local.get $tm))))
  (local.set $t (i64.add (i64.mul (local.get $t) (i64.const 60))
    (i64.load32_s offset=4 (local.get $tm))))
  (local.set $t (i64.add (i64.mul (local.get $t) (i64.const 60))
    (i64.load32_s offset=0 (local.get $tm))))
  (if (i32.eqz (call $in_range (local.get $t))) (then (return (i64.const -1))))
  (call $gmtime (local.get $t) (local.get $tm))
  (i32.store offset=32 (local.get $tm) (i32.const 0))
  (local.get $t))
"""

_PRINT = """
(global $at (mut PTR) (PTR.const 0)) (global $end (mut PTR) (PTR.const 0))
(func $put (param $c i32)
  (if (PTR.lt_u (global.get $at) (global.get $end))
    (then (i32.store8 (global.get $at) (local.get $c))))
  (global.set $at (PTR.add (global.get $at) (PTR.const 1))))
(func $number (param $n i64) (param $width i32) (param $fill i32) (local $unit i64)
  (if (i64.lt_s (local.get $n) (i64.const 0)) (then
    (call $put (i32.const 45))
    (local.set $n (i64.sub (i64.const 0) (local.get $n)))))
  (local.set $unit (i64.const 1000000000000))
  (local.set $width (i32.sub (i32.const 13) (local.get $width)))
  (loop $digits
    (if (i32.or (i64.eq (local.get $unit) (i64.const 1))
        (i64.ge_u (local.get $n) (local.get $unit)))
      (then
        (call $put (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u
          (i64.div_u (local.get $n) (local.get $unit)) (i64.const 10))))))
      (else (if (i32.le_s (local.get $width) (i32.const 0))
        (then (call $put (local.get $fill))))))
    (local.set $width (i32.sub (local.get $width) (i32.const 1)))
    (local.set $unit (i64.div_u (local.get $unit) (i64.const 10)))
    (br_if $digits (i64.ne (local.get $unit) (i64.const 0)))))
;; day of the year of this week's Thursday, from the first of January: it decides the ISO week
(func $thursday (param $tm PTR) (result i64)
  (i64.sub (i64.add (i64.load32_s offset=28 (local.get $tm)) (i64.const 3))
    (call $floor_mod (i64.sub (i64.load32_s offset=24 (local.get $tm)) (i64.const 1))
      (i64.const 7))))
(func $iso (param $tm PTR) (result i64 i64) (local $d i64) (local $y i64)
  (local.set $y (i64.add (i64.load32_s offset=20 (local.get $tm)) (i64.const 1900)))
  (local.set $d (call $thursday (local.get $tm)))
  (if (i64.lt_s (local.get $d) (i64.const 0))
    (then
      (local.set $y (i64.sub (local.get $y) (i64.const 1)))
      (local.set $d (i64.add (local.get $d) (call $year_length (local.get $y)))))
    (else (if (i64.ge_s (local.get $d) (call $year_length (local.get $y))) (then
      (local.set $d (i64.sub (local.get $d) (call $year_length (local.get $y))))
      (local.set $y (i64.add (local.get $y) (i64.const 1)))))))
  (local.get $y)
  (i64.add (i64.const 1) (i64.div_s (local.get $d) (i64.const 7))))
(func $zone (param $tm PTR) (local $name PTR) (local $c i32)
  (local.set $name (PTR.load offset=ZONE (local.get $tm)))
  (if (PTR.eqz (local.get $name)) (then (return)))
  (block $done (loop $next
    (local.set $c (i32.load8_u (local.get $name)))
    (br_if $done (i32.eqz (local.get $c)))
    (call $put (local.get $c))
    (local.set $name (PTR.add (local.get $name) (PTR.const 1)))
    (br $next))))
"""

_STRFTIME = """
(func $strftime (param $to PTR) (param $max PTR) (param $format PTR) (param $tm PTR) (result PTR)
  (local $c i32)
  (global.set $at (local.get $to))
  (global.set $end (PTR.add (local.get $to) (local.get $max)))
  (block $done (loop $next
    (local.set $c (i32.load8_u (local.get $format)))
    (br_if $done (i32.eqz (local.get $c)))
    (local.set $format (PTR.add (local.get $format) (PTR.const 1)))
    (if (i32.eq (local.get $c) (i32.const 37))
      (then
        (local.set $c (i32.load8_u (local.get $format)))
        (if (i32.or (i32.eq (local.get $c) (i32.const 69)) (i32.eq (local.get $c) (i32.const 79)))
          (then
            (local.set $format (PTR.add (local.get $format) (PTR.const 1)))
            (local.set $c (i32.load8_u (local.get $format)))))
        (if (i32.eqz (local.get $c))
          (then (call $put (i32.const 37)) (br $done)))
        (local.set $format (PTR.add (local.get $format) (PTR.const 1)))
        (call $item (local.get $c) (local.get $tm)))
      (else (call $put (local.get $c))))
    (br $next)))
  (if (PTR.ge_u (global.get $at) (global.get $end)) (then (return (PTR.const 0))))
  (i32.store8 (global.get $at) (i32.const 0))
  (PTR.sub (global.get $at) (local.get $to)))
"""


def calendar(pointer: str) -> str:
    """`$gmtime`, `$localtime` and `$mktime` for `pointer` = i32 or i64."""
    text = CALENDAR.replace("SECONDS_MAX", str(SECONDS_MAX))
    return text.replace("OFFSET", "36" if pointer == "i32" else "40").replace("PTR", pointer)


def strftime(pointer: str) -> str:
    """`$strftime`; needs `calendar`. The reference's formats, English names."""
    item = f"(func $item (param $c i32) (param $tm PTR) (local $y i64) (local $w i64)\n{_items()})"
    text = _PRINT + item + _STRFTIME
    return text.replace("ZONE", str(_ZONE[pointer])).replace("PTR", pointer)


def _load(name: str) -> str:
    return f"(i64.load32_s offset={_FIELDS[name]} (local.get $tm))"


def _put(text: str) -> str:
    return "".join(f"(call $put (i32.const {ord(letter)}))" for letter in text)


def _number(value: str, width: int, fill: str = "0") -> str:
    return f"(call $number {value} (i32.const {width}) (i32.const {ord(fill)}))"


def _calls(letters: str) -> str:
    """A composite of other formats; what is not a letter stands for itself."""
    return "".join(
        f"(call $item (i32.const {ord(letter)}) (local.get $tm))"
        if letter.isalpha()
        else _put(letter)
        for letter in letters
    )


def _names(field: str, names: tuple[str, ...], length: int) -> str:
    return "".join(
        f"(if (i64.eq {_load(field)} (i64.const {number})) (then {_put(name[:length])}))"
        for number, name in enumerate(names)
    )


def _items() -> str:
    year = f"(i64.add {_load('year')} (i64.const 1900))"
    hour12 = (
        f"(i64.add (i64.const 1) (i64.rem_s (i64.add {_load('hour')} (i64.const 11)) "
        "(i64.const 12)))"
    )
    monday = f"(call $floor_mod (i64.sub {_load('wday')} (i64.const 1)) (i64.const 7))"

    def week(first: str) -> str:
        days = f"(i64.sub (i64.add {_load('yday')} (i64.const 7)) {first})"
        return _number(f"(i64.div_s {days} (i64.const 7))", 2)

    iso = "(call $iso (local.get $tm)) (local.set $w) (local.set $y)"
    sunday7 = f"(i64.add (i64.const 1) {monday})"
    afternoon = f"(i64.ge_s {_load('hour')} (i64.const 12))"
    items = {
        "a": _names("wday", _DAYS, 3),
        "A": _names("wday", _DAYS, 9),
        "b": _names("mon", _MONTHS, 3),
        "h": _names("mon", _MONTHS, 3),
        "B": _names("mon", _MONTHS, 9),
        "c": _calls("a b d H:M:S Y"),
        "C": _number(f"(i64.div_s {year} (i64.const 100))", 2),
        "d": _number(_load("mday"), 2),
        "D": _calls("m/d/y"),
        "e": _number(_load("mday"), 2, " "),
        "F": _calls("Y-m-d"),
        "g": iso + _number("(call $floor_mod (local.get $y) (i64.const 100))", 2),
        "G": iso + _number("(local.get $y)", 1),
        "H": _number(_load("hour"), 2),
        "I": _number(hour12, 2),
        "j": _number(f"(i64.add {_load('yday')} (i64.const 1))", 3),
        "m": _number(f"(i64.add {_load('mon')} (i64.const 1))", 2),
        "M": _number(_load("min"), 2),
        "n": _put("\n"),
        "p": f"(if {afternoon} (then {_put('PM')}) (else {_put('AM')}))",
        "r": _calls("I:M:S p"),
        "R": _calls("H:M"),
        "S": _number(_load("sec"), 2),
        "t": _put("\t"),
        "T": _calls("H:M:S"),
        "u": _number(sunday7, 1),
        "U": week(_load("wday")),
        "V": iso + _number("(local.get $w)", 2),
        "w": _number(_load("wday"), 1),
        "W": week(monday),
        "x": _calls("m/d/y"),
        "X": _calls("H:M:S"),
        "y": _number(f"(call $floor_mod {year} (i64.const 100))", 2),
        "Y": _number(year, 1),
        "z": _put("+0000"),
        "Z": "(call $zone (local.get $tm))",
        "%": _put("%"),
    }
    chosen = "".join(
        f"(if (i32.eq (local.get $c) (i32.const {ord(letter)})) (then {body} (return)))\n"
        for letter, body in items.items()
    )
    return chosen + _put("%") + "(call $put (local.get $c))"
