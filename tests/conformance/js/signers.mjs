// A signer of each kind that aoconnect can be given. Secrets are hex, or a JWK for RSA.
import crypto from 'node:crypto'

const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex')

function ed25519(secret) {
  const key = crypto.createPrivateKey({
    key: Buffer.concat([PKCS8_ED25519, Buffer.from(secret, 'hex')]),
    format: 'der',
    type: 'pkcs8'
  })
  const publicKey = Buffer.from(crypto.createPublicKey(key).export({ format: 'jwk' }).x, 'base64url')
  return { publicKey, sign: (message) => crypto.sign(null, message, key) }
}

const address = (owner) => crypto.createHash('sha256').update(owner).digest('base64url')

const kinds = {
  rsa: (secret, { aoconnect }) => aoconnect.createSigner(secret),
  ed25519: (secret) => {
    const { publicKey, sign } = ed25519(secret)
    return async (create) => {
      const hash = await create({ type: 2, publicKey, alg: 'ed25519' })
      return { signature: sign(hash), address: address(publicKey) }
    }
  },
  solana: (secret) => {
    const { publicKey, sign } = ed25519(secret)
    return async (create) => {
      const hash = await create({ type: 4, publicKey })
      const text = Buffer.from(Buffer.from(hash).toString('hex'))
      return { signature: sign(text), address: address(publicKey) }
    }
  },
  ethereum: (secret, { require }) => {
    const { Wallet } = require('@ethersproject/wallet')
    const wallet = new Wallet(Buffer.from(secret, 'hex'))
    const publicKey = Buffer.from(wallet.publicKey.slice(2), 'hex')
    return async (create) => {
      const hash = await create({ type: 3, publicKey })
      const signature = Buffer.from((await wallet.signMessage(hash)).slice(2), 'hex')
      return { signature, address: wallet.address }
    }
  }
}

export function makeSigner({ kind, secret }, tools) {
  return kinds[kind](secret, tools)
}
