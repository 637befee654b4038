// Checks what a compute unit of an aonode network answers at `/proof/:message`, offline.
//
// One file, no build, no dependencies: Node.js 20 or later, and browsers with Ed25519 in WebCrypto.
//
//   const verifier = new Verifier({ network, units })        // from a network file you trust
//   await verifier.knowProcess(await ask('/proof/' + process))
//   const checked = await verifier.check(await ask('/proof/' + message), { process, message })
//   checked.result                                           // what `/result/:message` shows
//
// Proven: a listed unit signed exactly this outcome for exactly this message in exactly this slot
// of the process's log, and the log's scheduler and the message's author signed theirs. Not proven:
// that the outcome is right (ask more units and `agree`, or replay the log), and that the log is
// the only one. Signature types of messages: 1 (RSA-PSS, any salt), 2 (Ed25519), 3 (Ethereum) and
// 4 (Solana). Every refusal is a VerifyError with a `reason` and a sentence.

const DOMAIN = 'aonode/1/'
const ID_BYTES = 32
const OUTPUT_BYTES_MAX = 1 << 20
const ITEM_BYTES_MAX = 2 << 20
const ASSIGNMENT_BYTES_MAX = 8 << 10
const RECEIPT_BYTES_MAX = 640
const LEAF_BYTES_MAX = 192
const TAGS_MAX = 128
const CBOR_DEPTH_MAX = 8
const CBOR_ITEMS_MAX = 1 << 16
const VALUES_MAX = 1 << 17
const JSON_DEPTH_MAX = 64
const FORMAT_CBOR = 'ao-cbor-1'
const STATUS = ['OK', 'ERROR', 'TRAP', 'OUT_OF_FUEL', 'BAD_OUTPUT', 'TOO_LARGE']

export class VerifyError extends Error {
  constructor(reason, detail) {
    super(`${reason}: ${detail}`)
    this.reason = reason
    this.detail = detail
  }
}

const malformed = (detail) => new VerifyError('malformed', detail)
const mismatch = (detail) => new VerifyError('mismatch', detail)

// Verifying

export class Verifier {
  #processes = new Map()

  // `network`: its id. `units`: node keys of the compute units whose word counts. `profile`: the
  // network's, if known. The rest are network parameters. Ids and keys as base64url.
  constructor({ network, units, profile, parameters = {} }) {
    this.network = network
    this.units = new Set(units)
    this.profile = profile
    this.parameters = {
      output_bytes_max: OUTPUT_BYTES_MAX,
      outbox_max: 256,
      item_bytes_max: ITEM_BYTES_MAX,
      root_every: 8,
      proof_every: 64,
      ...parameters
    }
  }

  // Take the rules of a process from the answer of `/proof/:process`: who schedules it, and the
  // format of its module. The format may come from anybody: under a wrong one nothing verifies.
  async knowProcess(answer) {
    const item = await decodeItem(part(answer, 'message'), this.parameters.item_bytes_max)
    await verifyItem(item)
    if (first(item, 'Type') !== 'Process') throw mismatch(`item ${item.id} is not a process`)
    const scheduler = first(item, 'Scheduler') ?? ''
    this.#processes.set(item.id, { scheduler, format: String(answer.format) })
    return item.id
  }

  // Check an answer of `/proof/:message`. Throws VerifyError unless every part fits every other.
  // `process` and `message` are what was asked for.
  async check(answer, { process, message } = {}) {
    const named = message ? `message ${message}: ` : ''
    try {
      return await this.#check(answer, process, message)
    } catch (error) {
      if (error instanceof VerifyError) throw new VerifyError(error.reason, named + error.detail)
      throw malformed(`${named}the answer cannot be read: ${error.message}`)
    }
  }

