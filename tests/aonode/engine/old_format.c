/* A process in AO's older emscripten formats, for tests: the imports and exports of each, by the
   names and types that AO's loader gives them, and as much behind them as answers a message.

   FORMAT is 1, 2 or 3. Compiled without libc by the ziglang wheel (old_formats.py). The message is
   JSON; the first letter of its Data says what to do. */

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#if FORMAT == 1
#define FROM(letter, module, name) __attribute__((import_module("a"), import_name(letter)))
#define AS(letter, name) __attribute__((export_name(letter)))
#else
#define FROM(letter, module, name) __attribute__((import_module(module), import_name(name)))
#define AS(letter, name) __attribute__((export_name(name)))
#endif
#define ENV "env"
#define WASI "wasi_snapshot_preview1"

FROM("f", WASI, "fd_write") int fd_write(int, const u32 *, u32, u32 *);
FROM("u", WASI, "environ_get") int environ_get(u32 *, u8 *);
FROM("q", ENV, "emscripten_resize_heap") int resize_heap(u32);
FROM("x", ENV, "invoke_vii") void invoke_vii(void (*)(int, int), int, int);
FROM("p", ENV, "_emscripten_throw_longjmp") void throw_longjmp(void);
FROM("n", ENV, "strftime") u32 format_time(u8 *, u32, const char *, const int *);
FROM("D", ENV, "abort") void stop(void);
FROM("l", ENV, "exit") void leave(int);
FROM("g", ENV, "__syscall_openat") int openat(int, const char *, int, int);
#if FORMAT == 3
FROM("", ENV, "emscripten_date_now") double date_now(void);
FROM("", ENV, "emscripten_memcpy_js") void copy(u8 *, const u8 *, u32);
FROM("", ENV, "_emscripten_system") int run_command(const char *);
FROM("", ENV, "_gmtime_js") void gmtime(u32 low, u32 high, int *);
FROM("", ENV, "_mktime_js") u32 mktime(int *);
FROM("", ENV, "_tzset_js") void tzset(int *, int *, u8 *, u8 *);
static u32 upper;
AS("", "setTempRet0") void set_upper(u32 value) { upper = value; }
#else
FROM("a", ENV, "_emscripten_date_now") double date_now(void);
FROM("k", ENV, "emscripten_memcpy_big") void copy(u8 *, const u8 *, u32);
FROM("m", ENV, "system") int run_command(const char *);
FROM("B", ENV, "_gmtime_js") void gmtime(const u64 *, int *);
FROM("i", ENV, "_mktime_js") int mktime(int *);
FROM("j", ENV, "_tzset_js") void tzset(int *, int *, u32 *);
FROM("b", ENV, "setTempRet0") void set_upper(u32);
FROM("h", ENV, "getTempRet0") u32 get_upper(void);
#endif

extern u8 __heap_base;
static u8 out[4096];
static u32 size, threw, counter, ready, mained, errno_, heap;

/* What emscripten's runtime exports. The stack pointer is the linker's. */
#if FORMAT == 1
#define EXPORTED(symbol, letter, name) ".export_name " symbol ", " letter "\n"
#else
#define EXPORTED(symbol, letter, name) ".export_name " symbol ", " name "\n"
#endif
#define ASSEMBLED(symbol, letter, name, type, code)                      \
  __asm__(".globaltype __stack_pointer, i32\n"                           \
          ".section .text." symbol ",\"\",@\n"                           \
          ".globl " symbol "\n.type " symbol ",@function\n" symbol ":\n" \
          ".functype " symbol " " type "\n" code " end_function\n"        \
          EXPORTED(symbol, letter, name))
#define ALLOCATE                                                           \
  "global.get __stack_pointer\n local.get 0\n i32.sub\n i32.const -16\n"   \
  " i32.and\n local.tee 0\n global.set __stack_pointer\n local.get 0\n"
ASSEMBLED("stack_save", "M", "stackSave", "() -> (i32)", "global.get __stack_pointer\n");
ASSEMBLED("stack_restore", "N", "stackRestore", "(i32) -> ()",
          "local.get 0\n global.set __stack_pointer\n");
ASSEMBLED("stack_alloc", "O", "stackAlloc", "(i32) -> (i32)", ALLOCATE);
u32 stack_save(void);
u32 stack_alloc(u32);
#if FORMAT > 1
AS("", "emscripten_stack_init") void stack_init(void) {}
AS("", "emscripten_stack_get_end") u32 stack_end(void) { return 16; }
AS("", "emscripten_stack_get_base") u32 stack_base(void) { return 65536; }
AS("", "emscripten_stack_get_free") u32 stack_free(void) { return 60000; }
#if FORMAT == 3
ASSEMBLED("stack_current", "", "emscripten_stack_get_current", "() -> (i32)",
          "global.get __stack_pointer\n");
