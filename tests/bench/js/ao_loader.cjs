// AO's loader as a compute unit uses it, on request: one line of messages in, one line of results
// and times out. usage: node ao_loader.cjs NODE_MODULES MODULE FORMAT live|copy
//
// live: the module's memory stays where it is (UNSAFE_MEMORY), the loader's best mode.
// copy: every call gets the memory and gives it back, the loader's default.
'use strict'
const fs = require('fs')
const path = require('path')
const readline = require('readline')

const [modules, file, format, mode] = process.argv.slice(2)

// The loader passes plain numbers to 64-bit memories. Since V8 13 they have to be BigInts.
if (Number(process.versions.v8.split('.')[0]) >= 13) {
  const grow = WebAssembly.Memory.prototype.grow
  WebAssembly.Memory.prototype.grow = function (pages) {
    try {
      return grow.call(this, pages)
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      return Number(grow.call(this, BigInt(Math.trunc(pages))))
    }
  }
}
const load = require(path.join(modules, '@permaweb', 'ao-loader'))

const answer = process.stdout.write.bind(process.stdout)
process.exitCode = 1

async function main () {
  const options = { format, UNSAFE_MEMORY: mode === 'live', computeLimit: 9e15, memoryLimit: '1-gb' }
  const handle = await load(fs.readFileSync(file), options)
  let memory = null
  answer('{}\n')
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { env, messages } = JSON.parse(line)
    const results = []
    const ms = []
    for (const message of messages) {
      const start = process.hrtime.bigint()
      const { Memory, ...result } = await handle(mode === 'live' ? null : memory, message, env)
      ms.push(Number(process.hrtime.bigint() - start) / 1e6)
      memory = Memory
      results.push(result)
    }
    answer(JSON.stringify({ ms, results }) + '\n')
  }
  process.exitCode = 0
}

main()