  async #check(answer, process, message) {
    const receipt = decodeReceipt(part(answer, 'receipt'))
    const { assignment, item } = await this.#slot(answer, process ?? receipt.process)
    if (message !== undefined && ![item.id, assignment.id].includes(message)) {
      throw mismatch(`the answer is about message ${item.id}`)
    }
    await this.#checkReceipt(receipt, assignment)
    const outcome = part(answer, 'outcome')
    const { format } = this.#processes.get(assignment.process)
    const derived = checkOutcome(receipt.leaf, outcome, format, this.parameters)
    return {
      process: receipt.process,
      nonce: receipt.slot,
      message: item.id,
      assignment: assignment.id,
      unit: receipt.cu,
      status: STATUS[receipt.leaf.status],
      fuel: receipt.leaf.fuel,
      head: receipt.head,
      leaf: b64url(receipt.leafHash),
      mmrRoot: receipt.mmrRoot,
      blockRoot: receipt.blockRoot,
      result: publicResult(derived, receipt.leaf.fuel)
    }
  }

  async #slot(answer, process) {
    const rules = this.#processes.get(process)
    if (!rules) throw mismatch(`process ${process} is not known; call knowProcess first`)
    const signed = await decodeItem(part(answer, 'assignment'), ASSIGNMENT_BYTES_MAX)
    const assignment = assignmentOf(signed)
    const signer = b64url(await sha256(signed.owner))
    if (signer !== rules.scheduler) {
      throw mismatch(`the assignment is signed by ${signer}, the scheduler is ${rules.scheduler}`)
    }
    await verifyItem(signed)
    if (assignment.process !== process) {
      throw mismatch(`the assignment is of process ${assignment.process}`)
    }
    const item = await decodeItem(part(answer, 'message'), this.parameters.item_bytes_max)
    await verifyItem(item)
    if (item.id !== (assignment.message ?? assignment.process)) {
      throw mismatch(`the assignment is of ${assignment.message}, the answer has ${item.id}`)
    }
    return { assignment, item }
  }

  async #checkReceipt(receipt, assignment) {
    const { root_every: rootEvery, proof_every: proofEvery } = this.parameters
    const wrong = [
      [receipt.network !== this.network, 'wrong_network', `of network ${receipt.network}`],
      [!this.units.has(receipt.cu), 'wrong_sender', `of unit ${receipt.cu}, which is not listed`],
      [receipt.process !== assignment.process, 'mismatch', `of process ${receipt.process}`],
      [receipt.slot !== assignment.nonce, 'mismatch', `of slot ${receipt.slot}`],
      [receipt.leaf.assignment !== assignment.id, 'mismatch', `of ${receipt.leaf.assignment}`],
      [this.profile && receipt.profile !== this.profile, 'mismatch', `of ${receipt.profile}`],
      [
        (receipt.leaf.root === null) === ((receipt.slot + 1) % rootEvery === 0) ||
          (receipt.blockRoot === null) !== receipt.slot < proofEvery,
        'malformed',
        'with roots where there can be none'
      ]
    ].find(([is]) => is)
    if (wrong) throw new VerifyError(wrong[1], `the receipt is ${wrong[2]}`)
    if (!(await verifyEd25519(receipt.key, receipt.signedBytes, receipt.signature))) {
      throw new VerifyError('bad_signature', `unit ${receipt.cu} did not sign the receipt`)
    }
  }
}

// Throws VerifyError unless all checked results, of one slot, are equal and of different units.
export function agree(checked) {
  for (const field of ['process', 'nonce', 'message', 'head', 'leaf', 'mmrRoot', 'blockRoot']) {
    const values = new Set(checked.map((each) => each[field]))
    if (values.size !== 1) {
      const units = checked.map((each) => `${each.unit}: ${each[field]}`)
      throw new VerifyError(field === 'head' ? 'fork' : 'mismatch', `${field}s: ${units.join(', ')}`)
    }
  }
  if (new Set(checked.map((each) => each.unit)).size !== checked.length) {
    throw mismatch('two answers are of one unit')
  }
}

function part(answer, name) {
  if (typeof answer?.[name] !== 'string') throw malformed(`the answer has no ${name}`)
  return unb64url(answer[name])
}

// Receipts and outcomes

function decodeReceipt(raw) {
  const fields = record(decode(raw, RECEIPT_BYTES_MAX), 10, 'a receipt')
  const [network, process, slot, head, leafRaw, mmrRoot, blockRoot, profile, cu, signature] = fields
  const [of, at, assignment, root, outcomeHash, fuel, status] = record(
    decode(bytes(leafRaw, 'leaf'), LEAF_BYTES_MAX), 7, 'a leaf'
  )
  const leaf = {
    assignment: id(assignment, 'leaf assignment'),
    root: root === null ? null : id(root, 'state root'),
    outcomeHash: id(outcomeHash, 'outcome hash'),
    fuel: integer(fuel, 'fuel'),
    status: integer(status, 'status')
  }
  if (id(of, 'leaf process') !== id(process, 'process') || at !== slot) {
    throw malformed("the receipt's leaf is of another process or slot")
  }
  return {
    network: id(network, 'network'),
    process: id(process, 'process'),
    slot: integer(slot, 'slot'),
    head: id(head, 'head'),
    leaf,
    leafHash: digest('leaf', of, at, assignment, root, outcomeHash, fuel, status),
    mmrRoot: id(mmrRoot, 'MMR root'),
    blockRoot: blockRoot === null ? null : id(blockRoot, 'block root'),
    profile: id(profile, 'profile'),
    cu: id(cu, 'unit'),
    key: cu,
    signature: bytes(signature, 'signature', 64),
    signedBytes: encode(['receipt', network, fields.slice(1, 9)])
  }
}

function checkOutcome(leaf, raw, format, parameters) {
  const stated = STATUS[leaf.status]
  if (stated === undefined) throw malformed(`status ${leaf.status} does not exist`)
  const derived = derive(format, leaf.status, raw, parameters)
  if (raw.length && leaf.status > 1) throw mismatch(`status ${stated} has no outcome bytes`)
  if (derived.status !== leaf.status) {
    throw mismatch(`the outcome means ${STATUS[derived.status]}, signed is ${stated}`)
  }
  if (b64url(outcomeHash(raw, derived.outbox)) !== leaf.outcomeHash) {
    throw mismatch('the outcome bytes are not those whose hash is signed')
  }
  return derived
}

function outcomeHash(raw, outbox) {
  return digest('outcome', raw, merkleRoot('outbox', outbox.map(encode)))
}

