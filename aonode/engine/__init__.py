"""WebAssembly evaluation: the only package that knows wasmtime.

Reading order: `config` (how the machine is set up), `wasm_reader`, `code` and `validator` (what a
module is and may be), `patch` (what we change in it), `profile` (the id of all that),
`compile_cache`, `calls` and `instance` (the raw path into wasm), `pages`, `state_root` and
`shadow` (state, its root, going back), `witness` (state as bytes), `session` (one live process),
`small_abi` and `aos` (the two conventions), `wasm` (the Engine port).
"""
