/* A token for AO, in the ao-cbor-1 convention. Freestanding: no libc, no imports.

   Actions: Info, Balance, Balances, Total-Supply, Transfer, Mint. Balances are unsigned 128-bit
   integers, written in decimal. At slot 0 the process item's tags Name, Ticker, Denomination,
   Logo and Supply set the token up; the whole Supply belongs to the owner of the process.

   In:  [1, process, module, slot, timestamp, id, from, owner, tags, data]
   Out: [status, output, outbox, error], an outbox entry is [0, target, null, tags, data].

   An error changes nothing: the host puts the memory back. Nothing here depends on anything but
   the message and memory, and a growing table never moves the accounts it already holds. */

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { u64 high, low; } amount;
typedef struct { const u8 *at; u32 size; } text;

enum {
  PAGE_BYTES = 1 << 16,
  NAME_BYTES_MAX = 64,         /* of an account name; AO's have 42 or 43 characters */
  DETAIL_BYTES_MAX = 128,      /* of Name, Ticker, Denomination and Logo */
  CHUNK_ACCOUNTS = 512,
  CHUNKS_MAX = 1 << 14,        /* 8 million accounts */
  INDEX_SLOTS_MIN = 1 << 10,
  TAGS_MAX = 128,
  FORWARDED_BYTES_MAX = 4096,  /* X- tags that a transfer hands on */
  LISTED_MAX = 250,            /* accounts of one Balances answer */
  OUTPUT_BYTES_MAX = 1 << 16,
  DECIMAL_BYTES_MAX = 39       /* 2^128 - 1 */
};

typedef struct { u8 name[NAME_BYTES_MAX]; u32 size; u32 pad; amount balance; } account;
typedef struct { text name, value; } tag;
typedef struct {
  u64 slot;
  text from, owner;
  tag tags[TAGS_MAX];
  u32 tag_count;
} message;
typedef struct { u8 bytes[DETAIL_BYTES_MAX]; u32 size; } detail;

extern u8 __heap_base;

/* State. All of it lies in memory: there is nothing else. */
static u32 heap_top;
static account *chunks[CHUNKS_MAX];
static u32 account_count;
static u32 *index_slots; /* account number + 1, 0 is free */
static u32 index_size;
static u8 *input_room;
static u32 input_size;
static detail name, ticker, denomination, logo, owner;
static amount supply;
static u32 ready;

/* Scratch, written anew by every message. */
static message now;
static u8 output[OUTPUT_BYTES_MAX];
static u32 output_size;
static const char *failure;

/* Memory */

static void *take(u32 size) {
  if (!heap_top) heap_top = (u32)&__heap_base;
  u32 at = (heap_top + 15) & ~15u;
  u64 end = (u64)at + size;
  u64 have = (u64)__builtin_wasm_memory_size(0) * PAGE_BYTES;
  if (end > have) {
    u64 pages = (end - have + PAGE_BYTES - 1) / PAGE_BYTES;
    if (end > 0xffff0000u || __builtin_wasm_memory_grow(0, (u32)pages) == (__SIZE_TYPE__)-1)
      return 0;
  }
  heap_top = (u32)end;
  return (void *)at;
}

static void copy(u8 *to, const u8 *from, u32 size) {
  for (u32 i = 0; i < size; i++) to[i] = from[i];
}

static int same(const u8 *a, u32 a_size, const u8 *b, u32 b_size) {
  if (a_size != b_size) return 0;
  for (u32 i = 0; i < a_size; i++)
    if (a[i] != b[i]) return 0;
  return 1;
}

static u32 length(const char *s) {
  u32 n = 0;
  while (s[n]) n++;
  return n;
}

static text literal(const char *s) { return (text){(const u8 *)s, length(s)}; }

static int is(text a, const char *b) { return same(a.at, a.size, (const u8 *)b, length(b)); }

/* Amounts */

static int less(amount a, amount b) {
  return a.high < b.high || (a.high == b.high && a.low < b.low);
}

static int add(amount *a, amount b) { /* 0 on overflow, and then *a stays */
  u64 low = a->low + b.low, carry = low < b.low;
  u64 high = a->high + b.high;
  if (high < b.high || high + carry < high) return 0;
  *a = (amount){high + carry, low};
  return 1;
}