// The result as AO's compute units show it.
function publicResult({ status, outbox, output, error }, fuel) {
  if (status !== 0) {
    const said = error || REASONS[status]
    return { Error: said, Messages: [], Assignments: [], Spawns: [], Output: '', GasUsed: fuel }
  }
  const tags = (pairs) => pairs.map(([name, value]) => ({ name, value }))
  const anchored = (anchor) => (anchor === null ? {} : { Anchor: anchor })
  const of = (kind) => outbox.filter((entry) => entry[0] === kind)
  return {
    Messages: of(0).map(([, target, anchor, pairs, data]) => ({
      Target: target, ...anchored(anchor), Data: text(data), Tags: tags(pairs)
    })),
    Spawns: of(1).map(([, anchor, pairs, data]) => ({
      ...anchored(anchor), Data: text(data), Tags: tags(pairs)
    })),
    Assignments: of(2).map(([, processes, message]) => ({ Processes: processes, Message: message })),
    Output: JSON.parse(output),
    GasUsed: fuel
  }
}

const REASONS = [
  '',
  'the process returned an error',
  'the module trapped; its state is as before this message',
  'the message used more fuel than a slot may',
  "the module's output cannot be read",
  "the module's output is larger than this network allows"
]

// What an output means: status, outbox (entries as they are hashed), output as JSON text, error.

function derive(format, status, raw, { output_bytes_max: bytesMax, outbox_max: outboxMax }) {
  const nothing = (status, error = '') => ({ status, outbox: [], output: '""', error })
  if (status > 1) return nothing(status)
  if (raw.length > bytesMax) return nothing(5)
  let derived
  try {
    derived = format === FORMAT_CBOR ? deriveCbor(raw, nothing) : deriveJson(raw, nothing)
  } catch (error) {
    if (error instanceof VerifyError) return nothing(4)
    throw error
  }
  const deliveries = derived.outbox.reduce(
    (sum, entry) => sum + (entry[0] === 2 ? Math.max(1, entry[1].length) : 1), 0
  )
  return deliveries > outboxMax ? nothing(5) : derived
}

function deriveCbor(raw, nothing) {
  const [status, output, entries, error] = record(decode(raw, raw.length, VALUES_MAX), 4, 'an output')
  let said = output ?? ''
  if (said instanceof Uint8Array) said = text(said)
  if (typeof said !== 'string' || !Array.isArray(entries)) throw malformed('an output')
  if (status === 1 && typeof error === 'string') return nothing(1, error)
  if (status !== 0 || error !== null) throw malformed('an output')
  for (const entry of entries) checkEntry(entry)
  const outbox = [0, 1, 2].flatMap((kind) => entries.filter((entry) => entry[0] === kind))
  return { status: 0, outbox, output: JSON.stringify(said), error: '' }
}

function checkEntry(entry) {
  const is = {
    text: (value) => typeof value === 'string',
    anchor: (value) => value === null || typeof value === 'string',
    bytes: (value) => value instanceof Uint8Array,
    texts: (value) => Array.isArray(value) && value.every(is.text),
    tags: (value) => Array.isArray(value) && value.every((tag) => is.texts(tag) && tag.length === 2)
  }
  const shapes = [
    [is.text, is.anchor, is.tags, is.bytes],
    [is.anchor, is.tags, is.bytes],
    [is.texts, is.text]
  ]
  const shape = Array.isArray(entry) && typeof entry[0] === 'number' ? shapes[entry[0]] : undefined
  if (!shape || entry.length !== shape.length + 1) throw malformed('an outbox entry')
  if (!shape.every((fits, place) => fits(entry[place + 1]))) throw malformed('an outbox entry')
}

function deriveJson(raw, nothing) {
  const source = text(raw)
  const read = new JsonReader(source)
  const root = read.document()
  const asText = (node) => (typeof node === 'string' ? node : source.slice(node.start, node.end))
  const textOf = (node) => (node === undefined || isLiteral(node, 'null') ? null : asText(node))
  const isLiteral = (node, word) => node?.scalar === word
  const members = (node) => {
    if (!node?.members) throw malformed('an outbox entry or tag that is not an object')
    return node.members
  }
  const list = (node) => {
    if (node === undefined || isLiteral(node, 'null')) return []
    if (node.items) return node.items
    if (node.members?.size === 0) return []
    throw malformed('a list that is none')
  }
  const answer = members(root)
  const response = answer.get('response') ?? { scalar: 'null', start: 0, end: 0 }
  if (isLiteral(answer.get('ok'), 'false')) return nothing(1, textOf(response) ?? '')
  if (!isLiteral(answer.get('ok'), 'true')) throw malformed('the output')
  const fields = members(response)
  const error = fields.get('Error')
  const none = error === undefined || error === '' || ['null', 'false'].includes(error.scalar)
  if (!none) return nothing(1, asText(error))

  const get = (entry, name) => textOf(members(entry).get(name))
  const data = (entry) => utf8(get(entry, 'Data') ?? '')
  const tags = (entry) =>
    list(members(entry).get('Tags')).map((tag) => [get(tag, 'name') ?? '', get(tag, 'value') ?? ''])
  const messages = list(fields.get('Messages')).map((entry) => [
    0, get(entry, 'Target') ?? '', get(entry, 'Anchor'), tags(entry), data(entry)
  ])
  const spawns = list(fields.get('Spawns')).map((entry) => [
    1, get(entry, 'Anchor'), tags(entry), data(entry)
  ])
  const assignments = list(fields.get('Assignments')).map((entry) => {
    const processes = members(entry).get('Processes')
    const names = typeof processes === 'string' ? [processes] : list(processes).map(asText)
    return [2, names, get(entry, 'Message') ?? '']
  })
  const output = fields.get('Output')
  const absent = output === undefined || isLiteral(output, 'null')
  return {
    status: 0,
    outbox: [...messages, ...spawns, ...assignments],
    output: absent ? '""' : typeof output === 'string' ? JSON.stringify(output) : asText(output),
    error: ''
  }
}

