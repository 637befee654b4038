// Runs the verifier's own code on the golden vectors of the protocol; prints what differs.
import fs from 'node:fs'
import assert from 'node:assert/strict'

const [verifier, folder] = process.argv.slice(2)
const { internals } = await import(verifier)
const { decode, decodeItem, decodeReceipt, derive, digest, encode, hex } = internals
const { b64url, merkleRoot, signingMessage, unb64url, verifyItem } = internals
const load = (name) => JSON.parse(fs.readFileSync(`${folder}/${name}.json`, 'utf8'))
const raw = (text) => Uint8Array.from(Buffer.from(text, 'hex'))
const STATUS = ['OK', 'ERROR', 'TRAP', 'OUT_OF_FUEL', 'BAD_OUTPUT', 'TOO_LARGE']
let checked = 0

function equal(found, wanted, what) {
  assert.deepEqual(found, wanted, what)
  checked += 1
}

const codec = load('codec')
for (const { cbor } of codec.encodings) {
  equal(hex(encode(decode(raw(cbor), 1 << 20))), cbor, `encoding ${cbor}`)
}
for (const { cbor, what, reason } of codec.refused) {
  assert.throws(() => decode(raw(cbor), 1 << 20), { reason }, `refused: ${what}`)
  checked += 1
}
for (const { domain, fields, digest: wanted } of codec.digests) {
  equal(hex(digest(domain, ...fields.map(raw))), wanted, `digest ${domain}`)
}

const outbox = load('outbox')
for (const [kind, format] of [['json', 'JSON-1'], ['cbor', 'ao-cbor-1']]) {
  for (const each of outbox[kind]) {
    const found = derive(format, 0, raw(each.raw), outbox)
    const what = `${kind}: ${each.name}`
    equal(STATUS[found.status], each.status, what)
    equal(found.output, each.output, what)
    equal(found.error, each.error, what)
    equal(hex(merkleRoot('outbox', found.outbox.map(encode))), each.outbox_root, what)
  }
}

const proof = load('proof')
equal(hex(digest('outcome', raw(''), new Uint8Array(32))), proof.empty_outcome, 'empty outcome')
for (const name of ['leaf', 'border_leaf']) {
  const fields = decode(raw(proof[name].bytes), 1 << 10)
  equal(hex(digest('leaf', ...fields)), proof[name].hash, name)
}
for (const name of ['early', 'late']) {
  const receipt = decodeReceipt(raw(proof[name].bytes))
  equal(hex(receipt.signedBytes), proof[name].signed_bytes, name)
}

for (const item of load('ans104').items) {
  const found = await decodeItem(raw(item.raw), 1 << 20)
  equal(found.id, item.id, item.name)
  equal(b64url(found.owner), b64url(unb64url(item.owner)), item.name)
  equal(found.tags, item.tags, item.name)
  equal(hex(found.data), item.data, item.name)
  equal(hex(await signingMessage(found)), item.deep_hash, item.name)
  await verifyItem(found)
}
console.log(checked)