static void subtract(amount *a, amount b) { /* needs a >= b */
  *a = (amount){a->high - b.high - (a->low < b.low), a->low - b.low};
}

static int times_ten(amount *a) {
  amount ten = *a;
  for (u32 i = 0; i < 9; i++)
    if (!add(&ten, *a)) return 0;
  *a = ten;
  return 1;
}

static int parse_amount(text t, amount *out) { /* digits, no leading zero, below 2^128 */
  amount value = {0, 0};
  if (!t.size || t.size > DECIMAL_BYTES_MAX || (t.size > 1 && t.at[0] == '0')) return 0;
  for (u32 i = 0; i < t.size; i++) {
    u8 c = t.at[i];
    if (c < '0' || c > '9') return 0;
    if (!times_ten(&value) || !add(&value, (amount){0, c - '0'})) return 0;
  }
  *out = value;
  return 1;
}

static text format_amount(amount a, u8 room[DECIMAL_BYTES_MAX]) {
  u32 parts[4] = {(u32)(a.high >> 32), (u32)a.high, (u32)(a.low >> 32), (u32)a.low};
  u32 at = DECIMAL_BYTES_MAX;
  do {
    u64 rest = 0;
    for (u32 i = 0; i < 4; i++) {
      rest = rest << 32 | parts[i];
      parts[i] = (u32)(rest / 10);
      rest %= 10;
    }
    room[--at] = (u8)('0' + rest);
  } while (parts[0] | parts[1] | parts[2] | parts[3]);
  return (text){room + at, DECIMAL_BYTES_MAX - at};
}

/* Accounts: in chunks that never move, found through an open-addressing index */

static account *account_at(u32 number) {
  return &chunks[number / CHUNK_ACCOUNTS][number % CHUNK_ACCOUNTS];
}

static u32 hash(text t) { /* FNV-1a, 64 bits folded */
  u64 h = 0xcbf29ce484222325u;
  for (u32 i = 0; i < t.size; i++) h = (h ^ t.at[i]) * 0x100000001b3u;
  return (u32)(h ^ h >> 32);
}

static u32 find_slot(text t) {
  u32 at = hash(t) & (index_size - 1);
  while (index_slots[at]) {
    account *found = account_at(index_slots[at] - 1);
    if (same(found->name, found->size, t.at, t.size)) break;
    at = (at + 1) & (index_size - 1);
  }
  return at;
}

static account *find(text t) {
  if (!index_size) return 0;
  u32 slot = index_slots[find_slot(t)];
  return slot ? account_at(slot - 1) : 0;
}

static int grow_index(void) { /* the old index is left behind: at most as much again */
  u32 size = index_size ? index_size * 2 : INDEX_SLOTS_MIN;
  u32 *slots = take(size * 4);
  if (!slots) return 0;
  for (u32 i = 0; i < size; i++) slots[i] = 0;
  index_slots = slots;
  index_size = size;
  for (u32 i = 0; i < account_count; i++) {
    account *a = account_at(i);
    index_slots[find_slot((text){a->name, a->size})] = i + 1;
  }
  return 1;
}

static account *find_or_open(text t) {
  account *found = find(t);
  if (found) return found;
  if (account_count >= index_size / 2 && !grow_index()) return 0;
  u32 chunk = account_count / CHUNK_ACCOUNTS;
  if (chunk >= CHUNKS_MAX) return 0;
  if (!chunks[chunk] && !(chunks[chunk] = take(CHUNK_ACCOUNTS * sizeof(account)))) return 0;
  u32 slot = find_slot(t);
  found = account_at(account_count);
  copy(found->name, t.at, t.size);
  found->size = t.size;
  found->balance = (amount){0, 0};
  index_slots[slot] = ++account_count;
  return found;
}

/* Reading CBOR */

static const u8 *cursor, *limit;

static int head(u32 major, u64 *value) {
  if (cursor >= limit || *cursor >> 5 != major) return 0;
  u32 more = *cursor++ & 31;
  if (more < 24) {
    *value = more;
    return 1;
  }
  if (more > 27) return 0;
  u32 size = 1u << (more - 24);
  if ((u32)(limit - cursor) < size) return 0;
  *value = 0;
  while (size--) *value = *value << 8 | *cursor++;
  return 1;
}