// JSON that keeps numbers as source text, lets the last of duplicate keys win, and is bounded.
// Texts become strings, all else { start, end } of the source and scalar, items or members.
class JsonReader {
  constructor(source) {
    this.source = source
    this.at = 0
    this.values = 0
  }

  document() {
    const root = this.value(0)
    this.space()
    if (this.at !== this.source.length) throw this.wrong('the end')
    return root
  }

  value(depth) {
    this.values += 1
    if (this.values > VALUES_MAX) throw malformed(`JSON of more than ${VALUES_MAX} values`)
    this.space()
    const mark = this.source[this.at]
    if (mark === '"') return this.text()
    if (mark !== '[' && mark !== '{') return this.scalar()
    if (depth === JSON_DEPTH_MAX) throw malformed(`JSON nests deeper than ${JSON_DEPTH_MAX}`)
    const node = { start: this.at, end: 0 }
    if (mark === '[') node.items = []
    else node.members = new Map()
    this.at += 1
    this.entries(node, mark === '[' ? ']' : '}', depth + 1)
    node.end = this.at
    return node
  }

  entries(node, closing, depth) {
    this.space()
    if (this.take(closing)) return
    do {
      if (node.items) {
        node.items.push(this.value(depth))
      } else {
        this.space()
        const name = this.text()
        this.space()
        if (!this.take(':')) throw this.wrong("':'")
        node.members.set(name, this.value(depth))
      }
      this.space()
    } while (this.take(','))
    if (!this.take(closing)) throw this.wrong(closing)
  }

  scalar() {
    const found = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null/y
    found.lastIndex = this.at
    const start = this.at
    const match = found.exec(this.source)
    if (!match) throw this.wrong('a value')
    this.at = found.lastIndex
    return { start, end: this.at, scalar: match[0] }
  }

  text() {
    if (!this.take('"')) throw this.wrong('a text')
    const start = this.at
    for (;;) {
      const code = this.source.charCodeAt(this.at)
      if (!(code >= 0x20)) throw this.wrong('the rest of a text')
      this.at += code === 0x5c ? 2 : 1
      if (code === 0x22) break
    }
    try {
      return JSON.parse(this.source.slice(start - 1, this.at)).toWellFormed()
    } catch {
      throw this.wrong('a text before this')
    }
  }

  space() {
    while (' \t\n\r'.includes(this.source[this.at] ?? 'x')) this.at += 1
  }

  take(mark) {
    if (this.source[this.at] !== mark) return false
    this.at += 1
    return true
  }

  wrong(expected) {
    return malformed(`JSON at character ${this.at}, where ${expected} belongs`)
  }
}

// Items (ANS-104)

const LENGTHS = { 1: [512, 512], 2: [64, 32], 3: [65, 65], 4: [64, 32] }

async function decodeItem(raw, sizeMax) {
  if (raw.length < 80 || raw.length > sizeMax) throw malformed(`an item of ${raw.length} bytes`)
  const type = raw[0] | (raw[1] << 8)
  if (!LENGTHS[type]) throw new VerifyError('unsupported', `signature type ${type}`)
  const [signatureBytes, ownerBytes] = LENGTHS[type]
  let at = 2
  const take = (count) => {
    if (at + count > raw.length) throw malformed(`an item of ${raw.length} bytes is cut short`)
    at += count
    return raw.subarray(at - count, at)
  }
  const optional = (what) => {
    const [flag] = take(1)
    if (flag > 1) throw malformed(`${what} flag ${flag}, not 0 or 1`)
    return flag ? take(32) : null
  }
  const number = () => {
    const value = new DataView(raw.buffer, raw.byteOffset + at, take(8).length).getBigUint64(0, true)
    if (value > raw.length) throw malformed(`${value} tags or bytes of tags`)
    return Number(value)
  }
  const signature = take(signatureBytes)
  const owner = take(ownerBytes)
  const target = optional('target')
  const anchor = optional('anchor')
  const count = number()
  const tagsRaw = take(number())
  const data = raw.subarray(at)
  const tags = decodeTags(tagsRaw, count)
  const itemId = b64url(await sha256(signature))
  return { id: itemId, type, signature, owner, target, anchor, tags, tagsRaw, data }
}

