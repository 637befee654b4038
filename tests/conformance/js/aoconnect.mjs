// Runs a plan of calls with an unmodified aoconnect: a plan on standard input, what each call
// returned on standard output. `$name` in arguments stands for the value of an earlier step.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import fs from 'node:fs'

import { makeSigner } from './signers.mjs'

const plan = JSON.parse(fs.readFileSync(0, 'utf8'))
const require = createRequire(plan.modules + '/')
const entry = plan.modules + '/@permaweb/aoconnect/dist/index.js'
const aoconnect = await import(pathToFileURL(entry))

const client = aoconnect.connect({
  MODE: 'legacy',
  MU_URL: plan.mu,
  CU_URL: plan.cu,
  GATEWAY_URL: plan.mu,
  GRAPHQL_URL: plan.mu + '/graphql',
  GRAPHQL_MAX_RETRIES: 0
})
const signer = makeSigner(plan.signer, { aoconnect, require })
const SIGNED = new Set(['spawn', 'message', 'monitor', 'unmonitor', 'signMessage'])
const saved = {}

function filled(value) {
  if (typeof value === 'string') return value.startsWith('$') ? saved[value.slice(1)] : value
  if (Array.isArray(value)) return value.map(filled)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, filled(each)]))
}

// All pages of `results`, as a caller walks them: on from the last cursor until a page is short.
async function pages(args) {
  const found = []
  let from
  for (;;) {
    const page = await client.results({ ...args, ...(from ? { from } : {}) })
    found.push(page)
    if (page.edges.length < args.limit) return found
    from = page.edges.at(-1).cursor
  }
}

const answers = []
for (const step of plan.steps) {
  const args = filled('$' in step.args ? step.args['$'] : step.args)
  if (SIGNED.has(step.call)) args.signer = signer
  try {
    const value = await (step.call === 'pages' ? pages(args) : client[step.call](args))
    answers.push({ value })
    if (step.as) saved[step.as] = value
  } catch (error) {
    answers.push({ error: `${error.message}` })
  }
}
fs.writeSync(1, JSON.stringify(answers))