static int string(u32 major, text *out) {
  u64 size;
  if (!head(major, &size) || size > (u64)(limit - cursor)) return 0;
  *out = (text){cursor, (u32)size};
  cursor += size;
  return 1;
}

static int read_message(const u8 *at, u32 size) {
  u64 n, version;
  text skipped;
  cursor = at;
  limit = at + size;
  if (!head(4, &n) || n != 10 || !head(0, &version) || version != 1) return 0;
  if (!string(2, &skipped) || !string(2, &skipped)) return 0; /* process, module */
  if (!head(0, &now.slot) || !head(0, &n)) return 0;          /* slot, timestamp */
  if (!string(2, &skipped) || !string(3, &now.from) || !string(3, &now.owner)) return 0;
  if (!head(4, &n) || n > TAGS_MAX) return 0;
  now.tag_count = (u32)n;
  for (u32 i = 0; i < now.tag_count; i++) {
    if (!head(4, &n) || n != 2) return 0;
    if (!string(3, &now.tags[i].name) || !string(3, &now.tags[i].value)) return 0;
  }
  return string(2, &skipped) && cursor == limit; /* data */
}

static int find_tag(const char *wanted, text *out) {
  for (u32 i = 0; i < now.tag_count; i++)
    if (is(now.tags[i].name, wanted)) {
      *out = now.tags[i].value;
      return 1;
    }
  return 0;
}

/* Writing CBOR. What does not fit makes the whole answer an error. */

static int overfull;

static void put(const u8 *at, u32 size) {
  if (size > OUTPUT_BYTES_MAX - output_size) {
    overfull = 1;
    return;
  }
  copy(output + output_size, at, size);
  output_size += size;
}

static void put_head(u32 major, u32 value) {
  u8 room[5] = {(u8)(major << 5), 0, 0, 0, 0};
  u32 size = value < 24 ? 0 : value < 0x100 ? 1 : value < 0x10000 ? 2 : 4;
  room[0] |= size == 0 ? value : size == 1 ? 24 : size == 2 ? 25 : 26;
  for (u32 i = 0; i < size; i++) room[1 + i] = (u8)(value >> 8 * (size - 1 - i));
  put(room, size + 1);
}

static void put_null(void) { put((const u8 *)"\xf6", 1); }

static void put_text(text t) {
  put_head(3, t.size);
  put(t.at, t.size);
}

static void put_tag(const char *key, text value) {
  put_head(4, 2);
  put_text(literal(key));
  put_text(value);
}

/* A string of several parts, as text (3) or bytes (2) */
static void put_joined(u32 major, const text *parts, u32 count) {
  u32 size = 0;
  for (u32 i = 0; i < count; i++) size += parts[i].size;
  put_head(major, size);
  for (u32 i = 0; i < count; i++) put(parts[i].at, parts[i].size);
}

static void begin(text said, u32 messages) { /* [0, output, [messages... */
  put_head(4, 4);
  put_head(0, 0);
  put_text(said);
  put_head(4, messages);
}

static void begin_message(text target, u32 tags) { /* [0, target, null, [tags... */
  put_head(4, 5);
  put_head(0, 0);
  put_text(target);
  put_null();
  put_head(4, tags);
}

static u64 finish(void) {
  put_null();
  if (overfull) failure = "the answer is too long; ask for less (Limit)";
  if (failure) {
    output_size = overfull = 0;
    put_head(4, 4);
    put_head(0, 1);
    put_text((text){0, 0});
    put_head(4, 0);
    put_text(literal(failure));
  }
  return (u64)(u32)output << 32 | output_size;
}

/* Actions: each answers, or names what is wrong in `failure` */

static text shown(const detail *d) { return (text){d->bytes, d->size}; }

static void set_up_detail(const char *key, detail *to, const char *otherwise) {
  text value = literal(otherwise);
  find_tag(key, &value);
  if (value.size > DETAIL_BYTES_MAX) {
    failure = "Name, Ticker, Denomination and Logo have at most 128 bytes each";
    return;
  }
  copy(to->bytes, value.at, value.size);
  to->size = value.size;
}

static int is_account(text t) {
  if (!t.size || t.size > NAME_BYTES_MAX) return 0;
  for (u32 i = 0; i < t.size; i++)
    if (t.at[i] <= ' ' || t.at[i] > '~' || t.at[i] == '"' || t.at[i] == '\\') return 0;
  return 1;
}