function decodeTags(raw, count) {
  if (count > TAGS_MAX) throw malformed(`${count} tags, at most ${TAGS_MAX}`)
  if (!raw.length && !count) return []
  let at = 0
  const long = () => {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= raw.length) break
      const group = raw[at++]
      value |= BigInt(group & 0x7f) << shift
      if (group < 0x80 && value < 1n << 64n) return Number((value >> 1n) ^ -(value & 1n))
    }
    throw malformed('tags are cut short')
  }
  const string = () => {
    const size = long()
    if (size < 0 || at + size > raw.length) throw malformed(`a tag of ${size} bytes`)
    at += size
    return text(raw.subarray(at - size, at))
  }
  const tags = []
  for (let block = long(); block; block = long()) {
    const size = block < 0 ? long() : null
    const end = at + (size ?? 0)
    for (let left = Math.abs(block); left; left -= 1) {
      if (tags.length === count) throw malformed(`more than ${count} tags`)
      tags.push([string(), string()])
    }
    if (size !== null && at !== end) throw malformed('a tag block of another size')
  }
  if (at !== raw.length || tags.length !== count) throw malformed(`${tags.length} tags, not ${count}`)
  return tags
}

const first = (item, name) => item.tags.find((tag) => tag[0] === name)?.[1]

const ASSIGNMENT_TAGS = [
  'Process', 'Epoch', 'Nonce', 'Hash-Chain', 'Block-Height', 'Timestamp', 'Data-Protocol', 'Type',
  'Variant'
]

function assignmentOf(item) {
  const names = item.tags.map((tag) => tag[0])
  const values = item.tags.map((tag) => tag[1])
  const inOrder = ASSIGNMENT_TAGS.every((name, place) => names[place] === name)
  if (item.type !== 2 || item.target || item.data.length || !inOrder) {
    throw malformed("the assignment does not have exactly a scheduler's fields in their order")
  }
  if (values.slice(6, 9).join() !== 'ao,Assignment,ao.TN.1' || !/^[0-9]{12}$/.test(values[4])) {
    throw malformed('the assignment is not one of ao.TN.1')
  }
  const nonce = decimal(values[2])
  const rest = names.slice(9)
  const message = rest[0] === 'Message' ? values[9] : null
  if ((message === null) !== (nonce === 0)) throw malformed('nonce 0 alone has no Message tag')
  if (rest.slice(message === null ? 0 : 1).some((name) => name !== 'Exclude')) {
    throw malformed('the assignment has tags of other names')
  }
  for (const each of [values[0], values[3], message ?? values[0]]) id(unb64url(each), 'an id')
  decimal(values[1])
  decimal(values[5])
  return { id: item.id, process: values[0], nonce, message }
}

function decimal(digits) {
  if (!/^(0|[1-9][0-9]{0,14})$/.test(digits)) throw malformed(`${digits} is not a plain decimal`)
  return Number(digits)
}

// Signatures

function signingMessage(item) {
  return deepHash([
    utf8('dataitem'), utf8('1'), utf8(String(item.type)), item.owner, item.target ?? EMPTY,
    item.anchor ?? EMPTY, item.tagsRaw, item.data
  ])
}

async function verifyItem(item) {
  const message = await signingMessage(item)
  const { owner, signature } = item
  const verified = {
    1: () => verifyRsa(owner, message, signature),
    2: () => verifyEd25519(owner, message, signature),
    3: () => verifyEthereum(owner, message, signature),
    4: () => verifyEd25519(owner, utf8(hex(message)), signature)
  }
  if (!(await verified[item.type]())) {
    throw new VerifyError('bad_signature', `the owner of item ${item.id} did not sign it`)
  }
}

async function deepHash(part) {
  if (part instanceof Uint8Array) {
    return sha384(join(await sha384(utf8(`blob${part.length}`)), await sha384(part)))
  }
  let acc = await sha384(utf8(`list${part.length}`))
  for (const each of part) acc = await sha384(join(acc, await deepHash(each)))
  return acc
}

async function verifyEd25519(key, message, signature) {
  try {
    const imported = await crypto.subtle.importKey('raw', key, { name: 'Ed25519' }, false, ['verify'])
    return await crypto.subtle.verify({ name: 'Ed25519' }, imported, signature, message)
  } catch (error) {
    if (error.name === 'NotSupportedError') throw error
    return false
  }
}

// RSA-PSS with SHA-256 and a salt of any length (RFC 8017, 8.1.2 and 9.1.2).
async function verifyRsa(owner, message, signature) {
  const modulus = big(owner)
  let power = big(signature)
  if (modulus >> 4095n !== 1n || !(modulus & 1n) || power >= modulus) return false
  const base = power
  for (let bit = 0; bit < 16; bit += 1) power = (power * power) % modulus
  const encoded = ofBig((power * base) % modulus, 512)
  const [masked, hash] = [encoded.subarray(0, 479), encoded.subarray(479, 511)]
  if (encoded[511] !== 0xbc || masked[0] & 0x80) return false
  const block = new Uint8Array(479)
  for (let count = 0; count * 32 < 479; count += 1) {
    const mask = await sha256(join(hash, Uint8Array.of(0, 0, 0, count)))
    for (let at = count * 32; at < Math.min(479, count * 32 + 32); at += 1) {
      block[at] = masked[at] ^ mask[at - count * 32]
    }
  }
  block[0] &= 0x7f
  const mark = block.findIndex((byte) => byte !== 0)
  if (mark < 0 || block[mark] !== 1) return false
  const salt = block.subarray(mark + 1)
  return same(hash, await sha256(join(new Uint8Array(8), await sha256(message), salt)))
}

