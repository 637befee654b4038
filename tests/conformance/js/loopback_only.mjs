// Loaded before a foreign client (`node --import`): a connection to any other host is an error.
import dns from 'node:dns'
import net from 'node:net'

const HOST = '127.0.0.1'

function refuse(what) {
  throw new Error(`loopback_only: ${what} is not ${HOST}`)
}

const connect = net.Socket.prototype.connect
net.Socket.prototype.connect = function (...parts) {
  const first = Array.isArray(parts[0]) ? parts[0][0] : parts[0]
  const host = typeof first === 'object' ? first.host : parts[1]
  if (host !== HOST) refuse(JSON.stringify(host ?? first))
  return connect.apply(this, parts)
}
dns.lookup = (name) => refuse(name)
dns.promises.lookup = async (name) => refuse(name)