static int quantity(amount *out) {
  text value;
  if (!find_tag("Quantity", &value))
    failure = "the Quantity tag is missing";
  else if (!parse_amount(value, out))
    failure = "Quantity is not a decimal integer below 2^128 without sign or leading zeros";
  else if (!out->high && !out->low)
    failure = "Quantity is 0; it has to be above 0";
  return !failure;
}

static void set_up(void) {
  text value;
  if (ready) failure = "the token is set up already";
  else if (!is_account(now.owner)) failure = "the owner's address is not an account name";
  if (failure) return;
  set_up_detail("Name", &name, "");
  set_up_detail("Ticker", &ticker, "");
  set_up_detail("Denomination", &denomination, "0");
  set_up_detail("Logo", &logo, "");
  supply = (amount){0, 0};
  if (find_tag("Supply", &value) && !parse_amount(value, &supply))
    failure = "Supply is not a decimal integer below 2^128 without sign or leading zeros";
  account *first = failure ? 0 : find_or_open(now.owner);
  if (!failure && !first) failure = "no memory for the first account; raise Memory-Limit";
  if (failure) return;
  copy(owner.bytes, now.owner.at, now.owner.size);
  owner.size = now.owner.size;
  first->balance = supply;
  ready = 1;
  begin(literal("token set up"), 0);
}

static void info(void) {
  u8 room[DECIMAL_BYTES_MAX];
  begin(shown(&name), 1);
  begin_message(now.from, 6);
  put_tag("Action", literal("Info-Notice"));
  put_tag("Name", shown(&name));
  put_tag("Ticker", shown(&ticker));
  put_tag("Denomination", shown(&denomination));
  put_tag("Logo", shown(&logo));
  put_tag("Supply", format_amount(supply, room));
  put_head(2, 0);
}

static void answer_amount(const char *action, text who, amount value) {
  u8 room[DECIMAL_BYTES_MAX];
  text shown_amount = format_amount(value, room);
  begin(shown_amount, 1);
  begin_message(now.from, 4);
  put_tag("Action", literal(action));
  put_tag("Account", who);
  put_tag("Balance", shown_amount);
  put_tag("Ticker", shown(&ticker));
  put_joined(2, &shown_amount, 1);
}

static void balance(void) {
  text who = now.from;
  find_tag("Target", &who);
  find_tag("Recipient", &who);
  account *found = find(who);
  answer_amount("Balance-Notice", who, found ? found->balance : (amount){0, 0});
}

static void total_supply(void) { answer_amount("Total-Supply", shown(&owner), supply); }

static u32 small_number(const char *key, u32 otherwise, u32 most) {
  text value;
  amount read;
  if (!find_tag(key, &value)) return otherwise;
  if (!parse_amount(value, &read) || read.high || read.low > most) {
    failure = "Start and Limit are decimal numbers; Limit is at most 250";
    return 0;
  }
  return (u32)read.low;
}

static void balances(void) { /* a page of all accounts, in the order they were opened, as JSON */
  static u8 json[LISTED_MAX * (NAME_BYTES_MAX + DECIMAL_BYTES_MAX + 6) + 2];
  u32 start = small_number("Start", 0, 0xffffffff), count = small_number("Limit", 100, LISTED_MAX);
  if (failure) return;
  u32 size = 0;
  json[size++] = '{';
  for (u32 i = start; i < account_count && i - start < count; i++) {
    u8 room[DECIMAL_BYTES_MAX];
    account *a = account_at(i);
    text value = format_amount(a->balance, room);
    if (size > 1) json[size++] = ',';
    json[size++] = '"';
    copy(json + size, a->name, a->size);
    size += a->size;
    copy(json + size, (const u8 *)"\":\"", 3);
    size += 3;
    copy(json + size, value.at, value.size);
    size += value.size;
    json[size++] = '"';
  }
  json[size++] = '}';
  text said = {json, size};
  begin((text){0, 0}, 1);
  begin_message(now.from, 2);
  put_tag("Action", literal("Balances-Notice"));
  put_tag("Ticker", shown(&ticker));
  put_joined(2, &said, 1);
}

static int forwarded(text t) { return t.size > 2 && t.at[0] == 'X' && t.at[1] == '-'; }