// EIP-191 personal message over secp256k1; s low, v 27 or 28, recovered key = owner.
const P = 2n ** 256n - 2n ** 32n - 977n
const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
const G = [
  0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
  0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
  1n
]
const mod = (value, by) => ((value % by) + by) % by

function verifyEthereum(owner, message, signature) {
  const digest = big(keccak256(join(utf8(`\x19Ethereum Signed Message:\n${message.length}`), message)))
  const [r, s] = [big(signature.subarray(0, 32)), big(signature.subarray(32, 64))]
  const parity = BigInt(signature[64] - 27)
  const [x, y] = [big(owner.subarray(1, 33)), big(owner.subarray(33))]
  if (owner[0] !== 4 || x >= P || y >= P || mod(y * y - x * x * x - 7n, P)) return false
  if (r <= 0n || r >= N || s <= 0n || s > N / 2n || parity < 0n || parity > 1n) return false
  const inverse = power(s, N - 2n, N)
  const point = addPoints(
    timesPoint(mod(digest * inverse, N), G), timesPoint(mod(r * inverse, N), [x, y, 1n])
  )
  if (!point[2]) return false
  const z = power(point[2], P - 2n, P)
  return mod(point[0] * z * z, P) === r && (mod(point[1] * z * z * z, P) & 1n) === parity
}

function power(base, exponent, modulus) {
  let result = 1n
  for (let square = base; exponent; exponent >>= 1n, square = (square * square) % modulus) {
    if (exponent & 1n) result = (result * square) % modulus
  }
  return result
}

// Jacobian coordinates; z = 0 is the point at infinity.
function doublePoint([x, y, z]) {
  const yy = mod(y * y, P)
  const s = mod(4n * x * yy, P)
  const m = mod(3n * x * x, P)
  const x3 = mod(m * m - 2n * s, P)
  return [x3, mod(m * (s - x3) - 8n * yy * yy, P), mod(2n * y * z, P)]
}

function addPoints(a, b) {
  if (!a[2]) return b
  if (!b[2]) return a
  const [az, bz] = [mod(a[2] * a[2], P), mod(b[2] * b[2], P)]
  const [u1, u2] = [mod(a[0] * bz, P), mod(b[0] * az, P)]
  const [s1, s2] = [mod(a[1] * bz * b[2], P), mod(b[1] * az * a[2], P)]
  if (u1 === u2) return s1 === s2 ? doublePoint(a) : [0n, 1n, 0n]
  const h = mod(u2 - u1, P)
  const r = mod(s2 - s1, P)
  const hh = mod(h * h, P)
  const hhh = mod(h * hh, P)
  const x = mod(r * r - hhh - 2n * u1 * hh, P)
  return [x, mod(r * (u1 * hh - x) - s1 * hhh, P), mod(h * a[2] * b[2], P)]
}

function timesPoint(count, point) {
  let sum = [0n, 1n, 0n]
  for (let bit = 255n; bit >= 0n; bit -= 1n) {
    sum = doublePoint(sum)
    if ((count >> bit) & 1n) sum = addPoints(sum, point)
  }
  return sum
}

// Hashes

const sha256 = async (data) => new Uint8Array(await crypto.subtle.digest('SHA-256', data))
const sha384 = async (data) => new Uint8Array(await crypto.subtle.digest('SHA-384', data))

function keccak256(data) {
  const [rate, mask] = [136, (1n << 64n) - 1n]
  const padded = new Uint8Array((Math.floor(data.length / rate) + 1) * rate)
  padded.set(data)
  padded[data.length] ^= 1
  padded[padded.length - 1] ^= 0x80
  const turn = (lane, by) => ((lane << by) | (lane >> (64n - by))) & mask
  let lanes = new Array(25).fill(0n)
  for (let start = 0; start < padded.length; start += rate) {
    const view = new DataView(padded.buffer, start)
    for (let lane = 0; lane < rate / 8; lane += 1) lanes[lane] ^= view.getBigUint64(8 * lane, true)
    let register = 1
    for (let round = 0; round < 24; round += 1) {
      const columns = [0, 1, 2, 3, 4].map((x) =>
        [0, 5, 10, 15, 20].reduce((acc, y) => acc ^ lanes[x + y], 0n)
      )
      lanes = lanes.map((lane, at) =>
        lane ^ columns[(at + 4) % 5] ^ turn(columns[(at + 1) % 5], 1n)
      )
      let [x, y] = [1, 0]
      let current = lanes[1]
      for (let step = 1; step <= 24; step += 1) {
        ;[x, y] = [y, (2 * x + 3 * y) % 5]
        const moved = turn(current, BigInt(((step * (step + 1)) / 2) % 64))
        current = lanes[x + 5 * y]
        lanes[x + 5 * y] = moved
      }
      lanes = lanes.map((lane, at) => {
        const row = at - (at % 5)
        return lane ^ (~lanes[row + ((at + 1) % 5)] & mask & lanes[row + ((at + 2) % 5)])
      })
      for (let bit = 0; bit < 7; bit += 1) {
        if (register & 1) lanes[0] ^= 1n << BigInt((1 << bit) - 1)
        register = (register << 1) ^ (register & 0x80 ? 0x171 : 0)
      }
    }
  }
  const out = new DataView(new ArrayBuffer(32))
  for (let lane = 0; lane < 4; lane += 1) out.setBigUint64(8 * lane, lanes[lane], true)
  return new Uint8Array(out.buffer)
}

