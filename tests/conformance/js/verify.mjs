// Asks the JavaScript verifier about real answers, and about the same with one bit flipped.
import fs from 'node:fs'

const asked = JSON.parse(fs.readFileSync(0, 'utf8'))
const { Verifier, VerifyError, agree } = await import(asked.verifier)
const PARTS = ['receipt', 'outcome', 'assignment', 'message']

async function makeVerifier(options) {
  const verifier = new Verifier(options)
  for (const answer of asked.processes) await verifier.knowProcess(answer)
  return verifier
}

async function verdict(work) {
  try {
    return { value: await work() }
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error
    return { reason: error.reason, detail: error.detail }
  }
}

function flipped(text, at) {
  const raw = Buffer.from(text, 'base64url')
  raw[at] ^= 1 << at % 8
  return raw.toString('base64url')
}

// Every answer to every `stride`-th byte of every part being wrong: how many, and which got by.
async function flips(verifier, { answer, about, stride }) {
  const out = { tried: 0, accepted: [], unnamed: 0 }
  for (const part of PARTS) {
    const size = Buffer.from(answer[part], 'base64url').length
    for (let at = 0; at < size; at += stride) {
      const bent = { ...answer, [part]: flipped(answer[part], at) }
      const found = await verdict(() => verifier.check(bent, about))
      out.tried += 1
      if ('value' in found) out.accepted.push(`${part} ${at}`)
      else if (!found.detail.includes(about.message)) out.unnamed += 1
    }
  }
  return out
}

const answers = []
for (const each of asked.cases) {
  const verifier = await makeVerifier({ ...asked.options, ...each.options })
  if (each.stride) answers.push(await flips(verifier, each))
  else answers.push(await verdict(() => verifier.check(each.answer, each.about)))
}
const checked = asked.agree.map((place) => answers[place].value)
const agreement = checked.length ? await verdict(() => agree(checked)) : null
fs.writeSync(1, JSON.stringify({ answers, agreement }))