static void put_notice(text target, const char *action, const char *other, text who, text value,
                       const char *verb, const char *joint, u32 x_tags) {
  text said[4] = {literal(verb), value, literal(joint), who};
  begin_message(target, 3 + x_tags);
  put_tag("Action", literal(action));
  put_tag(other, who);
  put_tag("Quantity", value);
  for (u32 i = 0; i < now.tag_count; i++)
    if (forwarded(now.tags[i].name)) {
      put_head(4, 2);
      put_text(now.tags[i].name);
      put_text(now.tags[i].value);
    }
  put_joined(2, said, 4);
}

static void transfer(void) {
  text to, cast;
  amount value;
  u8 room[DECIMAL_BYTES_MAX];
  u32 x_tags = 0, x_bytes = 0;
  if (!find_tag("Recipient", &to)) failure = "the Recipient tag is missing";
  else if (!is_account(to)) failure = "Recipient is not 1 to 64 printable characters";
  if (failure || !quantity(&value)) return;
  for (u32 i = 0; i < now.tag_count; i++)
    if (forwarded(now.tags[i].name)) {
      x_tags++;
      x_bytes += now.tags[i].name.size + now.tags[i].value.size;
    }
  if (x_bytes > FORWARDED_BYTES_MAX) {
    failure = "the X- tags have more than 4096 bytes; send fewer";
    return;
  }
  account *payer = find(now.from);
  if (!payer || less(payer->balance, value)) {
    failure = "insufficient balance: the sender has less than Quantity";
    return;
  }
  account *payee = find_or_open(to);
  if (!payee) {
    failure = "no memory for another account; the process needs a higher Memory-Limit";
    return;
  }
  subtract(&payer->balance, value);
  add(&payee->balance, value); /* all balances together are the supply: no overflow */
  text shown_amount = format_amount(value, room);
  if (find_tag("Cast", &cast)) {
    begin(literal("transferred"), 0);
    return;
  }
  begin(literal("transferred"), 2);
  put_notice(now.from, "Debit-Notice", "Recipient", to, shown_amount, "You transferred ", " to ",
             x_tags);
  put_notice(to, "Credit-Notice", "Sender", now.from, shown_amount, "You received ", " from ",
             x_tags);
}

static void mint(void) {
  amount value, total = supply;
  u8 room[DECIMAL_BYTES_MAX];
  if (!same(now.from.at, now.from.size, owner.bytes, owner.size))
    failure = "only the owner of the process may mint";
  if (failure || !quantity(&value)) return;
  if (!add(&total, value)) {
    failure = "the supply would not fit in 128 bits";
    return;
  }
  account *to = find(now.from);
  if (!to) {
    failure = "the owner has no account";
    return;
  }
  supply = total;
  add(&to->balance, value);
  text shown_amount = format_amount(value, room);
  text said[2] = {literal("Successfully minted "), shown_amount};
  begin(literal("minted"), 1);
  begin_message(now.from, 2);
  put_tag("Action", literal("Mint-Notice"));
  put_tag("Quantity", shown_amount);
  put_joined(2, said, 2);
}

static void act(void) {
  static const struct { const char *name; void (*run)(void); } actions[] = {
      {"Info", info},         {"Balance", balance},   {"Balances", balances},
      {"Transfer", transfer}, {"Mint", mint},         {"Total-Supply", total_supply},
  };
  text wanted;
  if (!find_tag("Action", &wanted)) {
    failure = "the Action tag is missing";
    return;
  }
  for (u32 i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
    if (is(wanted, actions[i].name)) {
      actions[i].run();
      return;
    }
  failure = "unknown Action; known are Info, Balance, Balances, Total-Supply, Transfer and Mint";
}

/* The convention */

__attribute__((export_name("alloc"))) void *alloc(u32 size) {
  if (size > input_size) {
    u32 wanted = (size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    u8 *room = take(wanted);
    if (!room) __builtin_trap();
    input_room = room;
    input_size = wanted;
  }
  return input_room;
}

__attribute__((export_name("handle"))) u64 handle(const u8 *at, u32 size) {
  output_size = overfull = 0;
  failure = 0;
  if (!read_message(at, size)) failure = "the message is not an ao-cbor-1 input";
  else if (now.slot == 0) set_up();
  else if (!ready) failure = "the token is not set up: slot 0 failed";
  else act();
  return finish();
}