// BLAKE3 in derive-key mode (its specification, section 2).
const IV = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
]
const PERMUTED = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
const MIXES = [
  [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
  [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]
]
const [CHUNK_START, CHUNK_END, PARENT, ROOT, CONTEXT, MATERIAL] = [1, 2, 4, 8, 32, 64]
const contextKeys = new Map()

function compress(chaining, words, counter, length, flags) {
  const v = new Uint32Array(16)
  v.set(chaining)
  v.set(IV.slice(0, 4), 8)
  v.set([counter, Math.floor(counter / 2 ** 32), length, flags], 12)
  const turn = (value, by) => (value >>> by) | (value << (32 - by))
  let block = words
  for (let round = 0; round < 7; round += 1) {
    MIXES.forEach(([a, b, c, d], mix) => {
      for (const [word, by, then] of [[0, 16, 12], [1, 8, 7]]) {
        v[a] = v[a] + v[b] + block[2 * mix + word]
        v[d] = turn(v[d] ^ v[a], by)
        v[c] = v[c] + v[d]
        v[b] = turn(v[b] ^ v[c], then)
      }
    })
    block = PERMUTED.map((place) => block[place])
  }
  return v.slice(0, 8).map((word, at) => word ^ v[at + 8])
}

function blake3(data, key, mode) {
  const wordsOf = (part) => {
    const padded = new Uint8Array(64)
    padded.set(part)
    const view = new DataView(padded.buffer)
    return Array.from({ length: 16 }, (_, at) => view.getUint32(4 * at, true))
  }
  const chunk = (start, end, counter, root) => {
    let chaining = key
    for (let at = start; at < end || at === start; at += 64) {
      const part = data.subarray(at, Math.min(at + 64, end))
      const last = at + 64 >= end
      const flags = mode | (at === start && CHUNK_START) | (last && CHUNK_END | root)
      chaining = compress(chaining, wordsOf(part), counter, part.length, flags)
    }
    return chaining
  }
  const tree = (start, end, root) => {
    if (end - start <= 1024) return chunk(start, end, start / 1024, root)
    const left = start + 1024 * 2 ** Math.floor(Math.log2((end - start - 1) / 1024))
    const words = [...tree(start, left, 0), ...tree(left, end, 0)]
    return compress(key, words, 0, 64, mode | PARENT | root)
  }
  return Uint32Array.from(tree(0, data.length, ROOT))
}

function derived(domain, data) {
  if (!contextKeys.has(domain)) {
    contextKeys.set(domain, blake3(utf8(DOMAIN + domain), Uint32Array.from(IV), CONTEXT))
  }
  const words = blake3(data, contextKeys.get(domain), MATERIAL)
  const out = new DataView(new ArrayBuffer(32))
  words.forEach((word, at) => out.setUint32(4 * at, word, true))
  return new Uint8Array(out.buffer)
}

const digest = (domain, ...fields) => derived(domain, encode(fields))

function merkleRoot(domain, leaves) {
  if (!leaves.length) return derived(`${domain}/empty`, EMPTY)
  let level = leaves.map((leaf) => derived(`${domain}/leaf`, leaf))
  while (level.length > 1) {
    const above = []
    for (let at = 0; at < level.length; at += 2) {
      const pair = at + 1 < level.length
      above.push(pair ? derived(`${domain}/node`, join(level[at], level[at + 1])) : level[at])
    }
    level = above
  }
  return level[0]
}

// Canonical CBOR of integers, bytes, texts, booleans, null and arrays

function encode(value) {
  const parts = []
  const head = (major, argument) => {
    const number = BigInt(argument)
    const width = number < 24n ? 0 : number < 1n << 8n ? 1 : number < 1n << 16n ? 2 :
      number < 1n << 32n ? 4 : 8
    const info = width ? 24 + Math.log2(width) : Number(number)
    parts.push(Uint8Array.of((major << 5) | info), width ? ofBig(number, width) : EMPTY)
  }
  const write = (each) => {
    if (each === null) parts.push(Uint8Array.of(0xf6))
    else if (typeof each === 'boolean') parts.push(Uint8Array.of(each ? 0xf5 : 0xf4))
    else if (typeof each === 'number' || typeof each === 'bigint') {
      if (each < 0) head(1, -1n - BigInt(each))
      else head(0, each)
    } else if (Array.isArray(each)) {
      head(4, each.length)
      each.forEach(write)
    } else {
      const raw = typeof each === 'string' ? utf8(each) : each
      head(typeof each === 'string' ? 3 : 2, raw.length)
      parts.push(raw)
    }
  }
  write(value)
  return join(...parts)
}

// The value whose encoding is `raw`; integers above 2^53 as BigInt. Throws VerifyError.
function decode(raw, sizeMax, itemsMax = CBOR_ITEMS_MAX) {
  if (raw.length > sizeMax) throw malformed(`${raw.length} bytes of CBOR, at most ${sizeMax}`)
  let [at, left] = [0, itemsMax - 1]
  const take = (count) => {
    if (at + count > raw.length) throw malformed(`CBOR ends at byte ${raw.length} inside a value`)
    at += count
    return raw.subarray(at - count, at)
  }
  const argumentOf = (info) => {
    if (info < 24) return BigInt(info)
    if (info > 27) throw malformed('CBOR of indefinite or reserved length')
    const width = 1 << (info - 24)
    const value = big(take(width))
    const shortest = width === 1 ? value >= 24n : value >> BigInt(width * 4)
    if (!shortest) throw new VerifyError('not_canonical', 'a CBOR head that is not the shortest')
    return value
  }
  const read = (depth) => {
    const [initial] = take(1)
    const major = initial >> 5
    if (major === 7) {
      if (initial < 0xf4 || initial > 0xf6) throw malformed(`CBOR type ${initial} may not travel`)
      return initial === 0xf6 ? null : initial === 0xf5
    }
    const argument = argumentOf(initial & 31)
    if (major <= 1) {
      const value = major ? -1n - argument : argument
      if (value < -(1n << 63n)) throw new VerifyError('oversize', `integer ${value}`)
      return Number.isSafeInteger(Number(value)) ? Number(value) : value
    }
    if (major === 5 || major === 6) throw malformed(`CBOR type ${initial} may not travel`)
    if (major <= 3) {
      const part = take(argument > raw.length ? raw.length + 1 : Number(argument))
      return major === 2 ? part.slice() : strictText(part)
    }
    if (argument > left) throw new VerifyError('oversize', `more than ${itemsMax} CBOR values`)
    left -= Number(argument)
    if (depth === CBOR_DEPTH_MAX) throw new VerifyError('oversize', 'CBOR arrays nest too deep')
    return Array.from({ length: Number(argument) }, () => read(depth + 1))
  }
  const value = read(0)
  if (at !== raw.length) throw malformed(`${raw.length - at} bytes after the CBOR value`)
  return value
}

function record(value, count, what) {
  if (!Array.isArray(value) || value.length !== count) throw malformed(`not ${what}`)
  return value
}

function bytes(value, what, count) {
  const fits = value instanceof Uint8Array && (count === undefined || value.length === count)
  if (!fits) throw malformed(`${what} is not ${count ?? 'a number of'} bytes`)
  return value
}

const id = (value, what) => b64url(bytes(value, what, ID_BYTES))

function integer(value, what) {
  if (!Number.isSafeInteger(value) || value < 0) throw malformed(`${what} is ${value}`)
  return value
}

// Bytes and texts

const EMPTY = new Uint8Array(0)
const utf8 = (string) => new TextEncoder().encode(string)
const text = (raw) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(raw)
const hex = (raw) => Array.from(raw, (byte) => byte.toString(16).padStart(2, '0')).join('')
const big = (raw) => BigInt(`0x${hex(raw) || '0'}`)
const same = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at])