#endif
AS("", "fflush") int flush(int file) { return file * 0; }
#endif
AS("L", "setThrew") void set_threw(u32 value, int unused) { threw = value + (u32)unused * 0; }
AS("F", "__wasm_call_ctors") void construct(void) { ready = 1; }
AS("K", "__errno_location") u32 *errno_location(void) { return &errno_; }
AS("J", "malloc") u8 *take(u32 bytes) {
  u8 *at = &__heap_base + heap;
  heap += (bytes + 15) & ~15u;
  return at;
}
AS("H", "main") int begin(int count, int arguments) {
  mained = 1;
  return (count + arguments) * 0;
}

static void put(const char *text) { while (*text) out[size++] = (u8)*text++; }

static void number(long long value) {
  u8 digits[20];
  u32 count = 0;
  if (value < 0) { out[size++] = '-'; value = -value; }
  do { digits[count++] = (u8)('0' + value % 10); value /= 10; } while (value);
  while (count) out[size++] = digits[--count];
}

static void fields(const int *tm, u32 count) {
  for (u32 i = 0; i < count; i++) { if (i) put(","); number(tm[i]); }
}

static void thrower(int a, int b) {
  counter += (u32)(a + b);
  stack_alloc(4096);
  throw_longjmp();
}
static void quiet(int a, int b) { counter += (u32)(a * b); }

static const u8 *data_of(const u8 *json) { /* behind "Data":" */
  const char *key = "\"Data\":\"";
  for (; *json; json++) {
    u32 i = 0;
    while (key[i] && json[i] == (u8)key[i]) i++;
    if (!key[i]) return json + i;
  }
  return (const u8 *)"";
}

static void times(void) {
  int tm[11] = {0};
  u8 shown[80];
#if FORMAT == 3
  gmtime(1700000009u, 0, tm);
#else
  u64 when = 1700000009u;
  gmtime(&when, tm);
#endif
  fields(tm, 8);
  put(" ");
  shown[format_time(shown, sizeof shown, "%Y-%m-%d %H:%M:%S %a %b %j %U", tm)] = 0;
  put((const char *)shown);
  tm[3] += 40; /* October has fewer days */
  put(" ");
  number((long long)mktime(tm));
#if FORMAT == 3
  put("/");
  number(upper);
#endif
  put(" ");
  fields(tm, 5);
  int zone = 7, daylight = 7;
#if FORMAT == 3
  u8 names[2][20];
  tzset(&zone, &daylight, names[0], names[1]);
#else
  u32 names[2] = {0, 0};
  tzset(&zone, &daylight, names);
  put(names[0] && names[1] ? " named" : " nameless");
#endif
  put(" ");
  number(zone);
  number(daylight);
}

static void memory(void) {
  u32 before = __builtin_wasm_memory_size(0);
  int grown = resize_heap((before << 16) + 1000000);
  put("from ");
  number(before);
  put(" to ");
  number((long long)__builtin_wasm_memory_size(0));
  put(grown ? " yes" : " no");
  put(resize_heap(0xfffffff0u) ? " yes" : " no");
  copy(out + 2000, (const u8 *)"copied", 7);
  put(" ");
  put((const char *)out + 2000);
}

static void world(void) {
  number((long long)date_now() / 1000);
  const u32 pair[2] = {(u32)out, 3};
  u32 written = 0;
  put(" ");
  number(fd_write(1, pair, 1, &written));
  put("/");
  number(written);
#if FORMAT != 3
  set_upper(77);
  put(" ");
  number(get_upper());
#endif
}

static void ways_out(void) { /* not under AO's loader, which runs the command */
  number(run_command(0));
  put(" ");
  number(run_command("id") != 0);
  put(" ");
  number(openat(-100, "/etc/passwd", 0, 0));
  u32 room[2];
  u8 strings[8];
  put(" ");
  number(environ_get(room, strings));
}

static void jumps(void) {
  u32 before = stack_save();
  threw = 0;
  invoke_vii(quiet, 3, 4);
  put("quiet ");
  number(threw);
  invoke_vii(thrower, 1, 2);
  put(" thrown ");
  number(threw);
  put(stack_save() == before ? " stack kept " : " stack lost ");
  number(counter);
}

AS("G", "handle") u8 *handle(const u8 *message, const u8 *env) {
  const u8 *what = data_of(message);
  size = 0;
  if (*what == 'e') {
    counter += 1000;
    put("{\"ok\":true,\"response\":{\"Error\":\"as asked\"}}");
  } else if (*what == 'f') {
    counter += 1000;
    put("{\"ok\":false,\"response\":\"refused\"}");
  } else {
    put("{\"ok\":true,\"response\":{\"Output\":\"");
    if (*what == 't') times();
    if (*what == 'm') memory();
    if (*what == 'w') world();
    if (*what == 'j') jumps();
    if (*what == 'o') ways_out();
    if (*what == 'c') { counter++; number(counter); }
    if (*what == 'x') leave(3);
    if (*what == 'a') stop();
    if (*what == 'l') {
      u32 count = 0;
      while (message[count]) count++;
      number(count);
    }
    if (*what == 's') { number(ready); number(mained); put(*env == '{' ? " env" : " none"); }
    put("\",\"Messages\":[{\"Target\":\"t\",\"Data\":\"");
    number(counter);
    put("\",\"Tags\":[]}],\"Spawns\":[]}}");
  }
  out[size] = 0;
  return out;
}