function strictText(raw) {
  try {
    return new TextDecoder('utf-8', { ignoreBOM: true, fatal: true }).decode(raw)
  } catch {
    throw malformed('CBOR text that is not UTF-8')
  }
}

function ofBig(value, count) {
  const out = new Uint8Array(count)
  for (let at = count - 1; at >= 0; at -= 1, value >>= 8n) out[at] = Number(value & 0xffn)
  return out
}

function join(...parts) {
  const out = new Uint8Array(parts.reduce((sum, each) => sum + each.length, 0))
  let at = 0
  for (const each of parts) {
    out.set(each, at)
    at += each.length
  }
  return out
}

function b64url(raw) {
  let binary = ''
  for (const byte of raw) binary += String.fromCharCode(byte)
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

function unb64url(string) {
  if (!/^[-_A-Za-z0-9]*$/.test(string)) throw malformed(`${string.slice(0, 64)} is not base64url`)
  let raw
  try {
    raw = Uint8Array.from(atob(string.replaceAll('-', '+').replaceAll('_', '/')), (c) =>
      c.charCodeAt(0)
    )
  } catch {
    throw malformed(`${string.slice(0, 64)} is not base64url`)
  }
  if (b64url(raw) !== string) throw malformed(`${string.slice(0, 64)} is not canonical base64url`)
  return raw
}

// For tests against the golden vectors of the protocol.
export const internals = {
  b64url, decode, decodeItem, decodeReceipt, derive, digest, encode, hex, merkleRoot,
  signingMessage, unb64url, verifyItem
}
